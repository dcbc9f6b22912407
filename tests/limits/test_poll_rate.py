from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.buckets import per_minute, take, wait_for
from gateway.limits.poll_rate import PollRate


def test_a_burst_is_there_and_then_there_is_a_wait() -> None:
    rate = PollRate()
    assert [rate.take("a", 50.0, 60) for _ in range(60)] == [None] * 60
    assert rate.take("a", 50.0, 60) == 1
    assert rate.take("b", 50.0, 60) is None
    assert rate.take("a", 51.0, 60) is None
    assert rate.take("a", 51.0, 60) == 1


def test_refused_requests_do_not_lengthen_the_wait() -> None:
    rate = PollRate()
    for _ in range(200):
        rate.take("a", 50.0, 60)
    assert rate.take("a", 50.0, 60) == 1


def test_who_asked_longest_ago_is_forgotten() -> None:
    rate = PollRate(most=2)
    for account in ("a", "b", "a", "c"):
        assert rate.take(account, 50.0, 2) is None
    assert rate.take("b", 50.0, 2) is None
    assert len(rate) == 2
    assert rate.take("c", 50.0, 2) is None
    assert rate.take("c", 50.0, 2) == 30


@given(st.integers(1, 100_000), st.lists(st.sampled_from([0.0, 1e-6, 0.0013, 0.5, 1.0, 59.9, 61.0]), max_size=200))
def test_it_counts_as_the_buckets_do(polls_per_minute: int, pauses: list[float]) -> None:
    """It judges most requests by itself, and they may not differ by a request."""
    rate, bucket = PollRate(), per_minute(polls_per_minute)
    now = tat = 1000.0
    for pause in pauses:
        now += pause
        wait = wait_for(tat, now, 1, bucket)
        tat = tat if wait else take(tat, now, 1, bucket)
        assert (rate.take("a", now, polls_per_minute) is None) is (not wait)
