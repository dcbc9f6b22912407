"""The question to the upstream before a job is deleted."""

import asyncio

import pytest

import gateway.jobs.watcher
from gateway.errors import Refused
from gateway.limits.job_cost import Known
from gateway.model.reasons import Reason
from tests.jobs.conftest import MakeRoom
from tests.support.backend import Backend, Connection, silent
from tests.support.room import Container, Room, ended
from tests.support.waiting import eventually


async def test_a_question_before_a_deletion_has_the_next_free_slot(make_room: MakeRoom, container: Container) -> None:
    """It was left out while all slots were taken: a failed job cost as much as was reserved for it."""
    room = make_room(most_status_requests=2)
    container.gate = asyncio.Event()
    for number in range(20):
        await room.begin_job(f"job-{number}", "key:many")
    job = await room.begin_job("mine", "key:few")
    container.says["mine"] = ended(success=False)
    room.seconds += 1.5
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 2)
    asking = [asyncio.ensure_future(room.deletion_questions.ask(job)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert (room.status_queue.asked, container.asked["mine"]) == (2, 0)
    container.gate.set()
    await asyncio.gather(*asking)
    assert Known.FAILED in job.known
    assert list(container.asked).index("mine") < 4
    await room.quiet()


async def test_without_a_slot_in_time_a_deletion_is_refused(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.jobs.deletion_questions, "WITHIN", 0.1)
    room = make_room(most_status_requests=1)
    container.gate = asyncio.Event()
    await room.begin_job("other", "key:many")
    job = await room.begin_job("mine", "key:few")
    room.seconds += 1.5
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 1)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await room.deletion_questions.ask(job)
        assert caught.value.denial.reason is Reason.NO_ROOM
        assert caught.value.denial.retry_after == 5
    container.gate.set()
    await room.quiet()
    asked = container.asked["mine"]
    await room.deletion_questions.ask(job)
    assert container.asked["mine"] == asked + 1


async def test_a_question_that_waited_for_a_job_that_ended_is_not_asked(
    make_room: MakeRoom, container: Container
) -> None:
    room = make_room(most_status_requests=1)
    container.gate = asyncio.Event()
    await room.begin_job("other")
    job = await room.begin_job("mine", "key:few")
    room.seconds += 1.5
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 1)
    asking = asyncio.ensure_future(room.deletion_questions.ask(job))
    await asyncio.sleep(0)
    job.end(0)
    container.gate.set()
    await asking
    assert container.asked["mine"] == 0
    await room.quiet()


@pytest.mark.parametrize("is_before_a_deletion", [False, True])
async def test_a_long_answer_that_goes_on_coming_is_taken_to_its_end(
    room: Room, backend: Backend, monkeypatch: pytest.MonkeyPatch, is_before_a_deletion: bool
) -> None:
    monkeypatch.setattr(gateway.jobs.deletion_questions, "WITHIN", 0.3)
    monkeypatch.setattr(gateway.jobs.watcher, "WITHIN", 0.3)
    job = await room.begin_job()
    whole = ended(output="x" * 800_000)

    async def slow(connection: Connection) -> None:
        await connection.request()
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
        )
        for start in range(0, len(whole), 100_000):
            connection.send(whole[start : start + 100_000])
            await asyncio.sleep(0.1)
        await silent(connection)

    backend.script = slow
    if is_before_a_deletion:
        await room.deletion_questions.ask(job)
    else:
        room.seconds += 1.0
        room.watcher.ask_due()
    await eventually(lambda: Known.COMPLETE in job.known)
    await room.quiet()
