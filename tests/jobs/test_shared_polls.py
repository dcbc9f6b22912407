"""What one answer may serve: decided on values."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from unittest.mock import Mock

import pytest

from gateway.aio.drive import Drive
from gateway.aio.iteration import Iteration
from gateway.aio.waiters import CALLS_AT_ONCE
from gateway.jobs.job import Job
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.shared_polls import PATIENCE, AskingPoll, SharedPolls
from gateway.jobs.status_answer import MAX_CONTENT, MAX_HEADERS, Poll, RunningAnswer, StatusAnswer
from gateway.limits.job_cost import Known
from gateway.model.jobs import JobRef
from gateway.upstream.job_api import JobShape
from gateway.upstream.response_head import ResponseHead, read_answer_head
from gateway.upstream.target import UpstreamTarget
from tests.support.iteration import iteration_now
from tests.support.pure import at_once
from tests.support.waiting import eventually

TARGET = UpstreamTarget("http", "a", 1, "a:1", 1.0, 1.0, 1.0, "/", 60.0)
POLL = Poll.of(TARGET, "https://a.test", [(b"Accept", b"*/*")])
BARE = Poll.of(TARGET, "https://a.test", [])


def head(*headers: tuple[bytes, bytes]) -> ResponseHead:
    return read_answer_head(200, b"OK", list(headers), http_1_1=True, bodiless=False)


ANSWER = StatusAnswer.of_running(head(), b"{}")


@pytest.fixture
def job() -> Job:
    no: frozenset[str] = frozenset()
    shape = JobShape("default", "request_id", None, None, "{path}/{id}", "status", no, no, no, None, None, None)
    return Job(JobRef("default", "1", "r1"), "key:ci", shape, "/api/v1/marker", 0.0)


def test_an_answer_serves_what_is_alike() -> None:
    running = RunningAnswer(ANSWER, TARGET, POLL, 0.0)
    assert running.may_serve(POLL)
    assert running.may_serve(POLL._replace(headers=[(b"Accept", b"*/*")]))
    assert not running.may_serve(BARE)
    assert not running.may_serve(POLL._replace(origin="https://b.test"))
    assert not running.may_serve(POLL._replace(target=replace(TARGET)))  # as equal as a reload may make it


def test_our_own_answer_serves_all_of_one_configuration() -> None:
    running = RunningAnswer(ANSWER, TARGET, None, 0.0)
    assert running.may_serve(BARE._replace(origin=""))
    assert not running.may_serve(POLL._replace(target=replace(TARGET)))


@pytest.mark.parametrize(
    ("vary", "is_served"),
    [
        (b"," * 1022, True),
        (b"," * 1023, False),  # each name between commas costs time, for each poll: it counts as `*`
        (None, True),
        (b"Origin", True),
        (b"accept-language, cookie", True),
        (b"X, ACCEPT", False),
        (b"accept-encoding", False),
        (b"*", False),
    ],
)
def test_our_own_answer_serves_no_poll_with_a_header_that_it_depends_on(vary: bytes | None, is_served: bool) -> None:
    answer = StatusAnswer.of_running(head(*([] if vary is None else [(b"vary", b"x"), (b"vary", vary)])), b"{}")
    running = RunningAnswer(answer, TARGET, None, 0.0)
    lines = [(b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip")]
    assert running.may_serve(Poll.of(TARGET, "", lines)) is is_served
    assert not running.may_serve(Poll.of(TARGET, "", [*lines, (b"oRIGIN", b"https://app.test")]))


@pytest.mark.parametrize(
    ("vary", "is_kept"),
    [
        (b"Accept, Origin, Cookie", True),
        (b"X-Forwarded-Host, X-Forwarded-Proto", True),  # polls that are alike have the same
        (b"Accept, *", False),
        (b"x-gateway-KEY-id", False),
        (b"X-Forwarded-For", False),
        (b"X-Request-Id", False),
        (b"," * 1025, False),
    ],
)
def test_an_answer_is_kept_for_all_that_are_alike_or_for_nobody(job: Job, vary: bytes, is_kept: bool) -> None:
    """Keys of one owner, and addresses, are what the container sees otherwise of polls that are alike."""
    answer = StatusAnswer.of_running(head((b"vary", vary)), b"{}")
    AskingPoll(job, POLL, KeptAnswers(lambda: 10.0), 10.0).keep(answer, 10.0)
    assert (job.running_answer is not None) is is_kept


@pytest.mark.parametrize("name", [b"x-forwarded-host", b"X-Forwarded-Proto", b"x-forwarded-for", b"X-Gateway-Key-Id"])
def test_our_own_answer_serves_nobody_if_it_depends_on_what_only_clients_requests_have(name: bytes) -> None:
    answer = StatusAnswer.of_running(head((b"vary", b"accept, " + name)), b"{}")
    assert not RunningAnswer(answer, TARGET, None, 0.0).may_serve(BARE)


def test_our_own_answer_serves_nobody_if_it_depends_on_what_it_may_be() -> None:
    """We ask for JSON; a client without an Accept takes anything, and the container may give it something else."""
    answer = StatusAnswer.of_running(head((b"vary", b"Accept")), b"{}")
    assert not RunningAnswer(answer, TARGET, None, 0.0).may_serve(BARE)
    assert RunningAnswer(answer, TARGET, BARE, 0.0).may_serve(BARE)


def test_an_answer_with_a_cookie_is_for_who_asked_alone(job: Job) -> None:
    """Of two keys of an owner, or two strangers, one would have the other's."""
    answer = StatusAnswer.of_running(head((b"set-cookie", b"session=1"), (b"vary", b"Accept")), b"{}")
    AskingPoll(job, POLL, KeptAnswers(lambda: 10.0), 10.0).keep(answer, 10.0)
    assert job.running_answer is None
    assert not RunningAnswer(answer, TARGET, None, 0.0).may_serve(BARE)


