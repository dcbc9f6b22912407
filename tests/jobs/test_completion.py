"""What status answers say of a job's end: told to the ledger in the background, once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest

from gateway.errors import Refused
from gateway.jobs.job import Job
from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.schema import DeliveryState, JobState, deliveries
from gateway.limits.job_cost import Facts, Known
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from gateway.upstream.job_api import Finding, Said
from tests.jobs.conftest import MakeRoom
from tests.support.endings import settle
from tests.support.ledgers import NOON, rows_of
from tests.support.polls import head, poll, says
from tests.support.room import OWNER, PAGES, Room, ended


@pytest.mark.parametrize(("answer", "used"), [(ended(4), (4, 6, 0)), (ended(None), (PAGES, 0, 0))])
async def test_what_was_given_back_by_mistake_is_charged_when_the_truth_comes(
    room: Room, answer: bytes, used: tuple[int, int, int]
) -> None:
    """Such as an upstream whose proxy answered 404 for a while."""
    job = await room.begin_job()
    for _ in range(2):
        room.seconds += 1.0
        await poll(room, job, of=head(404), is_own=True)
    assert await room.used() == (0, PAGES, 1)
    expires_at = job.expires_at
    room.faulty.faults = ["before"]
    await poll(room, job, answer)  # the ledger does not hear of it
    assert await room.used() == (0, PAGES, 1)
    for _ in range(3):
        room.completion.retry_pending()
        await room.quiet()
    assert await room.used() == used
    assert room.hooks.settled == [(OWNER, 0, PAGES), (OWNER, used[0], 0)]
    assert (await room.state_of(), job.expires_at, (await room.row()).expires_at) == (
        JobState.COMPLETE,
        expires_at,
        expires_at,
    )


async def test_another_replica_hears_of_the_truth(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    await here.registry.read_changes()
    here.completion.add_facts(job, Facts(Known.FAILED))
    await here.quiet()
    other = await there.registry.owned(*job.key, OWNER)
    assert other.is_open
    there.seconds = here.seconds = here.seconds + 2.0
    assert (await says(there, other, status="complete", page_count=4)).is_final
    await here.registry.read_changes()
    assert Known.COMPLETE in job.known
    assert (await here.used())[0] == 4


async def test_one_that_was_given_up_has_its_pages_back_when_it_says_that_it_failed(room: Room) -> None:
    job = await room.begin_job()
    room.completion.add_facts(job, Facts(Known.GIVEN_UP))
    await room.quiet()
    assert (await room.used(), await room.state_of()) == ((PAGES, 0, 0), JobState.FAILED)
    await says(room, job, status="failed")
    assert await room.used() == (0, PAGES, 1)
    writes = room.faulty.writes
    await says(room, job, status="failed")
    assert room.faulty.writes == writes
    await says(room, job, status="complete", page_count=4)
    assert (await room.used())[0] == 4


async def test_a_failure_that_costs_what_was_reserved_is_charged(room: Room) -> None:
    room.configure(shapes={"default": {"failed_costs": "reserved"}})
    failed, gone = await room.begin_job("failed"), await room.begin_job("gone")
    assert (await says(room, failed, status="failed")).is_final
    await lost(room, gone)
    assert failed.is_running is False
    assert await room.state_of("failed") is JobState.FAILED
    assert await room.used() == (2 * PAGES, 0, 0)
    await says(room, failed, status="failed")
    assert await room.used() == (2 * PAGES, 0, 0)
    await says(room, failed, status="complete", page_count=4)
    assert await room.used() == (PAGES + 4, PAGES - 4, 0)


async def lost(room: Room, job: Job) -> None:
    """The container answers twice that it does not know the job."""
    for _ in range(2):
        room.findings.count_miss(job)
        room.seconds += 2
    await room.quiet()
    assert not job.is_running


async def fails(room: Room, job: Job) -> None:
    await says(room, job, status="failed")


@pytest.mark.parametrize("end", [lost, fails])
@pytest.mark.parametrize("is_first", [True, False])
async def test_what_was_taken_of_a_job_without_a_good_end_is_charged_whenever_that_was(
    make_room: MakeRoom, end: Callable[[Room, Job], Awaitable[None]], is_first: bool
) -> None:
    """The open-source container goes on with the other chunks of a document, and serves what they made."""
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    other = await there.registry.owned(*job.key, OWNER)
    if is_first:
        there.completion.mark_taken(other)
        await there.quiet()
    await end(here, job)
    if not is_first:
        assert await here.used() == (0, PAGES, 1)
        there.completion.mark_taken(other)
        await there.quiet()
    for _ in range(2):
        assert await here.used() == (PAGES, 0, 0)
        here.completion.mark_taken(job)
        there.completion.mark_taken(other)
        await here.quiet()
        await there.quiet()
    assert await here.state_of() is JobState.FAILED
    await says(there, other, status="complete", page_count=3)
    assert await here.used() == (3, PAGES - 3, 0)


@pytest.mark.parametrize("end", [lost, fails])
async def test_what_was_taken_until_after_it_was_deleted_is_charged(
    room: Room, end: Callable[[Room, Job], Awaitable[None]]
) -> None:
    """A download that began before may end later."""
    job = await room.begin_job()
    await end(room, job)
    await room.completion.forget_now(job)
    assert await room.used() == (0, PAGES, 1)
    room.completion.mark_taken(job)
    await room.quiet()
    assert (await room.used(), job.is_gone) == ((PAGES, 0, 0), True)
    assert await room.state_of() is JobState.GONE


async def test_what_could_not_be_forgotten_is_when_the_ledger_is_told_of_its_end(room: Room) -> None:
    job = await room.begin_job()
    room.faulty.is_away = True
    room.findings.apply(job, Finding(Said.COMPLETE, 3), is_own=False)
    room.completion.forget(job)
    await room.quiet()
    room.faulty.is_away = False
    room.completion.retry_pending()
    await room.quiet()
    assert await room.state_of() is JobState.GONE
    assert await room.used() == (3, PAGES - 3, 0)


async def test_the_pages_of_a_failure_are_none_of_a_good_end(room: Room) -> None:
    job = await room.begin_job()
    room.faulty.is_away = True
    await says(room, job, status="failed", page_count=0)
    room.findings.apply(job, Finding(Said.COMPLETE, 4), is_own=False)
    await room.quiet()
    room.faulty.is_away = False
    room.completion.retry_pending()
    await room.quiet()
    assert await room.used() == (4, PAGES - 4, 0)


async def test_what_is_pending_of_another_one_with_the_same_id_is_not_written_of_this_one(room: Room) -> None:
    job = await room.begin_job()
    room.faulty.is_away = True
    old = Job(JobRef(*job.key, "old"), OWNER, job.shape, job.path, job.created_at - 100)
    room.completion.add_facts(old, Facts(Known.COMPLETE, 1))
    await room.quiet()
    room.completion.mark_taken(job)
    await room.quiet()
    room.faulty.is_away = False
    room.completion.retry_pending()
    await room.quiet()
    assert (job.known, job.is_running, await room.used()) == (Known.TAKEN, True, (0, 0, 0))
    assert "pending=0" in repr(room.completion)


async def test_what_two_replicas_learn_of_one_job_is_no_question_of_who_was_first(make_room: MakeRoom) -> None:
    """One still believes that it runs, and hears its good end, when the other has just lost it, or given it up."""
    here, there = make_room(me="here"), make_room(me="there")
    for number, known in enumerate((Known.LOST, Known.GIVEN_UP, Known.FAILED)):
        job = await here.begin_job(f"job-{number}")
        other = await there.registry.owned(*job.key, OWNER)
        there.completion.add_facts(other, Facts(known))
        await there.quiet()
        assert job.is_running
        before = await here.used()
        await says(here, job, status="complete", page_count=3)
        assert (job.is_running, Known.COMPLETE in job.known) == (False, True)
        assert await here.state_of(f"job-{number}") is JobState.COMPLETE
        assert (await here.used())[0] - before[0] in (3, 3 - PAGES)
    assert (await here.used())[0] == 9


async def test_a_failure_is_judged_by_the_shape_in_force_too(room: Room) -> None:
    job = await room.begin_job()
    room.configure(shapes={"default": {"failed_costs": "reserved"}})
    await says(room, job, status="failed")
    assert await room.used() == (PAGES, 0, 0)


async def test_one_that_was_given_up_costs_what_it_had_when_it_says_so(room: Room) -> None:
    job = await room.begin_job()
    room.completion.add_facts(job, Facts(Known.GIVEN_UP))
    await room.quiet()
    await says(room, job, status="complete", page_count=4)
    assert await room.used() == (4, 6, 0)
    assert await room.state_of() == JobState.COMPLETE


async def test_a_truth_that_came_with_the_result_that_was_forgotten_then_is_charged(room: Room) -> None:
    job = await room.begin_job()
    room.completion.add_facts(job, Facts(Known.FAILED))
    await room.quiet()
    room.findings.apply(job, Finding(Said.COMPLETE, 4), is_own=False)
    room.completion.forget(job)
    await room.quiet()
    assert (await room.used())[0] == 4
    assert await room.state_of() == JobState.GONE


async def test_one_that_ends_twice_at_once_is_told_of_once(room: Room) -> None:
    job = await room.begin_job()
    for pages in range(20):
        room.completion.add_facts(job, Facts(Known.COMPLETE, pages))
    await room.quiet()
    assert await room.used() == (0, PAGES, 0)
    assert len(room.hooks.settled) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_what_could_not_be_told_is_told_again(room: Room, fault: str) -> None:
    job = await room.begin_job()
    room.faulty.faults = [fault]
    await says(room, job, status="complete", page_count=4)
    assert (job.is_running, room.hooks.settled) == (True, [])
    assert "pending=1" in repr(room.completion)
    room.completion.retry_pending()
    await room.quiet()
    assert not job.is_running
    assert "pending=0" in repr(room.completion)
    assert await room.used() == (4, 6, 0)


async def test_forgotten_is_forgotten_with_what_it_cost(room: Room) -> None:
    """The result was read, and may be deleted before the ledger knows that it had ended."""
    job = await room.begin_job()
    room.completion.add_facts(job, Facts(Known.COMPLETE, 3))
    room.completion.forget(job)
    assert job.is_gone
    await room.quiet()
    assert await room.state_of() == JobState.GONE
    assert await room.used() == (3, 7, 0)
    assert room.hooks.settled == [(OWNER, 3, 7)]
    room.completion.forget(job)
    await room.quiet()
    assert await room.used() == (3, 7, 0)


async def test_forgotten_while_it_ends_is_nobodys(room: Room) -> None:
    job = await room.begin_job()
    room.findings.apply(job, Finding(Said.COMPLETE, 3), is_own=False)
    room.completion.forget(job)
    await room.quiet()
    assert job.is_gone
    assert await room.state_of() == JobState.GONE
    assert await room.used() == (3, 7, 0)


async def test_a_ledger_that_is_away_does_not_bring_it_back(room: Room) -> None:
    job = await room.begin_job()
    room.faulty.is_away = True
    room.completion.forget(job)
    await room.quiet()
    room.faulty.is_away = False
    assert room.registry.apply_row(await room.row()) is job
    assert job.is_gone


async def test_a_look_up_that_was_under_way_when_it_was_forgotten_does_not_bring_it_back(room: Room) -> None:
    """What the ledger said before it was told arrives after that."""
    job = await room.begin_job()
    go, inner = asyncio.Event(), room.faulty.engine

    class Late:
        write = inner.write
        guarded = inner.guarded
        report = inner.report
        close = inner.close

        async def read(self, work: Any, *, in_turn_of: str = "") -> Any:
            found = await inner.read(work, in_turn_of=in_turn_of)
            await go.wait()
            return found

    room.completion.forget(job)
    room.faulty.engine = Late()
    asked = [asyncio.ensure_future(room.registry.owned(*job.key, OWNER)) for _ in range(2)]
    await room.quiet()
    go.set()
    for task in asked:
        with pytest.raises(Refused):
            await task
    room.faulty.engine = inner
    with pytest.raises(Refused):
        await room.registry.owned(*job.key, OWNER)


async def test_a_job_that_was_settled_before_only_ends(room: Room) -> None:
    job = await room.begin_job()
    row = await room.row()
    await room.engine.write(lambda c: settle(c, row.account, row.reservation, 3, room.wall(), failed=False))
    assert (await says(room, job, status="complete", page_count=4)).is_final
    assert (job.is_running, room.ended, room.hooks.settled) == (False, 1, [])
    assert await room.used() == (3, 7, 0)


async def test_its_webhook_is_due_at_its_end_and_none_when_it_was_deleted_before(room: Room) -> None:
    for number in ("1", "2", "3"):
        job = await room.begin_job(number)
        webhook = Planned(number, *job.key, OWNER, "https://a.test/", "a.test:443", None)
        await room.engine.write(lambda c, webhook=webhook: plan(c, webhook, NOON))  # type: ignore[misc]
        if number == "1":
            await says(room, job, status="complete")
        elif number == "2":
            await says(room, job, status="failed")
        else:
            room.completion.forget(job)
        await room.quiet()
    rows = await room.engine.read(lambda c: rows_of(c, deliveries))
    found = [(row["id"], row["state"], row["status"]) for row in rows]
    assert found == [("1", DeliveryState.DUE, "complete"), ("2", DeliveryState.DUE, "failed")]


@pytest.mark.parametrize("has_ended", [True, False])
async def test_what_its_owner_deletes_is_nobodys_at_once_and_charged(room: Room, has_ended: bool) -> None:
    job = await room.begin_job()
    if has_ended:
        await says(room, job, status="complete", page_count=4)
    await room.completion.forget_now(job)
    assert job.is_gone
    assert await room.state_of() == JobState.GONE
    assert await room.used() == ((4, 6, 0) if has_ended else (PAGES, 0, 0))
    assert room.hooks.settled == ([(OWNER, 4, 6)] if has_ended else [(OWNER, PAGES, 0)])
    with pytest.raises(Refused):
        await room.registry.owned(*job.key, OWNER)
    with pytest.raises(Refused) as again:  # only one of two may go on to the upstream
        await room.completion.forget_now(job)
    assert again.value.denial.reason is Reason.JOB_NOT_FOUND
    assert len(room.hooks.settled) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_deletion_of_unknown_outcome_is_refused_and_may_be_asked_for_again(room: Room, fault: str) -> None:
    job = await room.begin_job()
    room.faulty.faults = [fault]
    with pytest.raises(Refused) as caught:
        await room.completion.forget_now(job)
    assert caught.value.denial.reason is Reason.LEDGER_UNAVAILABLE
    assert await room.registry.owned(*job.key, OWNER) is job
    with suppress(Refused) if fault == "after" else nullcontext():  # then it was deleted: the id may be another's
        await room.completion.forget_now(job)
    assert job.is_gone
    assert await room.used() == (PAGES, 0, 0)


async def test_what_the_ledger_does_not_have_is_nobodys(room: Room) -> None:
    """Its file was replaced by an older one, say."""
    job = Job(JobRef("default", "another", "none"), OWNER, room.state.shapes["default"], "/a", NOON)
    room.registry.add(job)
    assert (await says(room, job, status="complete", page_count=4)).is_final
    assert job.is_gone
    assert room.registry.get(job.key) is None
