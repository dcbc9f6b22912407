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
