"""Whose a job is: known ones need no ledger, all else asks it each time, and every refusal is the same."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Row, update

from gateway.errors import LedgerUnavailable, Refused
from gateway.jobs import registry
from gateway.jobs.job import Job
from gateway.ledger.jobs import changed_since, forget
from gateway.ledger.schema import JobState, jobs
from gateway.limits.job_cost import Facts, Known
from gateway.model.jobs import JobRef
from gateway.model.reasons import Denial, Reason
from tests.jobs.conftest import MakeRoom
from tests.support.endings import end, job_of
from tests.support.room import OWNER, Room

OTHER = "key:other"
JOB = ("default", "job")


class Counted:
    """How often a room's ledger was read."""

    def __init__(self, room: Room) -> None:
        self.reads = 0
        read = room.faulty.read

        async def reading(work: Any, *, in_turn_of: str = "") -> Any:
            self.reads += 1
            return await read(work, in_turn_of=in_turn_of)

        room.faulty.read = reading  # type: ignore[method-assign]

    async def of(self, call: Callable[[], Awaitable[Any]]) -> int:
        before = self.reads
        await call()
        return self.reads - before


async def denied(room: Room, request_id: str, owner: str = OWNER, upstream: str = "default") -> Denial:
    with pytest.raises(Refused) as caught:
        await room.registry.owned(upstream, request_id, owner)
    return caught.value.denial


async def test_a_known_job_of_ones_own_needs_no_ledger(room: Room) -> None:
    job = await room.begin_job()
    counted = Counted(room)
    for _ in range(3):
        assert await room.registry.owned(*JOB, OWNER) is job
    assert counted.reads == 0


