from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.unverified_bodies import Stay, UnverifiedBodies
from gateway.errors import Refused
from gateway.model.reasons import Reason
from tests.support.pure import PROPERTY, denial_of

KB = 1024


class Place:
    """A budget, and the bodies that had to give way."""

    def __init__(self, most: int = 8 * KB) -> None:
        self.most = most
        self.unverified = UnverifiedBodies(lambda: self.most)
        self.gone: list[Stay] = []

    def enter(self, address: str) -> Stay:
        def give_way(refused: Refused) -> None:
            assert refused.denial.reason is Reason.NO_ROOM
            self.gone.append(stay)
            self.unverified.leave(stay)  # as whoever holds it does on every path

        stay = self.unverified.enter(ip_address(address), give_way)
        return stay

    def held(self, address: str, size: int) -> Stay:
        stay = self.enter(address)
        self.unverified.take(stay, size)
        return stay


def test_an_address_has_a_quarter_and_what_ended_is_free_again() -> None:
    place = Place()
    first, second = place.held("192.0.2.1", KB), place.held("192.0.2.1", KB)
    denial = denial_of(place.unverified.take, second, 1)
    assert (denial.reason, denial.retry_after) == (Reason.NO_ROOM, 5)
    place.held("192.0.2.2", 2 * KB)
    place.unverified.leave(first)
    place.unverified.leave(first)
    place.unverified.take(second, KB)
    assert (place.unverified.used, place.gone) == (4 * KB, [])


def test_all_of_a_64_are_one_address() -> None:
    place = Place()
    place.held("2001:db8::1", 2 * KB)
    assert denial_of(place.held, "2001:db8::2", 1).reason is Reason.NO_ROOM
    place.held("2001:db8:0:1::1", 1)


def test_when_all_is_used_who_holds_most_gives_way_to_who_holds_less() -> None:
    place = Place()
    small = place.held("192.0.2.1", KB)
    large = [place.held(f"192.0.2.{n}", 2 * KB - n) for n in range(2, 6)]
    honest = place.enter("198.51.100.1")
    place.unverified.take(honest, KB // 2)
    assert place.gone == [large[0]]
    assert place.unverified.used <= place.most
    assert denial_of(place.unverified.take, large[0], 1).reason is Reason.NO_ROOM
    assert small.size == KB


def test_who_would_hold_as_much_as_anyone_is_refused_himself() -> None:
    place = Place()
    stays = [place.held(f"192.0.2.{n}", 2 * KB) for n in range(1, 5)]
    late = place.held("192.0.2.9", KB)
    assert place.gone == stays[:1]
    place.held("192.0.2.1", KB)
    assert denial_of(place.unverified.take, late, KB).reason is Reason.NO_ROOM
    assert place.gone == stays[:1]


def test_a_budget_that_was_made_smaller_holds_for_what_comes() -> None:
    place = Place()
    stays = [place.held(f"192.0.2.{n}", 2 * KB) for n in range(1, 4)]
    place.most = 4 * KB
    place.held("192.0.2.9", KB)
    assert len(place.gone) == 2
    assert place.unverified.used == 3 * KB
    assert {stay.size for stay in stays} == {0, 2 * KB}


@PROPERTY
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3 * KB), st.booleans()), max_size=60))
def test_the_budget_is_never_passed_and_nothing_is_forgotten(steps: list[tuple[int, int, bool]]) -> None:
    place, stays = Place(), list[Stay]()
    for number, size, leaves in steps:
        stay = place.enter(f"192.0.2.{number}")
        stays.append(stay)
        try:
            place.unverified.take(stay, size)
        except Refused:
            place.unverified.leave(stay)
        if leaves:
            place.unverified.leave(stays.pop(0))
        assert place.unverified.used == sum(one.size for one in stays) <= place.most
    for stay in stays:
        place.unverified.leave(stay)
    assert repr(place.unverified) == "<UnverifiedBodies used=0 addresses=0>"
