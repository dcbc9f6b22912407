"""What status answers say of a job's end: told to the ledger in the background, once."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import Refused
from gateway.jobs.endings import Watch
from gateway.jobs.job import Job
from gateway.jobs.shape import Ending
from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.reservations import settle
from gateway.ledger.schema import DeliveryState, JobState, deliveries
from gateway.model import Reason
from tests.support.ledgers import NOON, rows_of
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


async def test_a_look_up_that_was_under_way_when_it_was_forgotten_does_not_bring_it_back(room: Room) -> None:
    """What the ledger said before it was told arrives after that."""
    job = await room.took()
    go, inner = asyncio.Event(), room.faulty._engine

    class Late:
        write = inner.write
        report = inner.report
        close = inner.close

        async def read(self, work: Any) -> Any:
            found = await inner.read(work)
            await go.wait()
            return found

    room.endings.forget(job)
    room.faulty._engine = Late()
    asked = [asyncio.ensure_future(room.registry.owned(*job.key, OWNER)) for _ in range(2)]
    await room.quiet()
    go.set()
    for task in asked:
        with pytest.raises(Refused):
            await task
    room.faulty._engine = inner
    with pytest.raises(Refused):
        await room.registry.owned(*job.key, OWNER)


async def test_a_job_that_was_settled_before_only_ends(room: Room) -> None:
    job = await room.took()
    await room.engine.write(lambda c: settle(c, *job.key, 3, room.wall(), failed=False))
    told: list[str] = []
    room.endings.on_ended = lambda: told.append("ended")
    assert (await says(room, job, status="complete", page_count=4)).is_final
    assert (job.is_running, told, room.told.settled) == (False, ["ended"], [])
    assert await room.used() == (3, 7, 0)


async def test_its_webhook_is_due_at_its_end_and_none_when_it_was_deleted_before(room: Room) -> None:
    for number in ("1", "2", "3"):
        job = await room.took(number)
        webhook = Planned(number, *job.key, OWNER, "https://a.test/", "a.test:443", None)
        await room.engine.write(lambda c, webhook=webhook: plan(c, webhook, NOON))  # type: ignore[misc]
        if number == "1":
            await says(room, job, status="complete")
        elif number == "2":
            await says(room, job, status="failed")
        else:
            room.endings.forget(job)
        await room.quiet()
    rows = await room.engine.read(lambda c: rows_of(c, deliveries))
    found = [(row["id"], row["state"], row["status"]) for row in rows]
    assert found == [("1", DeliveryState.DUE, "complete"), ("2", DeliveryState.DUE, "failed")]


@pytest.mark.parametrize("has_ended", [True, False])
async def test_what_its_owner_deletes_is_nobodys_at_once_and_charged(room: Room, has_ended: bool) -> None:
    job = await room.took()
    if has_ended:
        await says(room, job, status="complete", page_count=4)
    await room.endings.forget_now(job)
    assert job.is_gone
    assert await room.state_of() == JobState.GONE
    assert await room.used() == ((4, 6, 0) if has_ended else (PAGES, 0, 0))
    assert room.told.settled == ([(OWNER, 4, 6)] if has_ended else [(OWNER, PAGES, 0)])
    with pytest.raises(Refused):
        await room.registry.owned(*job.key, OWNER)
    await room.endings.forget_now(job)
    assert len(room.told.settled) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_deletion_of_unknown_outcome_is_refused_and_may_be_asked_for_again(room: Room, fault: str) -> None:
    job = await room.took()
    room.faulty.faults = [fault]
    with pytest.raises(Refused) as caught:
        await room.endings.forget_now(job)
    assert caught.value.denial.reason is Reason.LEDGER_UNAVAILABLE
    assert await room.registry.owned(*job.key, OWNER) is job
    await room.endings.forget_now(job)
    assert job.is_gone
    assert await room.used() == (PAGES, 0, 0)


async def test_what_is_not_known_twice_within_a_second_is_not_known_once(room: Room) -> None:
    job = await room.took()
    for _ in range(5):
        room.endings.unknown(job)
    await room.quiet()
    assert (job.is_running, await room.used()) == (True, (0, 0, 0))
    room.seconds += 1
    room.endings.unknown(job)
    await room.quiet()
    assert (job.is_running, await room.used()) == (False, (0, PAGES, 1))
    room.seconds += 1
    room.endings.unknown(job)
    await room.quiet()
    assert await room.used() == (0, PAGES, 1)


async def test_what_the_ledger_does_not_have_is_nobodys(room: Room) -> None:
    """Its file was replaced by an older one, say."""
    job = Job("default", "another", OWNER, room.state.shapes["default"], "/a", NOON)
    room.registry.add(job)
    assert (await says(room, job, status="complete", page_count=4)).is_final
    assert job.is_gone
    assert room.registry.get(job.key) is None
