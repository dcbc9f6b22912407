"""Many jobs of one account end together, and the ledger is far away, or holds the account's lock."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import asyncpg
import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from gateway.jobs.end_writer import EndWriter
from gateway.jobs.job import Job
from gateway.jobs.status_answer import RunningAnswer
from gateway.ledger import jobs as ledger_jobs
from gateway.ledger import postgres_ends
from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.engine import Engine
from gateway.ledger.expiry import mark_deleted
from gateway.ledger.jobs import job_ref
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.schema import (
    DeliveryState,
    JobState,
    Stage,
    accounts,
    deliveries,
    jobs,
    reservations,
    usage_by_mode,
)
from gateway.ledger.sync import LedgerSync, SyncListeners
from gateway.limits.job_cost import Facts, Known
from gateway.limits.submit_decisions import Ask
from gateway.model.jobs import JobRef
from gateway.model.times import Times
from tests.jobs.conftest import MakeRoom
from tests.jobs.test_pending_ends import make_job
from tests.jobs.test_shared_polls import ANSWER, TARGET
from tests.support.faraway import FarAway
from tests.support.ledgers import NOON, Postgres, assert_sound, make_profile, open_engine, rows_of
from tests.support.room import OWNER, PAGES, PATH, Room
from tests.support.waiting import eventually

FAR: Final = 0.05
MANY: Final = 190
MODES: Final = ("", "fast", "accurate")


@pytest.fixture
async def near(postgres: Postgres, migrated: str) -> AsyncIterator[Engine]:
    """An engine beside the server, where tests write what there was before."""
    made = open_engine(postgres.url_of(migrated))
    yield made
    await made.close()


@pytest.fixture
async def distant(far: FarAway, near: Engine, postgres: Postgres, migrated: str) -> AsyncIterator[Engine]:
    await near.write(lambda _: None)
    made = open_engine(far.url_of(migrated), 2.0, 5.0)
    await made.read(lambda c: rows_of(c, jobs))
    yield made
    await made.close()
    await near.close()
    await asyncio.to_thread(postgres.empty, migrated)


def far_room(engine: Engine, directory: Path, me: str = "far") -> Room:
    path = directory / me
    path.mkdir()
    return Room(engine, 1, path, me)


async def begun(room: Room, near: Engine, count: int, account: str = OWNER, prefix: str = "job") -> list[Job]:
    """Jobs of ten pages, each with a webhook, that run: as the ledger has them, and as a replica knows them."""
    now = room.wall()
    claims = [Claim(f"{account}-{prefix}-{number}", account, account, "default") for number in range(count)]

    def work(connection: Any) -> None:
        profile = make_profile()
        for number, claim in enumerate(claims):
            name = f"{prefix}-{number}"
            admit(connection, claim, profile, now, now + 60)
            reserve(connection, claim, profile, Ask(PAGES, 1, MODES[number % 3]), now, now + 60)
            accepted = accept(connection, claim, name, now + 3600)
            ledger_jobs.begin(connection, accepted, ledger_jobs.NewJob(name, "default", PATH, None), "far", now)
            hook = Planned(f"hook-{name}", "default", name, account, "https://h.test/", "h.test:443", None)
            plan(connection, hook, now)

    await near.write(work)
    shape = room.state.shapes["default"]
    return [
        Job(JobRef("default", f"{prefix}-{number}", claim.id), account, shape, PATH, now)
        for number, claim in enumerate(claims)
    ]


async def test_ends_of_190_jobs_of_one_account_are_a_few_round_trips(
    far: FarAway, distant: Engine, near: Engine, tmp_path: Path
) -> None:
    room = far_room(distant, tmp_path)
    found = await begun(room, near, MANY)
    before = far.trips
    for number, job in enumerate(found):
        facts = Facts(Known.FAILED) if number % 10 == 0 else Facts(Known.COMPLETE, 4)
        room.completion.add_facts(job, facts)
    await room.quiet()
    assert far.trips - before < 40  # one by one they are 2,600
    assert (room.ledger.problem, room.ledger.is_in_doubt) == (None, False)
    assert [job.is_running for job in found] == [False] * MANY
    assert (room.ended, len(room.hooks.settled)) == (MANY, MANY)
    await near.read(assert_sound)
    assert await room.used() == (171 * 4, 171 * 6 + 19 * PAGES, 19)
    by_mode = {row["mode"]: row["requests"] for row in await near.read(lambda c: rows_of(c, usage_by_mode))}
    assert by_mode == {"": 64, "fast": 63, "accurate": 63}
    hooks = await near.read(lambda c: rows_of(c, deliveries))
    assert {(hook["state"], hook["status"]) for hook in hooks} == {
        (DeliveryState.DUE, "complete"),
        (DeliveryState.DUE, "failed"),
    }
    assert [hook["status"] for hook in hooks].count("failed") == 19
    await room.close()


async def test_one_end_is_three_round_trips_at_most(
    far: FarAway, distant: Engine, near: Engine, tmp_path: Path
) -> None:
    room = far_room(distant, tmp_path)
    first, second = await begun(room, near, 2)
    for job, most in ((first, 6), (second, 2)):  # each statement is prepared by its first use
        before = far.trips
        room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
        await room.quiet()
        assert far.trips - before <= most
    assert await room.used() == (8, 12, 0)
    await room.close()


async def test_two_replicas_that_tell_of_the_same_jobs_at_once_charge_each_once(
    far: FarAway, distant: Engine, near: Engine, migrated: str, tmp_path: Path
) -> None:
    other = open_engine(far.url_of(migrated), 2.0, 5.0)
    await other.read(lambda c: rows_of(c, jobs))
    rooms = far_room(distant, tmp_path), far_room(other, tmp_path, "other")
    found = await begun(rooms[0], near, 100)
    copies = [Job(job.ref, OWNER, job.shape, PATH, job.created_at) for job in found]
    for number, (job, copy) in enumerate(zip(found, copies, strict=True)):
        rooms[0].completion.add_facts(job, Facts(Known.LOST if number % 2 else Known.GIVEN_UP))
        rooms[1].completion.add_facts(copy, Facts(Known.COMPLETE, 4))
    for room in rooms:
        await room.quiet()
    assert await rooms[0].used() == (400, 600, 0)
    assert sum(room.ended for room in rooms) == 100
    assert {row["state"] for row in await near.read(lambda c: rows_of(c, jobs))} == {JobState.COMPLETE}
    for room in rooms:
        await room.close()
    await other.close()


async def test_a_lock_of_one_account_is_nobody_elses_and_no_ledger_that_is_away(
    near: Engine, postgres: Postgres, migrated: str, tmp_path: Path
) -> None:
    """Its one task waits, whatever ends meanwhile; the ends are settled once the lock is free."""
    engine = open_engine(postgres.url_of(migrated), 1.0, 5.0)
    await engine.write(lambda _: None)
    room = far_room(engine, tmp_path)
    mine, theirs = await begun(room, near, 30), await begun(room, near, 5, "key:other", "other")
    await room.ledger.write(lambda _: None)
    silent = SyncListeners(lambda _: None, lambda _: None, lambda _: asyncio.sleep(0), lambda _: None)
    sync = LedgerSync(room.ledger, Times(room.clock, room.wall), {}, silent, lambda: asyncio.sleep(0))
    shell = await asyncpg.connect(postgres.url_of(migrated))
    await shell.execute("BEGIN")
    await shell.execute("SELECT * FROM accounts WHERE account = $1 FOR UPDATE", OWNER)
    try:
        with capture_logs() as events:
            for turn in range(1, 9):
                for job in mine[turn * 3 : turn * 3 + 3]:
                    room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
                room.completion.add_facts(theirs[turn % 5], Facts(Known.COMPLETE, 4))
                room.completion.retry_pending()
                assert int(repr(room.background).partition("=")[2][:-1]) <= 2
                await room.quiet()
                await sync.turn(turn)
                assert room.ledger.problem is None
        told = [event for event in events if event["event"] == "an account's jobs can't be settled yet"]
        assert [event["account"] for event in told] == [OWNER]
        assert not any(event["event"] == "ledger is unavailable" for event in events)
        assert not any(job.is_running for job in theirs)
        assert "pending=24 " in repr(room.completion).replace(">", " ")
    finally:  # else all that follows waits for it
        await shell.execute("ROLLBACK")
        await shell.close()
    for _ in range(8):
        room.completion.retry_pending()
        await room.quiet()
    assert [job.is_running for job in mine].count(False) == 24
    assert await room.used() == (24 * 4 + 5 * 4, 24 * 6 + 5 * 6, 0)
    await room.close()
    await engine.close()
    await asyncio.to_thread(postgres.empty, migrated)


@pytest.mark.parametrize("what", ["reset", "settled", "known", "gone"])
async def test_what_changed_between_look_and_write_is_looked_at_again(
    distant: Engine, near: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing is written of the others either: all of them are looked at again."""
    room = far_room(distant, tmp_path)
    found = await begun(room, near, 5)
    changes = {
        "reset": update(accounts).values(reset_at=int(NOON) + 9),
        "settled": update(reservations)
        .where(reservations.c.id == found[2].ref.reservation)
        .values(stage=Stage.CHARGED),
        "known": update(jobs).where(jobs.c.request_id == "job-2").values(known=Known.TAKEN),
        "gone": jobs.delete().where(jobs.c.request_id == "job-2"),
    }
    read_jobs, before = postgres_ends.read_jobs, await near.read(lambda c: rows_of(c, reservations))
    asked = [
        ledger_jobs.NewFacts(job.ref, Facts(Known.COMPLETE, 4), room.completion.failed_costs(job)) for job in found
    ]
    seen = await distant.guarded(lambda c: read_jobs(c, [one.job for one in asked]))
    assert {job_ref(row) for row in seen} == {job.ref for job in found}
    await near.write(lambda c: c.execute(changes[what]))
    changed = await near.read(lambda c: rows_of(c, reservations))
    monkeypatch.setattr(postgres_ends, "read_jobs", lambda *_: seen)
    assert await distant.guarded(lambda c: ledger_jobs.record_unlocked(c, asked, NOON, 60.0)) is None
    assert await near.read(lambda c: rows_of(c, reservations)) == changed
    assert len(before) == len(changed)
    assert {row["known"] for row in await near.read(lambda c: rows_of(c, jobs))} <= {0, Known.TAKEN}
    await room.close()


