import pytest

from gateway.uploads.pages.count_history import DEAR, LARGE, MAX, CountHistory, Outlook


def costs(history: CountHistory, account: str, now: float) -> int:
    return history.outlook(account, 1, now).rank[0]


def expects(history: CountHistory, size: int, now: float = 0.0) -> Outlook:
    return history.outlook("eve", size, now)


def test_a_cost_is_forgotten_by_a_second_a_minute() -> None:
    history = CountHistory()
    assert costs(history, "eve", 0.0) == 0
    history.add("eve", 2.1, 0.0)
    assert [costs(history, "eve", at) for at in (0.0, 60.0, 120.0, 500.0)] == [8, 4, 0, 0]
    history.add("eve", 3.0, 60.0)
    assert costs(history, "eve", 60.0) == 16


def test_a_first_document_is_dear_when_it_is_large_and_comes_after_those_of_others() -> None:
    history = CountHistory()
    assert (expects(history, LARGE).is_dear, expects(history, LARGE + 1).is_dear) == (False, True)
    history.add("bob", 0.001, 0.0, 500)
    assert history.outlook("bob", 500, 0.0).rank < expects(history, 500).rank < expects(history, 2 * LARGE).rank


def test_a_long_document_counts_for_ten_minutes_whatever_comes_after_it() -> None:
    history = CountHistory()
    history.add("eve", DEAR + 0.04, 0.0, 7000)
    for at in range(1, 600):
        history.add("eve", 0.001, float(at), 7000)
    known = CountHistory()
    known.add("eve", 0.001, 0.0, 7000)
    assert expects(history, 7000, 599.9).is_dear
    assert expects(history, 7000, 599.9).rank > expects(known, 7000, 599.9).rank
    assert expects(history, 7000, 600.1) == expects(known, 7000, 600.1) == Outlook()


@pytest.mark.parametrize("seconds", [0.1, DEAR])
def test_one_that_is_not_dear_comes_after_shorter_ones(seconds: float) -> None:
    history = CountHistory()
    history.add("eve", seconds, 0.0, 7000)
    assert expects(history, 7000, 60.0) == Outlook(rank=(0, round(seconds / 0.05), 0))
    assert expects(history, 2 * LARGE, 60.0).is_dear


def test_short_documents_show_that_twice_as_large_ones_are_short() -> None:
    history = CountHistory()
    history.add("eve", 0.001, 0.0, 3 * LARGE)
    assert [expects(history, size * LARGE).is_dear for size in (1, 6, 7)] == [False, False, True]
    history.add("eve", 0.001, 0.0, LARGE)
    assert not expects(history, 6 * LARGE).is_dear
    history.add("eve", 2.4, 0.0, 6 * LARGE)
    history.add("eve", 0.001, 1000.0, LARGE)
    assert [expects(history, size * LARGE, 1000.0).is_dear for size in (2, 3)] == [False, True]


def test_what_was_not_counted_shows_nothing() -> None:
    history = CountHistory()
    history.add("eve", 0.001, 0.0)
    assert expects(history, 2 * LARGE).is_dear
    assert expects(history, 1).rank == (0, 1, 0)


def test_accounts_are_bounded() -> None:
    history = CountHistory()
    for number in range(MAX + 5):
        history.add(str(number), 1.0, 0.0)
    assert len(history) == MAX
    assert (costs(history, "4", 0.0), costs(history, "5", 0.0)) == (0, 4)
