"""Sums for the log: the first at once, the rest of a minute together, each upstream for itself."""

from gateway.jobs.minute_sums import MinuteSums


def test_the_first_is_told_at_once_and_the_rest_of_a_minute_as_one() -> None:
    sums = MinuteSums()
    assert sums.due(0.0) == []
    sums.add("x", 405)
    assert sums.due(1.0) == [("x", 1, 405)]
    for status in (500, 0, 503):
        sums.add("x", status)
    assert sums.due(60.9) == []
    assert repr(sums) == "<MinuteSums upstreams=1>"
    assert sums.due(61.0) == [("x", 3, 503)]
    assert sums.due(200.0) == []
    sums.add("x")
    assert sums.due(200.0) == [("x", 1, 0)]
    assert repr(sums) == "<MinuteSums upstreams=0>"


def test_each_upstream_is_told_for_itself() -> None:
    sums = MinuteSums()
    sums.add("x")
    assert sums.due(0.0) == [("x", 1, 0)]
    sums.add("x")
    sums.add("y")
    assert sums.due(1.0) == [("y", 1, 0)]
