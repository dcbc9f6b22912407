"""Slots for deletions: each upstream has its own; new deletions go first, but failed ones come to an end, too."""

from collections import Counter
from typing import NamedTuple

import pytest

from gateway.jobs.deletion_slots import TOGETHER, DeletionSlots


class Deletion(NamedTuple):
    upstream: str
    is_repeated: bool


def due(upstream: str, first: int, repeated: int) -> list[Deletion]:
    return [Deletion(upstream, is_repeated=False)] * first + [Deletion(upstream, is_repeated=True)] * repeated


def test_each_upstream_has_slots_of_its_own() -> None:
    slots = DeletionSlots()
    for _ in range(4):
        slots.take("x")
    slots.take("y")
    assert slots.free(["x", "y", "z"], 4) == {"y": 3, "z": 4}
    slots.give_back("x", is_deleted=True)
    assert slots.free(["x"], 4) == {"x": 1}
    assert slots.free(["x"], 2) == {}  # a reload may lower it
    assert repr(slots) == "<DeletionSlots taken=4 failing=0>"


def test_what_is_due_elsewhere_takes_no_slot() -> None:
    chosen = DeletionSlots().choose(due("x", 9, 9) + due("y", 1, 1), {"x": 2, "y": 2})
    assert Counter(one.upstream for one in chosen) == {"x": 2, "y": 2}
    assert DeletionSlots().choose(due("x", 1, 1), {"y": 2}) == []


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 32])
def test_of_four_slots_one_goes_to_what_failed_before(most: int) -> None:
    slots = DeletionSlots()
    chosen = [one for _ in range(40) for one in slots.choose(due("x", most, most), {"x": most})]
    assert len(chosen) == 40 * most
    assert sum(one.is_repeated for one in chosen) == 10 * most


@pytest.mark.parametrize(
    ("first", "repeated", "expected"),
    [(9, 0, (4, 0)), (0, 9, (0, 4)), (1, 9, (1, 3)), (9, 1, (3, 1)), (2, 1, (2, 1)), (0, 0, (0, 0))],
)
def test_what_one_kind_does_not_need_the_other_gets(first: int, repeated: int, expected: tuple[int, int]) -> None:
    chosen = DeletionSlots().choose(due("x", first, repeated), {"x": 4})
    found = sum(not one.is_repeated for one in chosen), sum(one.is_repeated for one in chosen)
    assert found == expected


def test_one_that_fails_is_asked_once_a_turn_until_it_has_deleted_one() -> None:
    slots = DeletionSlots()
    assert slots.may_go_on({"x": 4}, {"x": 4, "y": 4})  # it is not known yet
    slots.take("x")
    slots.give_back("x", is_deleted=False)
    assert slots.free(["x", "y"], 4) == {"y": 4}
    slots.begin_turn()
    assert slots.free(["x", "y"], 4) == {"x": 4, "y": 4}
    assert not slots.may_go_on({"x": 4, "y": 3}, {"x": 4, "y": 4})
    assert slots.may_go_on({"x": 4, "y": 4}, {"x": 4, "y": 4})
    assert slots.free(["x", "y"], 4) == {"y": 4}
    slots.take("x")
    slots.give_back("x", is_deleted=True)
    slots.begin_turn()
    assert slots.may_go_on({"x": 4}, {"x": 4})


def test_one_that_rests_gets_no_more_in_this_turn() -> None:
    slots = DeletionSlots()
    slots.rest("x")
    assert not slots.may_go_on({"x": 4}, {"x": 4})
    assert slots.free(["x"], 4) == {}
    slots.begin_turn()
    assert slots.free(["x"], 4) == {"x": 4}


def test_of_many_upstreams_a_few_are_looked_at_together_and_none_starves() -> None:
    slots, names = DeletionSlots(), [f"u{number}" for number in range(3 * TOGETHER + 1)]
    for _ in range(3):
        slots.begin_turn()
        looked_at: Counter[str] = Counter()
        for look in range(4):
            free = slots.free(names, 4)
            assert len(free) <= TOGETHER
            looked_at.update(free)
            assert slots.may_go_on({}, free) is (look < 3)  # nothing is due anywhere: all were looked at
        assert set(looked_at) == set(names)
    slots.begin_turn()
    seen = Counter(name for _ in range(len(names)) for name in slots.free(names, 4))
    assert set(seen.values()) == {TOGETHER}
    slots.begin_turn()
    assert not slots.may_go_on({}, slots.free(names[:TOGETHER], 4))