async def test_a_late_fact_does_not_undo_a_deletion_told_between_look_and_write(
    distant: Engine, near: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = far_room(distant, tmp_path)
    (job,) = await begun(room, near, 1)
    await near.write(lambda c: ledger_jobs.forget(c, job.ref, NOON))
    seen = await distant.guarded(lambda c: postgres_ends.read_jobs(c, [job.ref]))
    await near.write(lambda c: mark_deleted(c, seen, NOON))
    monkeypatch.setattr(postgres_ends, "read_jobs", lambda *_: seen)
    asked = ledger_jobs.NewFacts(job.ref, Facts(Known.COMPLETE, 4), room.completion.failed_costs(job))
    (recorded,) = await distant.guarded(lambda c: ledger_jobs.record_unlocked(c, [asked], NOON, 60.0)) or [None]
    assert recorded is not None
    assert not recorded.is_end
    (row,) = await near.read(lambda c: rows_of(c, jobs))
    assert (row["state"], row["expires_at"], row["ended_at"]) == (JobState.GONE, None, int(NOON))
    await room.close()


async def test_whom_others_outrun_tells_under_the_lock(
    far: FarAway, distant: Engine, near: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, write = far_room(distant, tmp_path), postgres_ends.write
    found = await begun(room, near, 50)

    def outrun(connection: Any, *arguments: Any) -> bool:
        is_locked = connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT"
        return bool(is_locked and write(connection, *arguments))

    monkeypatch.setattr(postgres_ends, "write", outrun)
    before = far.trips
    for job in found:
        room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
    await room.quiet()
    assert far.trips - before < 30
    assert await room.used() == (200, 300, 0)
    await room.close()


async def test_what_waits_is_told_together_on_either_engine(make_room: MakeRoom) -> None:
    """One transaction at a time: what ends meanwhile is in the next one."""
    room = make_room()
    found = [await room.begin_job(f"job-{number}") for number in range(20)]
    before = room.faulty.writes
    for job in found:
        room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
    await room.quiet()
    assert room.faulty.writes - before <= 2
    assert await room.used() == (80, 120, 0)


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_many_of_which_the_ledger_was_not_heard_to_take_are_told_again(make_room: MakeRoom, fault: str) -> None:
    room = make_room()
    found = [await room.begin_job(f"job-{number}") for number in range(5)]
    room.faulty.faults = [fault]
    for job in found:
        room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
    await room.quiet()
    assert "pending=5" in repr(room.completion)
    room.completion.retry_pending()
    await eventually(lambda: "pending=0" in repr(room.completion))
    await room.quiet()
    assert await room.used() == (20, 30, 0)
    assert not any(job.is_running for job in found)


async def test_a_fault_of_ours_is_told_with_its_place_and_tried_ever_more_rarely(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, tries = make_room(), list[int]()
    jobs_of_it = [await room.begin_job(f"job-{number}") for number in range(3)]

    def fails(_: object, asked: list[Any], **__: object) -> None:
        tries.append(len(asked))
        raise OverflowError("canary")

    monkeypatch.setattr("gateway.jobs.end_writer.record_unlocked", fails)
    with capture_logs() as events:
        for job in jobs_of_it:
            room.completion.add_facts(job, Facts(Known.COMPLETE, 4))
        await room.quiet()
        for _ in range(16):
            room.completion.retry_pending()
            await room.quiet()
    assert 4 <= len(tries) <= 7
    assert tries[-1] == 1
    (told,) = [event for event in events if event["event"] == "an account's jobs can't be settled yet"]
    assert told["why"].startswith("OverflowError at ")
    assert "canary" not in str(told)
    monkeypatch.undo()
    for _ in range(20):
        room.completion.retry_pending()
        await room.quiet()
    assert not any(job.is_running for job in jobs_of_it)


def test_an_end_for_which_there_is_no_room_outdates_what_was_said_before() -> None:
    """It is learnt anew, but whoever polls next must not be told that the job runs: another was told of its end."""
    replica = Mock()
    replica.background.start = lambda work: work.close()  # the ledger is away
    writer = EndWriter(replica, Mock(), Mock())
    for number in itertools.count():
        before, job = len(writer), make_job(number)
        writer.add(job, Facts(Known.TAKEN))
        if len(writer) == before:
            break
    job.keep(RunningAnswer(ANSWER, TARGET, None, 0.0))
    kept = job.running_answer
    writer.add(job, Facts(Known.COMPLETE))
    assert kept is not None
    assert job.running_answer is None
    job.keep(kept)  # one that was under way
    assert job.running_answer is None
    assert job.has_outlived(ANSWER)
    assert (job.known, len(writer)) == (Known.NOTHING, before)
