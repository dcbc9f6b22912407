"""Polls that are held: woken once, by the end, the time, or a drain; one question serves all that wait."""

import asyncio
from itertools import pairwise

import pytest

import gateway.jobs.watcher
from gateway.aio.drive import Drive
from gateway.aio.iteration import MAX_SECONDS, Iteration
from gateway.errors import ClientGone, Refused
from gateway.jobs.long_polls import LongPolls
from gateway.limits.job_cost import Known
from gateway.model.reasons import Reason
from gateway.upstream.job_api import Finding, Said
from gateway.upstream.response_head import read_answer_head
from tests.jobs.conftest import MakeRoom
from tests.support.room import OWNER, RUNS, Container, Held, Room, ended
from tests.support.waiting import eventually


@pytest.fixture(params=["sqlite"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: object) -> str:
    """One engine: what is held is held in memory."""
    return f"{request.param}:///{tmp_path}/ledger.db"


@pytest.fixture(autouse=True)
def _kept_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is kept for as long as a slow machine needs to look at it."""
    monkeypatch.setattr(gateway.jobs.watcher, "KEPT", 60.0)


def is_forgotten(room: Room) -> bool:
    return len(room.long_polls) == 0


async def test_the_end_lets_go_on_at_once(room: Room, container: Container) -> None:
    job = await room.begin_job()
    held = [room.hold(job) for _ in range(3)]
    await room.turn()
    assert (len(room.long_polls), [one.is_over for one in held]) == (3, [False] * 3)
    container.says["job"] = ended()
    await room.turn(0.1)
    await eventually(lambda: all(one.is_over for one in held))
    assert [(one.times, one.error) for one in held] == [(1, None)] * 3
    assert is_forgotten(room)
    assert not job.waiters
    assert job.answer is not None
    assert job.answer[1] == ended()
    assert container.asked["job"] == 2


async def test_a_job_that_has_ended_is_not_waited_for(room: Room, container: Container) -> None:
    job = await room.begin_job()
    container.says["job"] = ended()
    await room.turn(1.0)
    assert room.hold(job).is_over
    assert is_forgotten(room)
    assert container.asked["job"] == 1


async def test_the_time_lets_go_on_with_what_was_said_last(room: Room, container: Container) -> None:
    job = await room.begin_job()
    long, short = room.hold(job), room.hold(job, 0.05)
    await room.turn()
    await eventually(lambda: short.is_over)
    assert (short.times, short.error, long.is_over, len(room.long_polls)) == (1, None, False, 1)
    assert job.is_running
    assert job.answer is not None
    assert job.answer[1] == RUNS
    long.leave()
    assert is_forgotten(room)
    assert container.asked["job"] == 1


async def test_one_that_leaves_is_forgotten_at_once(room: Room) -> None:
    job = await room.begin_job()
    held = [room.hold(job) for _ in range(3)]
    held[1].leave()
    assert isinstance(held[1].error, ClientGone)
    assert (len(room.long_polls), len(job.waiters)) == (2, 2)
    job.end(room.wall() + 10)
    held[2].leave()  # woken, but not let go on yet
    await eventually(lambda: held[0].is_over)
    assert [one.times for one in held] == [1, 0, 0]
    assert is_forgotten(room)


async def test_a_drain_lets_all_go_on_and_none_wait(room: Room) -> None:
    jobs = [await room.begin_job(f"job-{number}") for number in range(3)]
    held = [room.hold(job) for job in jobs for _ in range(100)]
    room.long_polls.drain()
    await eventually(lambda: all(one.is_over for one in held))
    assert {(one.times, one.error) for one in held} == {(1, None)}
    assert is_forgotten(room)
    assert room.hold(jobs[0]).is_over
    assert all(job.is_running for job in jobs)


async def test_whatever_comes_together_wakes_once(room: Room) -> None:
    job = await room.begin_job()
    held = [room.hold(job, 0.0) for _ in range(50)]
    await asyncio.sleep(0)
    room.long_polls.drain()
    job.end(room.wall() + 10)
    room.long_polls.drain()
    await eventually(lambda: all(one.is_over for one in held))
    for _ in range(5):
        await asyncio.sleep(0)
    assert [one.times for one in held] == [1] * 50
    assert repr(room.long_polls) == "<LongPolls draining waiting=0>"
    assert is_forgotten(room)


async def test_many_that_go_on_share_the_iteration_of_all(room: Room) -> None:
    """Each has an answer to write: no more go on at once than there is time for, the peers in turn."""
    job, now, over = await room.begin_job(), [0.0], list[str]()
    iteration = Iteration(lambda: now[0], asyncio.get_running_loop().call_soon)
    long_polls = LongPolls(room.watcher, iteration)

    async def poll(peer: str) -> None:
        await long_polls.until_ended(job, 60.0, peer)
        now[0] += MAX_SECONDS / 4
        over.append(peer)

    drives = [Drive(poll(peer), lambda _: None) for peer in ["many"] * 50 + ["one"]]
    for drive in drives:
        drive.step()
    job.end(room.wall() + 10)
    assert over == []
    counts = list[int]()
    while len(over) < len(drives):
        await asyncio.sleep(0)
        counts.append(len(over))
    assert max(later - earlier for earlier, later in pairwise([0, *counts])) == 4
    assert "one" in over[:2]


async def test_a_thousand_that_wait_cost_one_question(room: Room, container: Container) -> None:
    job = await room.begin_job()
    held = []
    for count in range(1, 11):
        held += [room.hold(job) for _ in range(100)]
        await room.turn()
        assert container.asked["job"] == count
        await room.turn(0.05)
        assert container.asked["job"] == count
        room.seconds += 0.051
    assert job.ticket < 20  # a date is not set for each of them
    container.says["job"] = ended()
    await room.turn()
    await eventually(lambda: all(one.is_over for one in held))
    assert container.asked["job"] == 11
    assert job.answer is not None
    assert is_forgotten(room)


async def test_a_waiter_costs_no_task(room: Room) -> None:
    job = await room.begin_job()
    before = len(asyncio.all_tasks())
    held = [room.hold(job) for _ in range(200)]
    assert len(asyncio.all_tasks()) == before
    job.end(room.wall() + 10)
    await eventually(lambda: all(one.is_over for one in held))


async def test_a_job_that_was_deleted_meanwhile_is_nobodys(room: Room) -> None:
    job = await room.begin_job()
    held = room.hold(job)
    room.completion.forget(job)
    await room.quiet()
    await eventually(lambda: held.is_over)
    assert isinstance(held.error, Refused)
    assert held.error.denial.reason is Reason.JOB_NOT_FOUND
    with pytest.raises(Refused):
        await room.registry.owned("default", "job", OWNER)


async def test_what_said_that_it_runs_is_not_said_after_its_end(room: Room, container: Container) -> None:
    """Another client's own poll has seen the end: the last answer to a question of ours is older."""
    job = await room.begin_job()
    held = room.hold(job)
    await room.turn()
    before = job.answer
    watch = room.findings.watch(job)
    watch.begin(read_answer_head(200, b"", [], http_1_1=True, bodiless=False))
    watch.take(ended())
    await watch.end()
    assert (before is None, job.answer) == (False, None)
    container.gate = asyncio.Event()
    await room.quiet()
    await eventually(lambda: held.is_over)
    assert (job.is_running, job.answer) == (False, None)
    container.gate.set()


async def test_an_answer_that_was_asked_for_before_the_end_is_not_kept(room: Room, container: Container) -> None:
    job = await room.begin_job()
    container.gate = asyncio.Event()
    held = room.hold(job)
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 1)
    room.faulty.faults = ["before"]  # so that it is waited for on
    room.findings.apply(job, Finding(Said.COMPLETE), is_own=False)
    await eventually(lambda: "running=0" in repr(room.background))
    container.gate.set()
    await room.quiet()
    assert (job.known, job.answer, held.is_over) == (Known.COMPLETE, None, False)
    container.says["job"] = ended()
    room.seconds += 0.1
    room.watcher.ask_due()  # the ledger hears of the end by this answer, not before it
    await eventually(lambda: held.is_over)
    assert job.answer is not None
    assert job.answer[1] == ended()
    await room.quiet()


