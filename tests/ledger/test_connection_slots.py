"""Slots of the connection pool: who gets one, in which order, and that none is lost whoever leaves when."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.ledger.connection_slots import ConnectionSlots


class Visits:
    """Who has a slot, in the order of their coming in. Each stays until it is told to leave.

    The owner of "a-1" is "a".
    """

    def __init__(self, count: int) -> None:
        self.slots = ConnectionSlots(count)
        self.inside: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}

    async def come(self, *names: str) -> None:
        loop = asyncio.get_running_loop()
        for name in names:
            self._ends[name] = loop.create_future()
            self._tasks[name] = loop.create_task(self._visit(name))
        await settled()

    async def _visit(self, name: str) -> None:
        async with self.slots.one(name.partition("-")[0]):
            self.inside.append(name)
            try:
                await self._ends[name]
            finally:
                self.inside.remove(name)

    async def leave(self, *names: str) -> None:
        for name in names:
            self._ends[name].set_result(None)
        await settled()

    async def fail(self, name: str) -> None:
        self._ends[name].set_exception(ConnectionError("as it was told"))
        await settled()
        assert isinstance(self._tasks[name].exception(), ConnectionError)

    def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()

    async def close(self) -> None:
        """Cancels who is left; all slots are free again then."""
        self.cancel(*self._tasks)
        await asyncio.wait(self._tasks.values(), timeout=30)
        assert self.inside == []


async def settled() -> None:
    for _ in range(9):
        await asyncio.sleep(0)


@pytest.fixture
async def make() -> AsyncIterator[Callable[[int], Visits]]:
    """Makes slots, all of which must be free once everybody is gone."""
    made: list[tuple[Visits, int]] = []

    def begin(count: int) -> Visits:
        made.append((Visits(count), count))
        return made[-1][0]

    yield begin
    for visits, count in made:
        await visits.close()
        assert repr(visits.slots) == f"<ConnectionSlots free={count} waiting=0>"


Make = Callable[[int], Visits]


async def test_there_are_so_many_slots_and_the_next_one_waits(make: Make) -> None:
    visits = make(3)
    await visits.come("a", "b", "c", "d")
    assert visits.inside == ["a", "b", "c"]
    assert repr(visits.slots) == "<ConnectionSlots free=0 waiting=1>"
    await visits.leave("b")
    assert visits.inside == ["a", "c", "d"]
    await visits.leave("a", "c", "d")
    assert repr(visits.slots) == "<ConnectionSlots free=3 waiting=0>"


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
async def test_an_owner_gets_half_of_them_at_the_most_and_one_at_least(make: Make, count: int, most: int) -> None:
    visits = make(count)
    await visits.come(*(f"loud-{number}" for number in range(count + 1)))
    assert visits.inside == [f"loud-{number}" for number in range(most)]
    await visits.come("quiet")
    assert ("quiet" in visits.inside) == (count > 1)
    await visits.leave("loud-0")
    assert f"loud-{most}" in visits.inside or count == 1


async def test_owners_are_served_in_turn_each_in_its_order(make: Make) -> None:
    visits, order = make(1), list[str]()
    await visits.come("first", "a-1", "a-2", "a-3", "b-1", "b-2", "c-1")
    while visits.inside:
        order += visits.inside
        await visits.leave(*visits.inside)
    assert order == ["first", "a-1", "b-1", "c-1", "a-2", "b-2", "a-3"]


async def test_what_fails_gives_its_slot_to_the_next(make: Make) -> None:
    visits = make(1)
    await visits.come("a", "b")
    await visits.fail("a")
    assert visits.inside == ["b"]


async def test_what_is_cancelled_gives_its_slot_to_the_next(make: Make) -> None:
    visits = make(1)
    await visits.come("a", "b")
    visits.cancel("a")
    await settled()
    assert visits.inside == ["b"]


async def test_who_leaves_while_it_waits_takes_neither_a_slot_nor_a_part_of_its_owners_share(make: Make) -> None:
    visits = make(2)
    await visits.come("a-1", "a-2", "a-3", "a-4")
    visits.cancel("a-2", "a-3")
    await settled()
    assert repr(visits.slots) == "<ConnectionSlots free=1 waiting=3>"
    await visits.leave("a-1")
    assert visits.inside == ["a-4"]
    await visits.leave("a-4")
    assert repr(visits.slots) == "<ConnectionSlots free=2 waiting=0>"


async def test_a_slot_that_was_given_to_who_left_is_the_next_ones(make: Make) -> None:
    """It gets its slot and is cancelled before it hears of it."""
    visits = make(1)
    await visits.come("a", "b", "c")
    visits.cancel("a")
    await asyncio.sleep(0)  # the slot is b's, which does not know it yet
    visits.cancel("b")
    await settled()
    assert visits.inside == ["c"]
