"""Jobs that nobody polls, followed to their end: how often they are asked about, how many at once, and by whom."""

import asyncio
import gc
import re
import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import gateway.jobs.watcher
from gateway.jobs.poll_interval import interval
from gateway.jobs.reading import StatusReader
from gateway.jobs.status_watch import StatusWatch
from gateway.ledger.schema import JobState
from gateway.ledger.watchers import adopt
from gateway.limits.job_cost import Facts, Known
from gateway.upstream.response_head import ResponseHead
from tests.jobs.conftest import MakeRoom
from tests.support.backend import Backend, Connection, answer
from tests.support.room import OWNER, PAGES, RUNS, Container, Room, ended, is_left_alone
from tests.support.waiting import DEADLINE, eventually


def _with_read_timeout(state: Any, seconds: float) -> Any:
    upstreams = {name: replace(target, read_timeout=seconds) for name, target in state.upstreams.items()}
    return replace(state, upstreams=upstreams)


@pytest.mark.parametrize(
    ("due", "now", "seconds"),
    [(5.0, 7.0, 0.0), (7.0, 7.0, 0.0), (7.001, 7.0, 0.02), (7.019, 7.0, 0.02), (7.09, 7.0, 0.1)],
)
def test_dates_of_a_grain_are_taken_up_together(due: float, now: float, seconds: float) -> None:
    assert gateway.jobs.watcher.time_to_wake(due, now) == pytest.approx(seconds, abs=0.0011)


async def test_a_job_is_asked_about_the_less_the_older_it_is(room: Room, container: Container) -> None:
    await room.begin_job()
    began, at = room.seconds, [0.0]
    while at[-1] < 900:
        room.seconds = room.watcher.next_due
        await room.turn()
        assert container.asked["job"] == room.status_queue.asked
        if container.asked["job"] == len(at):
            at.append(room.seconds - began)
    assert at[:3] == [0.0, 1.0, 2.0]
    for earlier, later in pairwise(at):
        assert interval(earlier, held=False) - 1e-6 <= later - earlier <= interval(later, held=False) + 1e-6
    assert at[-1] - at[-2] == pytest.approx(30.0)
    assert container.calls[0] == ("GET", "/api/v1/marker/job", b"")


@pytest.mark.parametrize(
    ("says", "state", "used"),
    [
        (ended(4), JobState.COMPLETE, (4, 6, 0)),
        (ended(None), JobState.COMPLETE, (10, 0, 0)),
        (ended(4, status="failed"), JobState.FAILED, (0, 10, 1)),
        (ended(4, success=False), JobState.FAILED, (0, 10, 1)),
        (ended(4, markdown="x" * 3_000_000), JobState.COMPLETE, (4, 6, 0)),
    ],
    ids=["complete", "unknown", "failed", "unsuccessful", "large"],
)
async def test_the_end_of_a_job_is_settled_and_starts_its_time(
    room: Room, container: Container, says: bytes, state: JobState, used: tuple[int, int, int]
) -> None:
    job = await room.begin_job()
    await room.turn(1.0)
    assert (job.is_running, await room.state_of()) == (True, JobState.RUNNING)
    container.says["job"] = says
    await room.turn(1.0)
    assert (job.is_running, job.expires_at) == (False, int(room.wall() + 3600))
    assert (await room.row()).expires_at == job.expires_at
    assert await room.state_of() == state
    assert await room.used() == used
    assert room.hooks.settled == [(OWNER, *used[:2])]
    assert await is_left_alone(room, container)
    assert room.watcher.behind == 0


async def test_a_clients_poll_puts_the_question_off(room: Room, container: Container) -> None:
    job = await room.begin_job()
    for _ in range(5):
        await room.turn(0.8)
        job.asked_at = room.seconds  # what forwarder.py notes of a poll
    assert container.asked["job"] == 0
    await room.turn(0.9)
    assert container.asked["job"] == 0
    await room.turn(0.1)
    assert container.asked["job"] == 1


