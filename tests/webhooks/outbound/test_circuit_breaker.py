"""The circuit breaker: which destinations are paused, for how long, and how many it remembers."""

from gateway.webhooks.outbound.circuit_breaker import Breaker

A, B = ("a:443", "key:ci"), ("a:443", "key:other")


def fail(breaker: Breaker, now: float, times: int = 5, destination: tuple[str, str] = A) -> float | None:
    return [breaker.record_failure(destination, now) for _ in range(times)][-1]


def test_a_destination_that_keeps_failing_is_paused_then_probed_by_one() -> None:
    breaker = Breaker()
    assert fail(breaker, 0.0, 4) is None
    assert breaker.rooms(0.0) == {}
    assert breaker.record_failure(A, 0.0) == 30
    assert breaker.rooms(29.9) == {A: 0}
    assert breaker.rooms(30.0) == {A: 1}
    assert breaker.record_failure(A, 29.0) is None  # it had begun before the pause
    pauses = []
    now = 30.0
    for _ in range(6):
        pause = breaker.record_failure(A, now)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [60, 120, 240, 300, 300, 300]


def test_one_answer_opens_it_again() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    assert breaker.record_success(A) is True
    assert breaker.rooms(100.0) == {}
    assert fail(breaker, 100.0, 4) is None
    assert breaker.record_success(A) is False
    assert breaker.record_success(B) is False


def test_it_remembers_the_latest_thousand() -> None:
    breaker = Breaker()
    for number in range(1001):
        fail(breaker, 0.0, destination=(f"h{number}:443", f"key:{number}"))
    assert len(breaker.rooms(0.0)) == 1000
    assert ("h0:443", "key:0") not in breaker.rooms(0.0)


def test_the_one_that_failed_longest_ago_is_forgotten_and_not_the_one_that_began_to_fail_first() -> None:
    breaker = Breaker()
    destinations = [(f"h{number}:443", f"key:{number}") for number in range(1001)]
    for destination in destinations[:1000]:
        fail(breaker, 0.0, destination=destination)
    fail(breaker, 30.0, 1, destinations[0])
    fail(breaker, 30.0, 5, destinations[1000])
    assert [known in breaker.rooms(30.0) for known in destinations[:2]] == [True, False]


def test_it_remembers_the_latest_hundred_of_an_owner() -> None:
    """One host has 65,535 ports: a thousand of one key held up the webhooks of all."""
    breaker = Breaker()
    fail(breaker, 0.0, destination=B)
    for number in range(101):
        fail(breaker, 0.0, destination=(f"a:{number}", "key:ci"))
    rooms = breaker.rooms(0.0)
    assert (len(rooms), B in rooms, ("a:0", "key:ci") in rooms) == (101, True, False)


def test_what_nothing_was_sent_to_for_long_after_its_pause_is_forgotten() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    fail(breaker, 0.0, 4, destination=B)
    breaker.forget_old(4529.9)
    assert breaker.rooms(4529.9) == {A: 1}
    breaker.forget_old(4530.0)
    assert breaker.rooms(4530.0) == {}
    assert fail(breaker, 4531.0, 4) is None  # counted anew
    assert fail(breaker, 4531.0, 1, destination=B) == 30
