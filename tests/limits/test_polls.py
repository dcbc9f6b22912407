from gateway.limits.polls import Polls


def test_a_burst_is_there_and_then_there_is_a_wait() -> None:
    polls = Polls()
    assert [polls.take("a", 50.0, 60) for _ in range(60)] == [None] * 60
    assert polls.take("a", 50.0, 60) == 1
    assert polls.take("b", 50.0, 60) is None
    assert polls.take("a", 51.0, 60) is None
    assert polls.take("a", 51.0, 60) == 1


def test_refused_polls_do_not_lengthen_the_wait() -> None:
    polls = Polls()
    for _ in range(200):
        polls.take("a", 50.0, 60)
    assert polls.take("a", 50.0, 60) == 1


def test_who_asked_longest_ago_is_forgotten() -> None:
    polls = Polls(most=2)
    for account in ("a", "b", "a", "c"):
        assert polls.take(account, 50.0, 2) is None
    assert polls.take("b", 50.0, 2) is None
    assert len(polls) == 2
    assert polls.take("c", 50.0, 2) is None
    assert polls.take("c", 50.0, 2) == 30