async def test_an_answer_serves_for_its_time(job: Job) -> None:
    now = [10.0]
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 10.0), lambda: now[0])
    assert polls.find(job, POLL, 0.25) is None
    job.keep(RunningAnswer(ANSWER, TARGET, POLL, 10.0))
    now[0] = 10.1875
    assert polls.find(job, POLL, 0.25) is ANSWER
    now[0] = 10.25
    assert polls.find(job, POLL, 0.25) is None


@pytest.mark.parametrize("known", [Known.COMPLETE, Known.FAILED, Known.LOST, Known.GIVEN_UP])
async def test_an_end_drops_it_and_none_is_kept_after_it(job: Job, known: Known) -> None:
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 10.0), lambda: 10.0)
    for _ in range(2):
        job.keep(RunningAnswer(ANSWER, TARGET, POLL, 10.0))
        job.add_known(known)
        assert polls.find(job, POLL, 1.0) is None
    job.end(0)
    job.keep(RunningAnswer(ANSWER, TARGET, POLL, 10.0))
    assert job.running_answer is None


def test_what_is_long_is_not_kept(job: Job) -> None:
    for size in (MAX_CONTENT, MAX_CONTENT + 1):
        job.keep(RunningAnswer(ANSWER._replace(content=b"x" * size), TARGET, POLL, float(size)))
    assert job.running_answer is not None
    assert job.running_answer.at == MAX_CONTENT


def test_what_has_a_long_head_is_not_kept(job: Job) -> None:
    for size in (MAX_HEADERS, MAX_HEADERS + 1):
        long = head((b"x" * 10, b"y" * (size - 10)))
        job.keep(RunningAnswer(ANSWER._replace(head=long), TARGET, POLL, float(size)))
    assert job.running_answer is not None
    assert job.running_answer.at == MAX_HEADERS


async def test_one_question_is_known_at_a_time(job: Job) -> None:
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 10.0), lambda: 10.0)
    question = polls.begin(job, POLL)
    assert repr(question) == "<AskingPoll waiting=0>"
    assert polls.begin(job, BARE) is None
    other = AskingPoll(job, POLL, KeptAnswers(lambda: 10.0), 10.0)
    other.close()
    assert job.asking_poll is question
    assert question is not None
    question.keep(ANSWER, 10.0)
    question.close()
    question.close()
    assert (job.asking_poll, job.running_answer) == (None, RunningAnswer(ANSWER, TARGET, POLL, 10.0))