async def test_questions_at_once_are_bounded_over_all_jobs(make_room: MakeRoom, container: Container) -> None:
    room = make_room(most_status_requests=3)
    container.gate = asyncio.Event()
    for number in range(10):
        await room.begin_job(f"job-{number}")
        room.seconds += 0.01
    room.seconds += 5.0
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 3)
    assert room.watcher.behind == pytest.approx(5.0 + 0.07 - 1.0)
    for _ in range(5):
        room.watcher.ask_due()
        await asyncio.sleep(0)
    assert (container.waiting, container.most, room.status_queue.asked) == (3, 3, 3)
    container.gate.set()
    await eventually(lambda: container.asked.total() == 10)
    await room.quiet()
    assert container.most == 3
    assert set(container.asked.values()) == {1}


async def test_many_held_polls_of_one_owner_delay_no_other_owners(make_room: MakeRoom, container: Container) -> None:
    """Slots were one queue: a held poll heard of its job's end up to nine seconds late."""
    room = make_room(most_status_requests=4)
    container.gate = asyncio.Event()
    held = [room.hold(await room.begin_job(f"job-{number}", "key:many")) for number in range(20)]
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 3)  # of four: one is left for the next owner
    held.append(room.hold(await room.begin_job("mine", "key:few")))
    await room.begin_job("later", "key:few")
    room.seconds += 1.5
    room.watcher.ask_due()
    assert room.status_queue.asked == 4
    await eventually(lambda: container.waiting == 4)
    container.gate.set()
    container.gate = asyncio.Event()
    await eventually(lambda: container.asked.total() == 8)
    assert {"mine", "later"} <= set(container.asked)
    container.gate.set()
    container.gate = None
    for one in held:
        one.leave()
    await room.quiet()


