import pytest

from gateway.uploads.pages.count_history import DEAR, LARGE, MAX, CountHistory


def test_a_cost_is_forgotten_by_a_second_a_minute() -> None:
    history = CountHistory()
    assert history.total("eve", 0.0) == 0.0
    history.add("eve", 2.0, 0.0)
    assert [history.total("eve", at) for at in (0.0, 60.0, 120.0, 500.0)] == pytest.approx([2.0, 1.0, 0.0, 0.0])
    history.add("eve", 3.0, 60.0)
    assert history.total("eve", 60.0) == pytest.approx(4.0)


def test_what_is_dear_is_said_by_an_accounts_documents_and_of_its_first_one_by_its_size() -> None:
    history = CountHistory()
    assert (history.is_dear("eve", LARGE), history.is_dear("eve", LARGE + 1)) == (False, True)
    history.add("eve", 2.7, 0.0)
    assert history.is_dear("eve", 1)
    cheap = 0
    while history.is_dear("eve", 1):
        history.add("eve", 0.001, 0.0)
        cheap += 1
    assert 5 < cheap < 15
    history.add("eve", DEAR, 0.0)
    assert not history.is_dear("eve", 100 * LARGE)


def test_accounts_are_bounded() -> None:
    history = CountHistory()
    for number in range(MAX + 5):
        history.add(str(number), 1.0, 0.0)
    assert len(history) == MAX
    assert (history.total("4", 0.0), history.total("5", 0.0)) == (0.0, 1.0)