async def test_one_that_hangs_keeps_none_that_are_not_alike_from_sharing(job: Job) -> None:
    """It may hang for five minutes, in a container that a reload has replaced: each poll asked for itself."""
    now = [10.0]
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 1.0), lambda: now[0])
    first = polls.begin(job, POLL)
    assert first is not None
    now[0] += PATIENCE - 0.125
    assert polls.begin(job, BARE) is None
    now[0] += 0.125
    waiting = Drive(_wait(polls, job, []), lambda _: None)
    waiting.step()
    assert polls.begin(job, BARE) is None  # they would have no place to wait at
    waiting.interrupt(asyncio.CancelledError())
    second = polls.begin(job, BARE)
    assert second is not None
    assert polls.begin(job, POLL) is None
    first.close()
    assert job.asking_poll is second
    second.keep(ANSWER, now[0])
    second.close()
    assert polls.find(job, BARE, 1.0) is ANSWER


async def test_thousands_that_wait_for_an_answer_go_on_in_portions(job: Job) -> None:
    """To queue 10,000 of them for their turns in one piece held the loop for 14 ms."""
    queued = list[object]()
    iteration = Mock(Iteration)
    iteration.call_in_turn = lambda call, *_, **__: queued.append(call)
    asking, errors = AskingPoll(job, POLL, KeptAnswers(lambda: 10.0), 10.0), list[BaseException | None]()

    async def wait(peer: int) -> None:
        await asking.wait(iteration, peer)

    for peer in range(1000):
        Drive(wait(peer), errors.append).step()
    asking.close()
    counts = [0, len(queued)]
    while len(queued) < 1000:
        await asyncio.sleep(0)
        counts.append(len(queued))
    assert max(after - before for before, after in pairwise(counts)) == CALLS_AT_ONCE


async def test_whose_turn_comes_when_the_answer_is_too_old_waits_for_the_one_that_asks_anew(job: Job) -> None:
    """Of ten thousand that waited for one answer, eight thousand asked the container at once."""
    now = [10.0]
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 1.0), lambda: now[0])
    first = polls.begin(job, POLL)
    assert first is not None
    told: list[StatusAnswer | None] = []
    drives = [Drive(_wait(polls, job, told), lambda _: None) for _ in range(3)]
    for drive in drives:
        drive.step()
    first.keep(ANSWER, now[0])
    now[0] += 2.0  # others had their turns before
    again = polls.begin(job, POLL)
    first.close()
    assert again is None
    again = polls.begin(job, POLL)
    assert again is not None
    await eventually(lambda: repr(again) == "<AskingPoll waiting=3>")
    again.keep(ANSWER, now[0])
    again.close()
    await eventually(lambda: told == [ANSWER] * 3)


async def test_who_waits_for_an_answer_that_nobody_else_gets_asks_at_once(job: Job) -> None:
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 1.0), lambda: 10.0)
    first = polls.begin(job, POLL)
    assert first is not None
    told: list[StatusAnswer | None] = []
    Drive(_wait(polls, job, told), lambda _: None).step()
    first.close()
    assert polls.begin(job, POLL) is not None
    await eventually(lambda: told == [None])


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_nobody_waits_for_another_once_the_end_is_known(job: Job, is_recorded: bool) -> None:
    """Nobody's answer would be shared. The ledger may be away, and the job runs until it has that end."""
    polls = SharedPolls(iteration_now(), KeptAnswers(lambda: 1.0), lambda: 10.0)
    first = polls.begin(job, POLL)
    assert first is not None
    if is_recorded:
        job.end(0.0)
    else:
        job.add_known(Known.COMPLETE)
    assert at_once(polls.wait(job, POLL, 1.0, None)) is None


async def _wait(polls: SharedPolls, job: Job, told: list[StatusAnswer | None]) -> None:
    told.append(await polls.wait(job, POLL, 1.0, None))