async def test_the_final_answer_stays_for_its_moment(
    room: Room, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is let go a while after it came: the one before must not take the final one with it."""
    monkeypatch.setattr(gateway.jobs.watcher, "KEPT", 0.2)
    job = await room.begin_job()
    held = [room.hold(job)]
    await room.turn()
    first = job.answer
    assert first is not None
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    loop.call_later(0.21, gone.set_result, None)
    container.says["job"] = ended()
    loop.call_later(0.1, held.append, Held(room.long_polls, job, 60))
    await eventually(lambda: len(held) == 2)
    await room.turn(0.1)
    final = job.answer
    assert final is not None
    assert final[1] == ended()
    await gone
    assert job.answer is final
    await eventually(lambda: job.answer is None)


async def test_a_large_answer_is_not_kept(room: Room, container: Container) -> None:
    job = await room.begin_job()
    held = room.hold(job)
    container.says["job"] = ended(markdown="x" * 70_000)
    await room.turn()
    await eventually(lambda: held.is_over)
    assert (job.is_running, job.answer) == (False, None)


async def test_nobody_waits_and_nothing_is_kept(room: Room, container: Container) -> None:
    job = await room.begin_job()
    await room.turn(1.0)
    assert job.answer is None
    container.says["job"] = ended()
    await room.turn(1.0)
    assert job.answer is None


async def test_a_ledger_that_is_away_at_the_end_is_waited_for(room: Room, container: Container) -> None:
    job = await room.begin_job()
    held = room.hold(job)
    container.says["job"] = ended()
    room.faulty.is_away = True
    for _ in range(3):
        await room.turn(0.1)
    assert (held.is_over, job.is_running) == (False, True)
    assert job.answer is not None  # who is let go on by the time has it
    room.faulty.is_away = False
    await room.turn(0.1)
    await eventually(lambda: held.is_over)
    assert await room.used() == (4, 6, 0)


async def test_waiters_of_one_job_do_not_wake_those_of_another(make_room: MakeRoom, container: Container) -> None:
    room = make_room()
    one, other = await room.begin_job("one"), await room.begin_job("other")
    waits, goes = room.hold(one), room.hold(other)
    container.says["other"] = ended()
    await room.turn()
    await eventually(lambda: goes.is_over)
    assert not waits.is_over
    assert len(room.long_polls) == 1
    waits.leave()
