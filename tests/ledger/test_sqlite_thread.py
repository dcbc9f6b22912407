"""sqlite_thread.py on a file of its own: who is served, when, and who no longer is."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock
from threading import enumerate as threads
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from gateway.errors import LedgerUnavailable, OwnerWaited
from gateway.ledger.migrate import DEFAULT_UPKEEP
from gateway.ledger.sqlite_file import SqliteFile
from gateway.ledger.sqlite_thread import LedgerCall, LedgerThread
from tests.support.ledgers import beat, beats

LONG: Final = 60.0
OWNER: Final = "key:ci"


class Held:
    """A transaction that lasts until it is let go."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = Event(), Event()

    def __call__(self, connection: Connection) -> int:
        self.has_begun.set()
        assert self.may_end.wait(LONG)
        return beat(connection)


@pytest.fixture
def thread(tmp_path: Path) -> Iterator[LedgerThread]:
    made = LedgerThread(SqliteFile(tmp_path / "ledger.db", LONG, Lock(), DEFAULT_UPKEEP, writes=True))
    yield made
    made.stop(LONG)


def call_of(work: Callable[[Connection], Any], *, turn: float = LONG, of: str = OWNER) -> LedgerCall:
    """A call whose turn has to come within so many seconds."""
    done = asyncio.get_running_loop().create_future()
    return LedgerCall(work, done, of, time.monotonic() + turn, LONG, durable=False)


async def began(held: Held) -> None:
    assert await asyncio.to_thread(held.has_begun.wait, LONG)


async def test_each_is_done_in_its_turn_and_told_on_its_loop(thread: LedgerThread) -> None:
    calls = [call_of(beat) for _ in range(5)]
    for call in calls:
        thread.put(call)
    assert await asyncio.gather(*(call.done for call in calls)) == [1, 2, 3, 4, 5]
    assert thread.waiting == 0


async def test_what_was_given_up_before_its_turn_is_never_begun(thread: LedgerThread) -> None:
    held, ran = Held(), list[Connection]()
    first, second, third = call_of(held), call_of(ran.append), call_of(beats)
    for call in (first, second, third):
        thread.put(call)
    await began(held)
    assert thread.waiting == 2
    second.give_up()
    held.may_end.set()
    assert (await first.done, await third.done) == (1, 1)
    assert (second.done.cancelled(), ran) == (True, [])


async def test_what_was_given_up_while_it_ran_is_rolled_back(thread: LedgerThread) -> None:
    held = Held()
    first, second = call_of(held), call_of(beats)
    thread.put(first)
    await began(held)
    first.give_up()
    held.may_end.set()
    thread.put(second)
    assert await second.done == 0


@pytest.mark.parametrize(("of", "fault"), [(OWNER, OwnerWaited), ("", LedgerUnavailable)])
async def test_whose_turn_comes_too_late_is_not_done(of: str, fault: type, thread: LedgerThread) -> None:
    late, after = call_of(beat, turn=-1.0, of=of), call_of(beats)
    thread.put(late)
    thread.put(after)
    with pytest.raises(LedgerUnavailable, match="no turn within") as told:
        await late.done
    assert type(told.value) is fault
    assert await after.done == 0


async def test_who_watches_gives_up_on_his_turn_and_then_on_the_transaction(thread: LedgerThread) -> None:
    held = Held()
    first, second = call_of(held), call_of(beat, turn=0.05)
    thread.put(first)
    await began(held)
    thread.put(second)
    first.seconds = 0.05
    for call, words in ((second, "no turn within"), (first, "no answer within")):
        call.watch()
        with pytest.raises(LedgerUnavailable, match=words):
            await call.done
        call.give_up()
    held.may_end.set()


async def test_a_fault_is_told_and_the_next_one_is_served(thread: LedgerThread) -> None:
    def fails(connection: Connection) -> None:
        beat(connection)
        raise OSError(28, "No space left on device")

    first, second = call_of(fails), call_of(beat)
    thread.put(first)
    thread.put(second)
    with pytest.raises(LedgerUnavailable, match="its file: No space left on device"):
        await first.done
    assert await second.done == 1


async def test_it_ends_after_what_was_queued(thread: LedgerThread) -> None:
    held = Held()
    calls = [call_of(held), call_of(beat), call_of(beat)]
    for call in calls:
        thread.put(call)
    await began(held)
    assert "ledger-writer" in [each.name for each in threads()]
    thread.stop(0.01)  # it waits no longer
    held.may_end.set()
    assert await asyncio.gather(*(call.done for call in calls)) == [1, 2, 3]
