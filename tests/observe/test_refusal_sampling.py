"""A stranger has some lines of the log a second, and one for all the rest."""

from gateway.observe.refusal_sampling import AT_ONCE, EVERY, MAX, OF_ALL, OF_ONE, OTHERS, RefusalSampling, Sum


def test_an_address_has_some_events_and_the_rest_are_one() -> None:
    strangers = RefusalSampling()
    told = [strangers.may_log("192.0.2.1", "unauthenticated", 100.0) for _ in range(1000)]
    assert told.count(True) == OF_ONE.burst
    assert strangers.may_log("192.0.2.2", "route_not_found", 100.0)
    assert not strangers.may_log("192.0.2.1", "route_not_found", 100.0)
    assert list(strangers.due(100.0)) == [Sum("192.0.2.1", 981, {"unauthenticated": 980, "route_not_found": 1})]
    assert strangers.may_log("192.0.2.1", "unauthenticated", 101.0)
    assert list(strangers.due(100.0 + 2 * EVERY)) == []


def test_sums_are_told_every_so_often_and_at_the_end() -> None:
    strangers = RefusalSampling()
    assert list(strangers.due(100.0)) == []
    for _ in range(30):
        strangers.may_log("a", "unauthenticated", 101.0)
    assert list(strangers.due(100.0 + EVERY - 0.1)) == []
    assert list(strangers.all()) == [Sum("a", 10, {"unauthenticated": 10})]
    assert list(strangers.all()) == []


def test_very_many_addresses_have_a_bound_together() -> None:
    strangers = RefusalSampling()
    told = [strangers.may_log(str(number), "unauthenticated", 50.0) for number in range(5000)]
    assert told.count(True) == OF_ALL.burst
    sums = list(strangers.all())
    assert len(sums) == 1001
    assert sums[-1] == Sum(OTHERS, 3600, {"unauthenticated": 3600})
    assert repr(strangers) == f"<RefusalSampling addresses={told.count(True)} sums=0>"


def test_of_very_many_addresses_some_are_forgotten() -> None:
    strangers = RefusalSampling()
    for number in range(MAX + 5):
        assert strangers.may_log(str(number), "unauthenticated", 50.0 + number)
    assert repr(strangers) == f"<RefusalSampling addresses={MAX} sums=0>"


def test_the_sums_of_many_are_told_a_few_at_a_time() -> None:
    """Those of a thousand addresses took the loop up to 70 ms at once."""
    strangers = RefusalSampling()
    for number in range(1500):
        strangers.may_log(str(number), "unauthenticated", 50.0)
    told = [len(list(strangers.due(100.0 + number / 2))) for number in range(20)]
    assert max(told) == AT_ONCE
    assert sum(told) == MAX + 1
    strangers.may_log("late", "unauthenticated", 50.0)
    rest = [found.client for found in strangers.all()]
    assert rest == ["late"]


def test_what_is_still_due_is_told_at_the_end() -> None:
    strangers = RefusalSampling()
    for number in range(int(OF_ALL.burst) + 100):
        strangers.may_log(str(number), "unauthenticated", 50.0)
    first = list(strangers.due(100.0))
    assert len(first) + len(list(strangers.all())) == 100