async def test_an_answer_is_as_old_as_its_head_however_late_the_rest_of_it_comes(
    room: Room, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls that share it would be told that the job runs, which was so when the container began to say it."""
    begun, goes_on, begin = asyncio.Event(), asyncio.Event(), StatusWatch.begin

    def noted(watch: StatusWatch, head: ResponseHead) -> None:
        begin(watch, head)
        begun.set()

    async def script(connection: Connection) -> None:
        await connection.request()
        head, mark, body = answer(RUNS).partition(b"\r\n\r\n")
        connection.send(head + mark)
        await goes_on.wait()
        connection.send(body)

    monkeypatch.setattr(StatusWatch, "begin", noted)
    backend.script = script
    job = await room.begin_job()
    room.seconds += 1.0
    room.watcher.ask_due()
    await begun.wait()
    began = room.clock()
    room.seconds += 5.0
    goes_on.set()
    await eventually(lambda: job.running_answer is not None)
    assert job.running_answer is not None
    assert job.running_answer.at == began


async def test_a_job_that_is_waited_for_is_asked_about_ten_times_a_second(room: Room, container: Container) -> None:
    job = await room.begin_job()
    await room.turn(0.5)
    held = room.hold(job)
    for count in range(1, 11):
        await room.turn()
        assert container.asked["job"] == count
        await room.turn(0.099)
        assert container.asked["job"] == count
        room.seconds += 0.001
    held.leave()
    await room.turn()  # this date was set while it was held
    await room.turn(0.89)
    assert container.asked["job"] == 10
    await room.turn(0.01)
    assert container.asked["job"] == 11


async def test_long_polls_of_some_jobs_put_no_question_about_others_off(room: Room, container: Container) -> None:
    """Each left an outdated date, which counted as a job: two keys made a third one's results 27 s late."""
    held_ones = [await room.begin_job(f"held-{number}") for number in range(3)]
    job = await room.begin_job()
    for _ in range(2_000):
        for one in held_ones:
            room.hold(one).leave()
    assert (room.watcher.dates, job.is_held) == (4, False)
    await room.turn(1.0)
    await room.turn()  # of outdated dates, too, only so many are taken up at once
    assert container.asked["job"] == 1


async def test_thousands_of_jobs_of_one_owner_make_no_other_owner_wait(room: Room, container: Container) -> None:
    """All jobs shared 200 questions a second: beside 4,000 of others a job's end was seen 15 s late."""
    for number in range(600):
        await room.begin_job(f"job-{number}", "key:many")
    await room.turn(1.0)
    mine = await room.begin_job("mine", "key:few")
    await room.turn(1.0)
    await room.turn(1.0)
    assert (mine.is_running, container.asked["mine"]) == (True, 2)
    assert container.asked["job-0"] == 1


async def test_one_job_of_each_of_many_owners_is_asked_about_no_more_often(room: Room, container: Container) -> None:
    """Each was asked about every second, however many there were: 1,500 owners brought 1,475 questions a second."""
    for number in range(600):
        await room.begin_job(f"job-{number}", f"key:{number}")
    for _ in range(7):
        await room.turn(1.0)
    assert 2 <= min(container.asked.values()) <= max(container.asked.values()) <= 3  # each 3 s


async def test_thousands_of_long_polls_of_one_owner_make_no_other_owner_wait(
    room: Room, container: Container
) -> None:
    many = [room.hold(await room.begin_job(f"job-{number}", "key:many")) for number in range(400)]
    mine = room.hold(await room.begin_job("mine", "key:few"))
    for _ in range(6):
        await room.turn(0.1)
    assert container.asked["mine"] >= 5
    for held in (*many, mine):
        held.leave()
    await room.turn(0.1)


async def test_without_a_turn_of_ours_its_timers_ask(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Room, "clock", lambda _: asyncio.get_running_loop().time())
    monkeypatch.setattr(gateway.jobs.watcher, "interval", lambda _, held, **_more: 0.01 if held else 0.02)
    room = make_room(most_status_requests=2)
    jobs = [await room.begin_job(f"job-{number}") for number in range(7)]
    await eventually(lambda: min(container.asked[job.request_id] for job in jobs) > 3)
    held = room.hold(jobs[0])
    await eventually(lambda: container.asked["job-0"] > 20)
    for job in jobs:
        container.says[job.request_id] = ended()
    await eventually(lambda: not any(job.is_running for job in jobs))
    await eventually(lambda: held.is_over)
    await room.quiet()
    await eventually(lambda: not room.watcher.dates)
    wakes_at = re.search(r"wakes_at=([\d.]+)", repr(room.watcher))
    assert wakes_at is None or float(wakes_at[1]) <= room.clock()


async def test_a_job_that_the_upstream_has_forgotten_has_failed(room: Room, container: Container) -> None:
    job = await room.begin_job()
    container.unknown.add("job")
    await room.turn(1.0)
    assert (job.is_running, job.misses) == (True, 1)
    await room.turn(1.0)
    assert not job.is_running
    assert await room.state_of() == JobState.FAILED
    assert await room.used() == (0, PAGES, 1)


async def test_a_job_that_was_not_known_for_a_moment_runs_on(room: Room, container: Container) -> None:
    job = await room.begin_job()
    for _ in range(3):
        container.unknown.add("job")
        await room.turn(1.0)
        container.unknown.clear()
        await room.turn(1.0)
    assert job.is_running
    container.says["job"] = ended()
    await room.turn(1.0)
    assert await room.used() == (4, 6, 0)


@pytest.mark.parametrize(
    "raw",
    [
        answer(b'{"status": "complete"}', status=b"500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n" + ended(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + ended(),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["500", "short", "framing", "ssh"],
)
async def test_what_is_no_answer_changes_nothing(make_room: MakeRoom, container: Container, raw: bytes) -> None:
    room = make_room()
    room.state = _with_read_timeout(room.state, 0.3)
    job = await room.begin_job()
    container.raw["job"] = raw
    for _ in range(3):
        await room.turn(1.0)
    assert job.is_running
    assert room.status_queue.asked == 3
    del container.raw["job"]
    room.state = _with_read_timeout(room.state, DEADLINE)
    container.says["job"] = ended()
    await room.turn(1.0)
    assert await room.used() == (4, 6, 0)


@pytest.mark.parametrize(
    "raw",
    [
        answer(b'{"status": "complete"}', status=b"302 Found"),
        answer(b'{"status": "complete"'),
        answer(b""),
        answer(b"[]"),
        answer(b"\x1f\x8b\x08", b"Content-Encoding: gzip"),
    ],
    ids=["302", "cut", "empty", "list", "gzip"],
)
async def test_what_cannot_be_read_is_asked_again_ever_more_seldom_and_is_never_free(
    room: Room, container: Container, raw: bytes
) -> None:
    job = await room.begin_job()
    container.raw["job"] = raw
    at = []
    while job.is_running:
        asked = room.status_queue.asked
        room.seconds = room.watcher.next_due
        await room.turn()
        if room.status_queue.asked > asked:
            at.append(room.seconds)
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert waits[:4] == pytest.approx([2.0, 4.0, 8.0, 16.0], rel=0.01)
    assert max(waits) <= 901
    assert len(at) < 120  # within a day
    assert await room.state_of() == JobState.FAILED
    assert await room.used() == (PAGES, 0, 0)


async def test_what_could_not_be_read_for_a_while_is_settled_when_it_can_be(room: Room, container: Container) -> None:
    job = await room.begin_job()
    container.raw["job"] = answer(b"[]")
    await room.turn(1.0)
    await room.turn(2.0)
    assert job.unread == 2
    del container.raw["job"]
    container.says["job"] = ended()
    await room.turn(4.0)
    assert (job.is_running, job.unread) == (False, 0)
    assert await room.used() == (4, 6, 0)


async def test_an_answer_that_is_cut_is_asked_for_ever_more_seldom(room: Room, container: Container) -> None:
    """The same 200 MB were fetched anew each second at first."""
    job = await room.begin_job()
    await room.turn(1.0)
    room.state = _with_read_timeout(room.state, 0.05)
    container.raw["job"] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
    container.raw["job"] += b" " * 1000
    await room.turn(1.0)
    assert (job.unread, room.findings.unreadable["cut"]) == (1, 1)
    assert room.watcher.next_due - room.seconds == pytest.approx(2.0, rel=0.01)
    room.state = _with_read_timeout(room.state, DEADLINE)
    del container.raw["job"]
    container.says["job"] = ended()
    await room.turn(2.0)
    assert not job.is_running
    assert await room.used() == (4, 6, 0)


async def test_of_a_coded_answer_no_more_is_read_than_is_undone(
    room: Room, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MB waited to be undone, of each answer that was asked for or polled at that time."""
    coding = zlib.compressobj(wbits=31)
    coded = coding.compress(b'{"a": "')
    block = coding.compress(b" " * 1_000_000) + coding.flush(zlib.Z_FULL_FLUSH)
    taken, waited, take = list[int](), list[int](), StatusReader.take

    def noted(reader: StatusReader, data: bytes) -> None:
        (waited if reader.is_behind else taken).append(len(data))
        take(reader, data)

    monkeypatch.setattr(StatusReader, "take", noted)
    await room.begin_job()
    container.raw["job"] = answer(coded + block * 2000, b"Content-Encoding: gzip")
    room.seconds += 1.0
    room.watcher.ask_due()
    await eventually(lambda: bool(room.findings.unreadable["too_large"]))
    assert sum(taken) > 1_000_000
    assert sum(waited) < 500_000


async def test_an_upstream_that_is_silent_holds_a_question_up_so_long_at_most(
    room: Room, container: Container
) -> None:
    """Its connection is made before, so that nothing but the answer is waited for so shortly."""
    job = await room.begin_job()
    await room.turn(1.0)
    room.state = _with_read_timeout(room.state, 0.05)
    container.gate = asyncio.Event()
    await room.turn(1.0)
    assert (job.is_running, room.status_queue.asked) == (True, 2)
    room.state = _with_read_timeout(room.state, DEADLINE)
    container.gate.set()
    container.says["job"] = ended()
    await room.turn(1.0)
    assert not job.is_running


async def test_an_upstream_that_is_away_is_asked_on_until_it_is_back(
    room: Room, container: Container, backend: Backend
) -> None:
    job = await room.begin_job()
    await room.turn(1.0)
    await backend.hang_up()
    for _ in range(5):
        await room.turn(1.0)
    assert (job.is_running, room.status_queue.asked) == (True, 6)
    container.says["job"] = ended()
    await backend.listen()
    await room.turn(1.0)
    assert await room.used() == (4, 6, 0)


async def test_an_upstream_that_is_configured_again_is_asked_again(room: Room, container: Container) -> None:
    there = {"staging": {"url": room.state.settings.upstream.url.replace("127.0.0.1", "localhost")}}
    room.configure(upstreams=there)
    job = await room.begin_job(upstream="staging")
    room.configure()
    for _ in range(3):
        await room.turn(1.0)
    assert (job.is_running, container.asked.total()) == (True, 0)
    room.configure(upstreams=there)
    container.says["job"] = ended()
    await room.turn(1.0)
    assert not job.is_running


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_runs_for_too_long_is_given_up(make_room: MakeRoom, container: Container, is_there: bool) -> None:
    del container
    room = make_room(give_up_after="1h")
    job = await room.begin_job()
    if not is_there:
        room.state = replace(room.state, upstreams={})
    await room.turn(3590.0)
    assert job.is_running
    await room.turn(30.0)
    assert await room.state_of() == JobState.FAILED
    assert await room.used() == (PAGES, 0, 0)
    assert not job.is_running


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_an_end_that_the_ledger_missed_is_asked_for_again(room: Room, container: Container, fault: str) -> None:
    job = await room.begin_job()
    container.says["job"] = ended()
    room.faulty.faults = [fault]
    await room.turn(1.0)
    assert (job.is_running, container.asked["job"]) == (True, 1)
    await room.turn(1.0)
    assert (job.is_running, container.asked["job"]) == (False, 2)
    assert job.expires_at == (await room.row()).expires_at
    assert await room.used() == (4, 6, 0)
    assert await is_left_alone(room, container)


async def test_a_long_outage_of_the_ledger_settles_once(room: Room, container: Container) -> None:
    jobs = [await room.begin_job(f"job-{number}") for number in range(5)]
    for job in jobs:
        container.says[job.request_id] = ended()
    room.faulty.is_away = True
    for _ in range(10):
        await room.turn(1.0)
    assert all(job.is_running for job in jobs)
    room.faulty.is_away = False
    await room.turn(1.0)
    assert not any(job.is_running for job in jobs)
    assert await room.used() == (20, 30, 0)


async def test_a_job_that_the_ledger_does_not_have_is_let_go(room: Room, container: Container) -> None:
    """Another ledger may lie where the old one was."""
    job = await room.begin_job()
    await room.engine.write(lambda c: c.exec_driver_sql("DELETE FROM jobs"))
    container.says["job"] = ended()
    await room.turn(1.0)
    assert job.is_gone
    assert room.registry.get(job.key) is None
    assert await is_left_alone(room, container)


async def test_what_another_replica_saw_end_has_ended_here(make_room: MakeRoom, container: Container) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    other = await there.registry.owned("default", "job", OWNER)
    container.says["job"] = ended()
    there.completion.add_facts(other, Facts(Known.COMPLETE, 7))
    await there.quiet()
    await here.turn(1.0)
    assert (job.is_running, job.expires_at) == (False, other.expires_at)
    assert Known.COMPLETE in job.known
    assert await here.used() == (7, 3, 0)
    assert here.registry.get(job.key) is job
    assert await is_left_alone(here, container)


async def test_a_job_is_followed_by_who_waits_for_it(make_room: MakeRoom, container: Container) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    job = await here.begin_job()
    await here.hear()
    await here.turn(1.0)
    other = await there.registry.owned("default", "job", OWNER)
    held = there.hold(other)
    await there.turn()
    assert (await there.row()).watcher == "there"
    assert there.status_queue.asked == 1
    await here.hear()
    assert not job.is_followed
    assert here.registry.get(job.key) is job
    assert await is_left_alone(here, container)
    there.seconds = here.seconds
    container.says["job"] = ended()
    await there.turn()
    assert held.is_over
    await here.hear()
    assert (job.is_running, job.expires_at) == (False, other.expires_at)


async def test_a_job_that_is_waited_for_here_is_not_let_go(make_room: MakeRoom, container: Container) -> None:
    room = make_room()
    job = await room.begin_job()
    await room.hear()
    held = room.hold(job)
    await room.turn()  # the question that a hold begins with is answered: the next one is due in 0.1 s
    await room.engine.write(lambda c: adopt(c, job.ref, "other", room.wall()))
    await room.hear()
    assert job.is_followed
    container.says["job"] = ended()
    await room.turn(0.1)
    await eventually(lambda: held.is_over)


async def test_an_adoption_that_the_ledger_missed_harms_nobody(make_room: MakeRoom, container: Container) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    await here.begin_job()
    other = await there.registry.owned("default", "job", OWNER)
    there.faulty.faults = ["before"]
    held = there.hold(other)
    await there.turn()
    assert (await there.row()).watcher == "here"
    container.says["job"] = ended()
    await there.turn(0.1)
    await here.turn(1.0)
    assert held.is_over
    assert await here.used() == (4, 6, 0)


async def test_a_job_is_not_adopted_by_who_waits_for_another_one_that_had_its_id(make_room: MakeRoom) -> None:
    here, there = make_room(me="here"), make_room(me="there")
    await there.begin_job()
    old = await here.registry.owned("default", "job", OWNER)
    await there.given_again("job", "key:other")
    held = here.hold(old)
    await here.quiet()
    assert (await here.row()).watcher == "there"
    held.leave()


async def test_a_job_that_fell_out_of_the_registry_is_one_job(make_room: MakeRoom, container: Container) -> None:
    room = make_room(most=2)
    jobs = [await room.begin_job(f"job-{number}") for number in range(5)]
    for job in jobs:
        assert await room.registry.owned("default", job.request_id, OWNER) is job
    held = [room.hold(job) for job in jobs]
    for job in jobs:
        container.says[job.request_id] = ended()
    await room.turn()
    assert [one.times for one in held] == [1] * 5
    assert set(container.asked.values()) == {1}
    assert await room.used() == (20, 30, 0)
    del held, job, jobs
    await room.turn(60.0)

    def remembered() -> int:
        gc.collect()
        return sum(room.registry.get(("default", f"job-{number}")) is not None for number in range(5))

    await eventually(lambda: remembered() == 2)  # the answer that was kept for those who waited is let go in a second


async def test_a_job_is_never_asked_about_twice_at_once(room: Room, container: Container) -> None:
    job = await room.begin_job()
    container.gate = asyncio.Event()
    room.seconds += 1.0
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 1)
    held = room.hold(job)
    job.is_followed = False
    room.watcher.begin(job)
    for _ in range(5):
        room.seconds += 1.0
        room.watcher.ask_due()
        await asyncio.sleep(0)
    assert (room.status_queue.asked, container.most) == (1, 1)
    container.says["job"] = ended()
    container.gate.set()
    await room.quiet()
    assert held.is_over


async def test_it_says_how_it_stands(room: Room, container: Container) -> None:
    def state() -> str:
        return re.sub(r" wakes_at=[\d.]+", " waits", repr(room.watcher))

    seen = [state()]
    await room.begin_job()
    seen.append(state())
    container.gate = asyncio.Event()
    room.seconds += 1.0
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 1)
    seen.append(state())
    container.gate.set()
    await room.quiet()
    seen.append(state())
    room.watcher.close()
    seen.append(state())
    assert seen == [
        "<Watcher dates=0 <StatusQueue asking=0 asked=0>>",
        "<Watcher waits dates=1 <StatusQueue asking=0 asked=0>>",
        "<Watcher dates=0 <StatusQueue asking=1 asked=1>>",
        "<Watcher waits dates=1 <StatusQueue asking=0 asked=1>>",
        "<Watcher closed dates=1 <StatusQueue closed asking=0 asked=1>>",
    ]


async def test_at_its_end_nothing_is_asked_and_nothing_is_left(room: Room, container: Container) -> None:
    container.gate = asyncio.Event()
    for number in range(5):
        await room.begin_job(f"job-{number}")
    room.seconds += 1.0
    room.watcher.ask_due()
    await eventually(lambda: container.waiting == 5)
    room.watcher.close()
    room.upstream_client.close()
    assert "running=0" in repr(room.upstream_client)
    assert "wakes_at" not in repr(room.watcher)
    room.watcher.hold(await room.begin_job("late"))
    assert "wakes_at" not in repr(room.watcher)
    container.gate.set()


async def test_the_answer_that_runs_is_known_again(room: Room, container: Container) -> None:
    job = await room.begin_job()
    assert not room.findings.unfinished.has(job, RUNS)
    await room.turn(1.0)
    assert room.findings.unfinished.has(job, RUNS)
    assert container.asked["job"] == 1
