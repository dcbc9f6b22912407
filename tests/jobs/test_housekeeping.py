"""What is done each second: one fault of it must not end the rest."""

import asyncio

import pytest
import structlog

from gateway.jobs.housekeeping import Housekeeping
from gateway.ledger.schema import JobState
from tests.jobs.conftest import MakeRoom
from tests.support.room import OWNER, Container, Room, ended
from tests.support.waiting import eventually


async def test_each_has_its_turn(make_room: MakeRoom, container: Container) -> None:
    dead, room = make_room(me="dead"), make_room(me="room")
    await dead.begin_job()
    dead.watcher.close()
    for turn in range(5):
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


async def test_once_a_minute_old_records_are_removed(make_room: MakeRoom, container: Container) -> None:
    room = make_room(records_kept="1h")
    calls: list[str] = []

    async def purge() -> None:
        calls.append("purged")

    housekeeping = Housekeeping(
        room.ledger, room.registry, room.watcher, room.retention, room.completion.retry_untold, purge
    )
    await room.begin_job()
    container.says["job"] = ended()
    await room.turn(1.0)
    room.seconds += 3700.0
    for turn in range(1, 60):
        await housekeeping.turn(turn)
    assert (calls, await room.row() is None) == ([], False)
    await housekeeping.turn(60)
    assert (calls, await room.row()) == (["purged"], None)


async def test_whatever_fails_the_next_turn_comes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.aio.periodic._PAUSE", 0.001)
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
