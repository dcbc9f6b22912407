"""What is done each second: one fault of it must not end the rest."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog

from gateway.errors import LedgerUnavailable
from gateway.jobs.housekeeping import Housekeeping
from gateway.ledger.schema import JobState
from gateway.ledger.watchers import has_others
from tests.jobs.conftest import MakeRoom
from tests.support.room import OWNER, Container, Room, ended
from tests.support.waiting import eventually


async def test_each_has_its_turn(make_room: MakeRoom, container: Container) -> None:
    dead, room = make_room(me="dead"), make_room(me="room")
    await dead.begin_job()
    dead.watcher.close()
    for turn in range(5):
        await room.housekeeping.hear()
        await room.housekeeping.beat(turn)
        await room.housekeeping.turn(turn)
    assert room.housekeeping.counts == {"running": 1, "complete": 0, "failed": 0}
    container.says["job"] = ended()
    await room.turn(1.0)
    assert await room.state_of() == JobState.COMPLETE
    assert room.housekeeping.counts["complete"] == 0
    await room.housekeeping.turn(10)
    assert room.housekeeping.counts == {"running": 0, "complete": 1, "failed": 0}
    room.seconds += 3601.0
    await room.housekeeping.turn(11)
    assert await room.state_of() == JobState.GONE
    await room.reserved("lost")
    for turn in range(12, 60):
        await room.housekeeping.turn(turn)
    assert (await room.registry.owned("default", "lost", OWNER)).is_followed


async def test_nothing_delays_what_is_heard_and_the_heartbeat(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While 200 results of one owner expired, this replica served what others had deleted, and counted as dead."""
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.001)
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    hanging: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def sweep() -> None:
        await hanging

    monkeypatch.setattr(here.retention, "sweep", sweep)
    housekeeping = here.housekeeping
    running = asyncio.gather(housekeeping.run(), housekeeping.run_changes(), housekeeping.run_heartbeat())
    there.completion.forget(await there.registry.owned(*job.key, OWNER))
    await eventually(lambda: job.is_gone)
    here.seconds = there.seconds = here.seconds + 20.0
    await there.failover.beat()

    async def lives() -> bool:
        return await there.engine.read(lambda c: has_others(c, "there", there.wall() + 14))

    while not await lives():  # noqa: ASYNC110 -- the ledger tells nobody
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_while_old_records_are_removed_results_expire_and_jobs_are_taken_over(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To remove 20,000 webhooks took 22 s, where the ledger was 50 ms away."""
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.001)
    dead, room = make_room(me="dead"), make_room(me="room")
    await room.begin_job("over")
    container.says["over"] = ended()
    await room.turn(1.0)
    began: asyncio.Event = asyncio.Event()

    async def purge() -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    housekeeping = Housekeeping(room.ledger, room.failover, room.retention, room.completion.retry_pending, purge)
    running = asyncio.gather(*(work() for work in (housekeeping.run_purges, housekeeping.run)))
    await began.wait()
    room.seconds += 3601.0
    dead.seconds = room.seconds
    left = await dead.begin_job("left")
    dead.watcher.close()

    async def is_done() -> bool:
        taken = (await room.row(left.request_id)).watcher == "room"
        return taken and await room.state_of("over") == JobState.GONE

    while not await is_done():  # noqa: ASYNC110 -- the ledger tells nobody
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_heartbeat_that_was_not_sent_is_sent_a_second_later(room: Room) -> None:
    room.faulty.faults = ["before"]
    with pytest.raises(LedgerUnavailable):
        await room.housekeeping.beat(0)
    writes = room.faulty.writes
    for turn in (1, 2, 3):
        await room.housekeeping.beat(turn)
    assert room.faulty.writes == writes + 1


async def test_once_a_minute_old_records_are_removed(make_room: MakeRoom, container: Container) -> None:
    room = make_room(records_kept="1h")
    calls: list[str] = []

    async def purge() -> None:
        calls.append("purged")

    housekeeping = Housekeeping(room.ledger, room.failover, room.retention, room.completion.retry_pending, purge)
    await room.begin_job()
    container.says["job"] = ended()
    await room.turn(1.0)
    room.seconds += 3700.0
    for turn in range(1, 60):
        await housekeeping.turn(turn)
        await housekeeping.purge(turn)
    assert (calls, await room.row() is None) == ([], False)
    await housekeeping.purge(60)
    assert (calls, await room.row()) == (["purged"], None)


async def test_what_fails_keeps_nothing_else_of_its_turn_from_running(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The purge of jobs failed each time, and so no checkpoint was ever forgotten."""
    calls: list[str] = []

    def does(name: str, failure: Exception | None = None) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            calls.append(name)
            if failure is not None:
                raise failure

        return work

    away, fault = LedgerUnavailable("too slow"), ValueError("a fault of ours")
    monkeypatch.setattr(room.failover, "take_over", does("take over", away))
    monkeypatch.setattr(room.retention, "sweep", does("sweep"))
    monkeypatch.setattr(room.retention, "purge", does("purge", fault))
    housekeeping = Housekeeping(
        room.ledger,
        room.failover,
        room.retention,
        room.completion.retry_pending,
        does("one"),
        does("two"),
    )
    with pytest.raises(LedgerUnavailable):
        await housekeeping.turn(60)
    assert calls == ["take over", "sweep"]
    assert housekeeping.counts
    with pytest.raises(ValueError, match="a fault of ours"):
        await housekeeping.purge(60)
    assert calls[2:] == ["purge", "one", "two"]


async def test_whatever_fails_the_next_turn_comes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.001)
    turns = 0
    turn = room.housekeeping.turn

    async def failing(number: int) -> None:
        nonlocal turns
        turns = number
        if number == 1:
            raise ValueError("canary-of-a-message")
        await turn(number)

    monkeypatch.setattr(room.housekeeping, "turn", failing)
    room.faulty.is_away = True
    with structlog.testing.capture_logs() as logs:
        task = asyncio.get_running_loop().create_task(room.housekeeping.run())
        await eventually(lambda: turns > 5)
        assert room.housekeeping.counts == {}
        room.faulty.is_away = False
        await eventually(lambda: room.housekeeping.counts != {})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (failure,) = [event for event in logs if event["event"] == "jobs could not be followed"]
    assert failure["error"].startswith("ValueError at gateway/aio/periodic.py:")
    assert "canary" not in str(logs)