async def test_what_another_replica_took_is_looked_up_once(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    await there.begin_job()
    counted = Counted(here)
    job = await here.registry.owned(*JOB, OWNER)
    assert (job.owner, job.path, job.is_running, job.is_followed) == (OWNER, "/api/v1/marker", True, False)
    assert await here.registry.owned(*JOB, OWNER) is job
    assert counted.reads == 1


@pytest.mark.parametrize("is_known", [True, False])
async def test_unknown_foreign_and_expired_are_one_and_each_asks_the_ledger(
    make_room: MakeRoom, is_known: bool
) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    room = here if is_known else there
    await room.begin_job("foreign", OTHER)
    await room.begin_job("expired")
    await room.begin_job("gone")
    await room.begin_job("elsewhere", upstream="staging")
    for name in ("expired", "gone"):
        await here.engine.write(lambda c, name=name: end(c, ("default", name), 1, here.wall(), 10, failed=False))  # type: ignore[misc]
    await here.engine.write(lambda c: forget(c, job_of(c, ("default", "gone")), here.wall()))
    await here.registry.read_changes()
    here.seconds += 11.0
    counted = Counted(here)
    names = ("unknown", "foreign", "expired", "gone", "elsewhere")
    for _ in range(3):
        before = counted.reads
        denials = [await denied(here, name) for name in names]
        assert {repr(denial) for denial in denials} == {repr(denials[0])}
        assert counted.reads - before == len(names)
    assert denials[0].reason is Reason.JOB_NOT_FOUND


async def test_a_job_is_found_by_its_upstream_and_its_whole_id(room: Room) -> None:
    await room.begin_job("job")
    for upstream, name in (("staging", "job"), ("default", "jo"), ("default", "job "), ("default", "JOB")):
        assert (await denied(room, name, upstream=upstream)).reason is Reason.JOB_NOT_FOUND


async def test_while_the_ledger_is_away_only_known_jobs_of_ones_own_go_on(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job("mine")
    await here.begin_job("foreign", OTHER)
    await there.begin_job("elsewhere")
    here.faulty.is_away = True
    assert await here.registry.owned("default", "mine", OWNER) is job
    for name in ("unknown", "foreign", "elsewhere"):
        denial = await denied(here, name)
        assert (denial.reason, denial.retry_after) == (Reason.LEDGER_UNAVAILABLE, 2)
    with pytest.raises(LedgerUnavailable):
        await here.registry.read_changes()
    here.faulty.is_away = False
    assert (await here.registry.owned("default", "elsewhere", OWNER)).request_id == "elsewhere"
    assert (await denied(here, "foreign")).reason is Reason.JOB_NOT_FOUND


DELETES = {"default": {"delete": {"method": "POST", "path": "/clear/{id}"}}}


async def test_who_does_not_hear_of_others_looks_up_what_they_may_have_deleted(make_room: MakeRoom) -> None:
    """A replica that was busy, or whose link to the ledger hung, gave the next owner's result to the last one."""
    here, there = make_room(me="here", shapes=DELETES), make_room(me="there", shapes=DELETES)
    old = await here.begin_job()
    await there.failover.beat()
    await here.registry.read_changes()
    counted = Counted(here)
    ask = partial(here.registry.owned, *JOB, OWNER)
    here.seconds += 1.9
    assert await counted.of(ask) == 0
    here.seconds += 0.2
    assert [await counted.of(ask) for _ in range(3)] == [1, 0, 0]  # it was asked about just now
    await here.registry.confirm(old)
    there.seconds = here.seconds
    await there.engine.write(lambda c: forget(c, job_of(c, JOB), there.wall()))
    assert await here.registry.owned(*JOB, OWNER) is old  # for less than two seconds more
    here.seconds += 2.1
    here.faulty.is_away = True
    for asking in (ask(), here.registry.confirm(old)):
        with pytest.raises(Refused) as caught:
            await asking
        assert caught.value.denial.reason is Reason.LEDGER_UNAVAILABLE
    here.faulty.is_away = False
    with pytest.raises(Refused, match="There is no job of yours"):
        await here.registry.confirm(old)
    assert (await denied(here, "job")).reason is Reason.JOB_NOT_FOUND


async def test_what_nobody_can_have_deleted_is_served_while_the_ledger_is_away(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    await there.failover.beat()
    job = await here.begin_job()
    await here.registry.read_changes()
    here.faulty.is_away = True
    here.seconds += 3599.0
    assert await here.registry.owned(*JOB, OWNER) is job
    here.seconds += 2.0  # another replica may have seen its end, and its time may be over
    assert (await denied(here, "job")).reason is Reason.LEDGER_UNAVAILABLE


async def test_who_is_alone_serves_its_jobs_however_long_the_ledger_is_away(make_room: MakeRoom) -> None:
    here, there = make_room(me="here", shapes=DELETES), make_room(me="there", shapes=DELETES)
    await there.failover.beat()
    here.seconds += 31.0  # it died long ago
    job = await here.begin_job()
    await here.registry.read_changes()
    here.faulty.is_away = True
    here.seconds += 86_400.0
    assert await here.registry.owned(*JOB, OWNER) is job
    await here.registry.confirm(job)


async def test_what_was_read_counts_from_when_the_reading_began(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_room(me="here", shapes=DELETES), make_room(me="there")
    await there.failover.beat()
    await here.begin_job()
    read = here.faulty.read

    async def reading(work: Any, *, in_turn_of: str = "") -> Any:
        found = await read(work, in_turn_of=in_turn_of)
        here.seconds += 1.5
        return found

    monkeypatch.setattr(here.faulty, "read", reading)
    await here.registry.read_changes()
    monkeypatch.undo()
    here.faulty.is_away = True
    assert (await denied(here, "job")).reason is Reason.LEDGER_UNAVAILABLE


async def test_what_was_heard_before_a_job_was_cached_says_nothing_of_it(make_room: MakeRoom) -> None:
    """Its row may have been read before it was deleted, and have come after that was heard."""
    here, there = make_room(me="here", shapes=DELETES), make_room(me="there")
    await there.failover.beat()
    await there.begin_job()
    read = here.faulty.read

    async def reading(work: Any, *, in_turn_of: str = "") -> Any:
        here.faulty.read = read  # type: ignore[method-assign]
        found = await read(work, in_turn_of=in_turn_of)
        here.seconds += 1.5
        await here.registry.read_changes()
        here.seconds += 0.6
        return found

    here.faulty.read = reading  # type: ignore[method-assign]
    job = await here.registry.owned(*JOB, OWNER)
    assert not here.registry.is_sure(job)
    await here.registry.read_changes()
    assert here.registry.is_sure(job)


async def test_it_is_read_until_the_very_moment(room: Room) -> None:
    job = await room.begin_job()
    await room.engine.write(lambda c: end(c, JOB, 1, room.wall(), 10, failed=False))
    await room.registry.read_changes()
    room.seconds += 9.9
    assert await room.registry.owned(*JOB, OWNER) is job
    room.seconds += 0.2
    assert (await denied(room, "job")).reason is Reason.JOB_NOT_FOUND


async def test_those_asked_for_lately_are_remembered(make_room: MakeRoom) -> None:
    here, there = make_room(me="here", most=2), make_room(me="there")
    for number in range(4):
        await there.begin_job(f"job-{number}")
    counted = Counted(here)

    def ask(number: int) -> Callable[[], Awaitable[Any]]:
        return lambda: here.registry.owned("default", f"job-{number}", OWNER)

    assert [await counted.of(ask(number)) for number in (0, 1, 0, 2, 0, 1)] == [1, 1, 0, 1, 0, 1]


async def test_one_that_is_held_somewhere_is_never_two(make_room: MakeRoom) -> None:
    here, there = make_room(me="here", most=1), make_room(me="there")
    for number in range(3):
        await there.begin_job(f"job-{number}")
    jobs = [await here.registry.owned("default", f"job-{number}", OWNER) for number in range(3)]
    for number, job in enumerate(jobs):
        assert here.registry.get(("default", f"job-{number}")) is job
        assert await here.registry.owned("default", f"job-{number}", OWNER) is job
        assert here.registry.apply_row(await here.row(f"job-{number}")) is job


async def test_what_ended_elsewhere_is_heard_of(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    await here.registry.read_changes()
    here.seconds += 1.5
    woken: list[Job] = []
    job.waiters["somebody"] = lambda: woken.append(job)
    other = await there.registry.owned(*JOB, OWNER)
    there.seconds = here.seconds
    there.completion.add_facts(other, Facts(Known.FAILED))
    await there.quiet()
    await here.registry.read_changes()
    assert woken == [job]
    assert (job.is_running, job.known, job.expires_at) == (False, Known.FAILED, other.expires_at)
    assert here.registry.get(JOB) is job
    await here.registry.read_changes()
    assert here.registry.get(JOB) is job


async def test_what_was_deleted_elsewhere_is_nobodys(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    await here.registry.read_changes()
    there.completion.forget(await there.registry.owned(*JOB, OWNER))
    await there.quiet()
    await here.registry.read_changes()
    assert job.is_gone
    assert here.registry.get(JOB) is job  # what was read of it before would else bring it back
    assert (await denied(here, "job")).reason is Reason.JOB_NOT_FOUND
    assert (await denied(there, "job")).reason is Reason.JOB_NOT_FOUND


async def test_an_id_that_was_given_again_is_another_job(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    old = await here.begin_job()
    await here.registry.read_changes()
    await there.engine.write(lambda c: forget(c, job_of(c, JOB), there.wall()))
    there.seconds += 6.0
    await there.begin_job("job", OTHER)
    assert (await here.registry.owned(*JOB, OWNER)) is old  # not heard yet
    here.seconds = there.seconds
    await here.registry.read_changes()
    assert old.is_gone
    assert (await denied(here, "job")).reason is Reason.JOB_NOT_FOUND
    assert (await here.registry.owned(*JOB, OTHER)).owner == OTHER


async def test_an_id_that_was_given_to_its_owner_again_is_another_job_too(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    old = await here.begin_job()
    await here.engine.write(lambda c: end(c, JOB, 1, here.wall(), 3600, failed=False))
    await here.registry.read_changes()
    assert not old.is_running
    await there.engine.write(lambda c: forget(c, job_of(c, JOB), there.wall()))
    there.seconds += 6.0
    await there.begin_job()
    here.seconds = there.seconds
    await here.registry.read_changes()
    new = await here.registry.owned(*JOB, OWNER)
    assert new is not old
    assert (new.is_running, old.is_gone) == (True, True)


async def test_an_id_that_its_owner_has_again_and_that_has_ended_is_another_job_too(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    old = await here.begin_job()
    await here.registry.read_changes()
    await there.engine.write(lambda c: forget(c, job_of(c, JOB), there.wall()))
    there.seconds += 6.0
    await there.begin_job()
    await there.engine.write(lambda c: end(c, JOB, 1, there.wall(), 3600, failed=False))
    here.seconds = there.seconds
    await here.registry.read_changes()  # of all that only now
    new = await here.registry.owned(*JOB, OWNER)
    assert (new is not old, new.is_running, old.is_gone) == (True, False, True)


async def test_one_that_is_taken_anew_ends_who_held_the_old_one(room: Room) -> None:
    old = await room.begin_job()
    new = Job(JobRef(*JOB, "new"), OTHER, old.shape, old.path, room.wall())
    room.registry.add(new)
    room.registry.drop(old)
    assert (old.is_gone, room.registry.get(JOB)) == (True, new)
    room.registry.add(new)
    assert not new.is_gone


async def test_a_row_that_is_older_than_what_is_known_changes_nothing(room: Room) -> None:
    job = await room.begin_job()
    row = await room.row()
    job.end(room.wall() + 100)
    assert room.registry.apply_row(row) is job
    assert not job.is_running


async def test_a_shape_that_is_gone_is_no_job(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    old = await here.begin_job()
    await there.given_again("job", OTHER, shape="gone")
    here.seconds = there.seconds
    assert here.registry.apply_row(await here.row()) is None
    assert old.is_gone
    for owner in (OWNER, OTHER):
        assert (await denied(here, "job", owner)).reason is Reason.JOB_NOT_FOUND


async def test_a_late_row_of_a_deleted_job_changes_nothing_of_the_job_that_has_its_id_now(room: Room) -> None:
    """A read may take as long as the ledger: its row ended the next owner's job, or brought the old one back."""
    await room.begin_job()
    runs = await room.row()
    await room.engine.write(lambda c: forget(c, job_of(c, JOB), room.wall()))
    gone = await room.row()
    room.seconds += 6.0
    new = await room.begin_job("job", OTHER)
    for row in (runs, gone):
        assert room.registry.apply_row(row) is None
        assert (new.is_running, room.registry.get(JOB)) == (True, new)
    assert await room.registry.owned(*JOB, OTHER) is new
    assert (await denied(room, "job")).reason is Reason.JOB_NOT_FOUND


async def test_an_id_that_others_had_and_lost_meanwhile_is_not_its_first_owners(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    old = await here.begin_job()
    await there.given_again("job", OTHER)
    await there.engine.write(lambda c: forget(c, job_of(c, JOB), there.wall()))
    here.seconds = there.seconds
    await here.registry.read_changes()
    assert old.is_gone


async def test_a_shape_that_is_missing_for_a_moment_takes_no_job_from_its_owner(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    ended, runs = await here.begin_job("ended"), await here.begin_job("runs")
    await here.engine.write(lambda c: end(c, ended.key, 1, here.wall(), 3600, failed=False))
    now = int(here.wall() * 1000)
    await here.engine.write(lambda c: c.execute(update(jobs).values(changed_at=now)))
    right = here.state
    for room in (here, there):
        room.state = replace(right, shapes={})
        await room.registry.read_changes()
        await room.failover.recall()
    assert (ended.is_gone, runs.is_gone, runs.is_running) == (False, False, True)
    with pytest.raises(Refused, match="There is no job of yours"):
        await there.registry.owned(*ended.key, OWNER)
    for room in (here, there):
        room.state = right
        await room.registry.read_changes()
        for job in (ended, runs):
            found = await room.registry.owned(*job.key, OWNER)
            assert found.is_running == (job is runs)
    assert [await here.registry.owned(*job.key, OWNER) for job in (ended, runs)] == [ended, runs]
    assert [await here.state_of(name) for name in ("ended", "runs")] == [JobState.COMPLETE, JobState.RUNNING]


async def test_a_transaction_that_is_committed_late_is_heard_of(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    late = await here.begin_job("late")
    early = await here.begin_job("early")
    await here.registry.read_changes()
    now = here.wall()
    here.seconds += 9.0
    await here.engine.write(lambda c: end(c, early.key, 1, now + 9, 3600, failed=False))
    await here.registry.read_changes()
    await there.engine.write(lambda c: end(c, late.key, 1, now + 1, 3600, failed=False))
    await here.registry.read_changes()
    assert (early.is_running, late.is_running) == (False, False)


async def test_a_clock_that_is_hours_ahead_hides_nothing(make_room: MakeRoom) -> None:
    here = make_room(me="here")
    jobs = [await here.begin_job(f"job-{number}") for number in range(2)]
    await here.registry.read_changes()
    await here.engine.write(lambda c: end(c, jobs[0].key, 1, here.wall() + 7200, 3600, failed=False))
    await here.registry.read_changes()
    here.seconds += 1.0
    await here.engine.write(lambda c: end(c, jobs[1].key, 1, here.wall(), 3600, failed=False))
    await here.registry.read_changes()
    assert [job.is_running for job in jobs] == [False, False]


async def test_more_changes_than_are_heard_at_once_are_all_heard(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them within the overlap: who only went by the last one heard would hear the same ones for ever."""
    for module in ("gateway.ledger.jobs", "gateway.jobs.registry"):
        monkeypatch.setattr(f"{module}.MAX_HEARD_ROWS", 3)
    here = make_room(me="here")
    jobs = [await here.begin_job(f"job-{number}") for number in range(10)]
    await here.registry.read_changes()
    for number, job in enumerate(jobs):
        at = here.wall() + 0.005 * (number // 2)
        await here.engine.write(lambda c, job=job, at=at: end(c, job.key, 1, at, 3600, failed=False))  # type: ignore[misc]
    await here.registry.read_changes()
    assert not any(job.is_running for job in jobs)
    for number in range(10, 14):
        jobs.append(await here.begin_job(f"job-{number}"))
        at = here.wall() + 0.001 * number
        await here.engine.write(lambda c, job=jobs[-1], at=at: end(c, job.key, 1, at, 3600, failed=False))  # type: ignore[misc]
    await here.registry.read_changes()
    assert not any(job.is_running for job in jobs)


class Learning:
    """What a registry learns, by the iteration of the loop, and what it asks the ledger."""

    def __init__(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        self.iteration = 0
        self.learned: Counter[int] = Counter()
        self.rows: list[int] = []
        learn, changed = room.registry.apply_row, changed_since

        def learning(row: Any) -> Job | None:
            self.learned[self.iteration] += 1
            return learn(row)

        def reading(connection: Connection, milliseconds: int) -> list[Row[Any]]:
            rows = changed(connection, milliseconds)
            self.rows.append(len(rows))
            return rows

        monkeypatch.setattr(room.registry, "apply_row", learning)
        monkeypatch.setattr(registry, "changed_since", reading)

    async def during(self, call: Awaitable[Any]) -> None:
        """Counts iterations while a call runs."""
        calling = asyncio.ensure_future(call)
        while not calling.done():
            self.iteration += 1
            await asyncio.sleep(0)
        await calling


async def ended_elsewhere(room: Room, count: int) -> list[Job]:
    taken = [await room.begin_job(f"job-{number}") for number in range(count)]
    await room.registry.read_changes()
    for number, job in enumerate(taken):
        at = room.wall() + 0.005 * number
        await room.engine.write(lambda c, job=job, at=at: end(c, job.key, 1, at, 3600, failed=False))  # type: ignore[misc]
    return taken


async def test_what_was_heard_is_not_learned_again(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """All changes of ten seconds were learned again each second: 25 ms for 1500 jobs."""
    here = make_room(me="here")
    taken = await ended_elsewhere(here, 5)
    learning = Learning(here, monkeypatch)
    for _ in range(3):
        here.seconds += 1.0
        await here.registry.read_changes()
    assert learning.learned.total() == 5
    assert not any(job.is_running for job in taken)


async def test_in_quiet_nothing_is_read_again(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing happened since, the last changes were read each second, for ever."""
    here = make_room(me="here")
    await ended_elsewhere(here, 5)
    learning = Learning(here, monkeypatch)
    for _ in range(30):
        here.seconds += 1.0
        await here.registry.read_changes()
    assert len(learning.rows) == 1
    for _ in range(20):
        here.seconds += 1.0
        await here.failover.beat()  # something changes, though no job does
        await here.registry.read_changes()
    assert learning.rows[-9:] == [0] * 9


async def test_many_changes_are_learned_in_portions(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PORTION", 2)
    here = make_room(me="here")
    taken = await ended_elsewhere(here, 9)
    learning = Learning(here, monkeypatch)
    await learning.during(here.registry.read_changes())
    assert learning.learned.total() == 9
    assert max(learning.learned.values()) <= 2
    assert not any(job.is_running for job in taken)


async def test_what_is_heard_before_the_ledger_goes_away_is_told_once_it_is_back(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.ledger.jobs", "gateway.jobs.registry"):
        monkeypatch.setattr(f"{module}.MAX_HEARD_ROWS", 3)
    here = make_room(me="here")
    taken = await ended_elsewhere(here, 5)
    read, reads = here.faulty.read, []

    async def reading(work: Any, *, in_turn_of: str = "") -> Any:
        reads.append(work)
        if len(reads) == 2:
            raise LedgerUnavailable("away")
        return await read(work, in_turn_of=in_turn_of)

    monkeypatch.setattr(here.faulty, "read", reading)
    with pytest.raises(LedgerUnavailable):
        await here.registry.read_changes()
    assert {job for job, _ in await here.registry.read_changes()} == set(taken)
