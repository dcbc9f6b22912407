"""Owners of whom a look-up took long of late."""

import pytest

from gateway.webhooks.egress.slow_owners import LONG, REMEMBERED, SlowOwners


def test_who_is_slow_is_so_for_a_while() -> None:
    slow = SlowOwners()
    slow.note("key:quick", LONG / 2, 0.0)
    slow.note("key:slow", LONG, 0.0)
    slow.note("key:slow", LONG / 2, 1.0)  # which says nothing of the next one
    held = [
        slow.holds(owner, now) for owner in ("key:quick", "key:slow") for now in (0.0, REMEMBERED - 1, REMEMBERED)
    ]
    assert held == [False, False, False, True, True, False]


def test_of_very_many_the_latest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.slow_owners.MAX", 2)
    slow = SlowOwners()
    for owner in ("key:a", "key:b", "key:a", "key:c"):
        slow.note(owner, LONG, 0.0)
    assert len(slow) == 2
    assert [slow.holds(owner, 1.0) for owner in ("key:a", "key:b", "key:c")] == [True, False, True]
