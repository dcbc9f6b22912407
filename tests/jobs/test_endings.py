"""What status answers say of a job's end: told to the ledger in the background, once."""

import json
from typing import Any

import pytest

from gateway.jobs.endings import Watch
from gateway.jobs.job import Job
from gateway.jobs.shape import Ending
from gateway.ledger.schema import JobState
from tests.support.room import OWNER, PAGES, Room, ended


async def poll(room: Room, job: Job, *pieces: bytes) -> Watch:
    """One answer as it passes."""
    watch = room.endings.watch(job)
    for piece in pieces:
        watch.take(piece)
    watch.end()
    await room.quiet()
    return watch


async def says(room: Room, job: Job, /, **members: Any) -> Watch:
    return await poll(room, job, json.dumps(members).encode())


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ({"status": "complete", "success": True, "page_count": 4}, (4, 6, 0)),
        ({"status": "complete", "page_count": 4}, (4, 6, 0)),
        ({"status": "complete"}, (10, 0, 0)),
        ({"status": "complete", "page_count": "4"}, (10, 0, 0)),
        ({"status": "complete", "page_count": True}, (10, 0, 0)),
        ({"status": "complete", "page_count": -1}, (10, 0, 0)),
        ({"status": "complete", "page_count": 10**9}, (10, 0, 0)),
        ({"status": "complete", "page_count": 4.0}, (10, 0, 0)),
        ({"status": "complete", "page_count": 0}, (0, 10, 0)),
        ({"status": "complete", "success": False, "page_count": 4}, (0, 10, 1)),
        ({"status": "failed"}, (0, 10, 1)),
        ({"status": "failed", "success": None}, (0, 10, 1)),
    ],
)
async def test_a_final_answer_settles(room: Room, answer: dict[str, Any], used: tuple[int, int, int]) -> None:
    job = await room.took()
    woken: list[float | None] = []
    told: list[str] = []
    job.waiters["somebody"] = lambda: woken.append(job.expires_at)
    room.endings.on_ended = lambda: told.append("ended")
    assert (await says(room, job, **answer)).is_final
    assert await room.used() == used
    assert room.told.settled == [(OWNER, used[0], used[1])]
    assert woken == [room.wall() + 3600]
    assert told == ["ended"]
    writes = room.faulty.writes
    assert (await says(room, job, **answer)).is_final
    assert (room.faulty.writes, told) == (writes, ["ended"])  # there is nothing left to learn


@pytest.mark.parametrize(
    "answer",
    [{"status": "processing"}, {"status": "pending", "success": True}, {"status": "queued"}, {}, {"status": 5},
     {"status": None, "success": False}, {"job": {"status": "complete"}}],
)  # fmt: skip
async def test_an_answer_that_is_not_final_is_known_again(room: Room, answer: dict[str, Any]) -> None:
    job = await room.took()
    content = json.dumps(answer).encode()
    assert not room.endings.is_unfinished(job, content)
    assert not (await says(room, job, **answer)).is_final
    assert room.endings.is_unfinished(job, content)
    assert await room.used() == (0, 0, 0)
    assert (job.is_running, job.how) == (True, None)


@pytest.mark.parametrize("answer", [b"", b"[]", b"no JSON", b'{"status": "complete"', b'{"status": "complete"} x'])
async def test_an_answer_that_is_not_whole_says_nothing(room: Room, answer: bytes) -> None:
    job = await room.took()
    job.misses = 1
    assert not (await poll(room, job, answer)).is_final
    assert (await room.used(), job.misses) == ((0, 0, 0), 1)
    assert not room.endings.is_unfinished(job, answer)


async def test_nothing_at_all_says_nothing(room: Room) -> None:
    job = await room.took()
    assert not (await poll(room, job)).is_final


async def test_an_answer_in_pieces_is_read_as_it_passes(room: Room) -> None:
    job = await room.took()
    content = ended(4, markdown='"status"' * 5000)
    watch = await poll(room, job, *(content[start : start + 777] for start in range(0, len(content), 777)))
    assert watch.content is None
    assert await room.used() == (4, 6, 0)


async def test_what_is_kept_of_an_answer_is_more_when_somebody_waits(room: Room) -> None:
    job = await room.took()
    content = json.dumps({"status": "processing", "of": "x" * 600}).encode()
    assert (await poll(room, job, content[:100], content[100:])).content is None
    assert not room.endings.is_unfinished(job, content)
    held = room.hold(job)
    assert (await poll(room, job, content[:100], content[100:])).content == content
    assert not room.endings.is_unfinished(job, content)
    held.leave()


async def test_what_is_remembered_is_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jobs.endings._MOST_SMALL", 3)
    job = await room.took()
    for number in range(10):
        room.endings.learnt(job, b"%d" % number, {"status": "queued"})
        room.endings.learnt(job, b"x" * 513, {"status": "queued"})
        room.endings.learnt(job, None, {"status": "queued"})
    assert len(room.endings._unfinished) <= 3
    assert room.endings.is_unfinished(job, b"9")
    assert not room.endings.is_unfinished(job, b"x" * 513)


async def test_one_that_ends_twice_at_once_is_told_of_once(room: Room) -> None:
    job = await room.took()
    for pages in range(20):
        room.endings.ended(job, Ending(failed=False, pages=pages))
    await room.quiet()
    assert await room.used() == (0, PAGES, 0)
    assert len(room.told.settled) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_what_could_not_be_told_the_next_answer_tells(room: Room, fault: str) -> None:
    job = await room.took()
    room.faulty.faults = [fault]
    await says(room, job, status="complete", page_count=4)
    assert (job.is_running, room.told.settled) == (True, [])
    await says(room, job, status="complete", page_count=4)
    assert not job.is_running
    assert await room.used() == (4, 6, 0)


async def test_forgotten_is_forgotten_with_what_it_cost(room: Room) -> None:
    """The result was read, and may be deleted before the ledger knows that it had ended."""
    job = await room.took()
    job.saw(Ending(failed=False, pages=3))
    room.endings.forget(job)
    assert job.is_gone
    await room.quiet()
    assert await room.state_of() == JobState.GONE
    assert await room.used() == (3, 7, 0)
    assert room.told.settled == [(OWNER, 3, 7)]
    room.endings.forget(job)
    await room.quiet()
    assert await room.used() == (3, 7, 0)


async def test_forgotten_while_it_ends_is_nobodys(room: Room) -> None:
    job = await room.took()
    room.endings.learnt(job, None, {"status": "complete", "page_count": 3})
    room.endings.forget(job)
    await room.quiet()
    assert job.is_gone
    assert await room.state_of() == JobState.GONE
    assert await room.used() == (3, 7, 0)


async def test_a_ledger_that_is_away_does_not_bring_it_back(room: Room) -> None:
    job = await room.took()
    room.faulty.is_away = True
    room.endings.forget(job)
    await room.quiet()
    room.faulty.is_away = False
    assert room.registry.learn(await room.row()) is job
    assert job.is_gone
