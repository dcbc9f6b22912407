"""Slots for status requests: urgent ones first, owners in turn, and nobody waits for ever."""

from collections import Counter
from random import Random

import pytest

from gateway.jobs.status_slots import StatusSlots, Urgency

DELETION, HELD, NOBODY = Urgency


def taken(slots: StatusSlots[str], most: int) -> list[str]:
    found = []
    while (one := slots.take(most)) is not None:
        found.append(one[1])
    return found


def test_one_owner_alone_has_three_quarters() -> None:
    """Its answers may take ten minutes: another owner finds a slot all the same."""
    slots: StatusSlots[str] = StatusSlots()
    for number in range(4):
        slots.put("a", HELD, f"a{number}")
    assert taken(slots, 4) == ["a0", "a1", "a2"]
    assert repr(slots) == "<StatusSlots taken=3 waiting=1>"
    assert slots.first() == ["a3"]
    slots.put("b", DELETION, "b0")
    assert taken(slots, 4) == ["b0"]
    slots.give_back("a")
    assert taken(slots, 4) == ["a3"]
    slots.give_back("b")
    slots.put("a", HELD, "a4")
    slots.put("a", DELETION, "delete-a")
    assert taken(slots, 4) == ["delete-a"]


@pytest.mark.parametrize(("most", "alone"), [(1, 1), (2, 2), (3, 3), (4, 3), (32, 24)])
def test_few_slots_are_not_kept_for_others(most: int, alone: int) -> None:
    slots: StatusSlots[str] = StatusSlots()
    for number in range(40):
        slots.put("a", HELD, f"a{number}")
    assert len(taken(slots, most)) == alone


def test_who_comes_later_has_each_slot_that_becomes_free_until_both_have_half() -> None:
    slots: StatusSlots[str] = StatusSlots()
    for number in range(10):
        slots.put("a", HELD, f"a{number}")
    taken(slots, 4)
    for number in range(3):
        slots.put("b", HELD, f"b{number}")
    found = []
    for owner in "aaab":
        slots.give_back(owner)
        found += taken(slots, 4)
    assert found == ["b0", "b1", "a3", "a4", "b2"]


def test_deletions_are_first_then_held_ones_and_one_of_four_is_of_the_rest() -> None:
    slots: StatusSlots[str] = StatusSlots()
    for owner in "abc":
        for number in range(3):
            slots.put(owner, NOBODY, f"rest-{owner}{number}")
            slots.put(owner, HELD, f"held-{owner}{number}")
    slots.put("c", DELETION, "delete-c")
    assert taken(slots, 8) == [
        "delete-c", "held-a0", "held-b0", "rest-a0", "held-c0", "held-a1", "held-b1", "rest-b0",
    ]  # fmt: skip


def test_the_deletions_of_two_owners_keep_nobody_else_from_being_asked() -> None:
    """However many waited went first: the ends of a third owner's jobs were not seen meanwhile, held or not."""
    slots: StatusSlots[str] = StatusSlots()
    for number in range(20):
        for owner in "ab":
            slots.put(owner, DELETION, f"{owner}{number}")
    slots.put("c", HELD, "held")
    slots.put("c", NOBODY, "rest")
    found = []
    for _ in range(6):
        one = slots.take(4)
        assert one is not None
        found.append(one[1])
        slots.give_back(one[0])
    assert found == ["a0", "held", "b0", "rest", "a1", "b1"]


def test_what_needed_no_slot_counts_for_nothing() -> None:
    slots: StatusSlots[str] = StatusSlots()
    for number in range(6):
        slots.put("a", HELD, f"void-{number}")
    slots.put("a", HELD, "held")
    slots.put("a", NOBODY, "rest")
    for _ in range(6):
        assert slots.take(1) is not None
        slots.give_back("a", unused=True)
    assert taken(slots, 1) == ["held"]


def test_two_with_half_each_have_all_of_an_odd_number_too() -> None:
    """No slot stays free while anything waits, whatever comes and goes."""
    random = Random(7)  # noqa: S311 -- no secret
    for most in (1, 2, 3, 5, 32):
        slots: StatusSlots[str] = StatusSlots()
        running: list[str] = []
        for step in range(3000):
            owner = random.choice("abcd")
            if random.random() < 0.55:
                slots.put(owner, random.choice(list(Urgency)), f"{owner}{step}")
            elif running:
                slots.give_back(running.pop(random.randrange(len(running))))
            running += [what[0] for what in taken(slots, most)]
            assert slots.taken == len(running) <= most
            assert not slots.first() or len(running) == most
            assert Counter(running).total() == len(running)
