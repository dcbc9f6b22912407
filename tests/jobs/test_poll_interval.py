"""How often a job's status is requested."""

import pytest

from gateway.jobs.poll_interval import after_unread, interval


def test_what_cannot_be_read_is_asked_ever_more_seldom() -> None:
    assert [after_unread(unread, held=False) for unread in (0, 1, 2, 9, 10, 10**9)] == [0, 2, 4, 512, 900, 900]
    assert [after_unread(unread, held=True) for unread in (0, 1, 2, 10**9)] == [0, 0.2, 0.4, 900]


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(-5, 1), (0, 1), (1, 1), (19.9, 1), (20, 1), (21, 1.05), (100, 5), (600, 30), (601, 30), (1e9, 30)],
)
def test_the_older_the_less_often_is_it_asked_about(age: float, seconds: float) -> None:
    assert interval(age, held=False) == pytest.approx(seconds)
    assert interval(age, held=True) == 0.1


@pytest.mark.parametrize(
    ("followed", "seconds", "held"),
    [(0, 1, 0.1), (100, 1, 0.1), (200, 1, 0.2), (1000, 5, 1), (100_000, 500, 100)],
)
def test_of_many_each_is_asked_about_less_often(followed: int, seconds: float, held: float) -> None:
    assert interval(0, held=False, followed=followed) == pytest.approx(seconds)
    assert interval(1e9, held=False, followed=followed) == pytest.approx(max(30, seconds))
    assert interval(0, held=True, followed=followed) == pytest.approx(held)
