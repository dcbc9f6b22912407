import pytest

from gateway.uploads.pages.cpu_budget import MAX, CpuBudgets


def test_what_was_used_is_forgiven_within_a_minute() -> None:
    spending = CpuBudgets(10.0)
    assert (spending.of("a", 5.0), spending.wait("a", 5.0)) == (0.0, 0.0)
    spending.add("a", 4.0, 100.0)
    spending.add("a", 8.0, 100.0)
    assert spending.wait("a", 100.0) == pytest.approx(12.0)
    assert spending.wait("b", 100.0) == 0.0
    assert spending.wait("a", 112.0) == pytest.approx(0.0)
    assert spending.of("a", 130.0) == pytest.approx(7.0)
    assert spending.of("a", 500.0) == 0.0


def test_of_very_many_accounts_some_are_forgotten() -> None:
    spending = CpuBudgets(10.0)
    for number in range(MAX + 5):
        spending.add(f"key:{number}", 1.0, 0.0)
    assert len(spending) == MAX
    assert spending.of("key:0", 0.0) == 0.0
