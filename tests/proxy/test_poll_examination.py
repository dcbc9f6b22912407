"""What an answer to a poll said is noted with its request, and decides who has to ask again and who shares it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.jobs.status_answer import StatusAnswer
from gateway.jobs.status_watch import StatusWatch
from gateway.jobs.unfinished_answers import UnfinishedAnswers
from gateway.limits.job_cost import Known
from gateway.model.request import Delivery
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.poll_examination import PollExaminer, note_shared
from gateway.upstream.job_api import Finding, Said
from gateway.upstream.response_head import ResponseHead
from tests.support.orders import RESULT, job_in, order_of, state_of
from tests.support.polls import head
from tests.support.pure import at_once

NOW, BEFORE = 500.0, 400.0
ASSET = {"name": "a", "methods": ["GET"], "path": "/asset/{request_id}", "kind": "asset"}
POLL = {"name": "p", "methods": ["GET"], "path": "/api/v1/marker/{request_id}", "kind": "result"}


def says(**members: Any) -> bytes:
    return json.dumps(members).encode()


RUNS, ENDED, FAILED = says(status="processing"), says(status="complete", success=True), says(status="failed")


class Heard:
    """Who hears what answers mean, and the asking poll: both only write down what they are told."""

    def __init__(self, state: State) -> None:
        self.unfinished = UnfinishedAnswers(lambda: state)
        self.clock = lambda: NOW
        self.said: list[Said] = []
        self.kept: list[tuple[bytes, float]] = []
        part: Any = self
        self._part = part
        self.examiner = PollExaminer(part, lambda: NOW)

    def watch_read(self, job: Job, asked: str) -> StatusWatch | None:
        del asked
        return StatusWatch(self._part, job, is_own=False) if job.is_open else None

    async def do_in_later_turn(self, work: Callable[[], None]) -> None:
        """Nobody else is there."""
        work()

    def apply(self, job: Job, found: Finding, *, is_own: bool) -> None:
        del job
        assert not is_own
        self.said.append(found.said)

    def keep(self, answer: StatusAnswer, at: float) -> None:
        self.kept.append((answer.content, at))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state_of(tmp_path_factory.mktemp("polls"), routes=[POLL, ASSET])


@pytest.fixture
def heard(state: State) -> Heard:
    return Heard(state)


@pytest.fixture
def job(state: State) -> Job:
    made = job_in(state)
    made.mark_asked(BEFORE)
    return made


def examined(heard: Heard, order: ForwardOrder, content: bytes, of: ResponseHead | None = None) -> Delivery:
    at_once(heard.examiner.examine(order, of or head(), content))
    return order.delivery


def flags(delivery: Delivery) -> tuple[bool, bool, bool]:
    return delivery.is_final, delivery.is_unfinished, delivery.gives_nothing


@pytest.mark.parametrize(
    ("content", "said", "expected", "asked_at"),
    [
        (RUNS, Said.RUNNING, (False, True, True), NOW),
        (ENDED, Said.COMPLETE, (True, False, False), NOW),
        (FAILED, Said.FAILED, (True, False, True), NOW),
        (b"no JSON", Said.UNREADABLE, (False, False, False), BEFORE),
        (says(status="of tomorrow"), Said.RUNNING, (False, True, False), NOW),
    ],
)
def test_what_an_answer_said_is_noted_and_an_answer_that_said_nothing_spares_nobody_a_question(
    heard: Heard, state: State, job: Job, content: bytes, said: Said, expected: tuple[bool, ...], asked_at: float
) -> None:
    assert flags(examined(heard, order_of(state, job=job), content)) == expected
    assert heard.said == [said]
    assert job.asked_at == asked_at


@pytest.mark.parametrize("status", [404, 410, 500, 206, 304])
def test_only_a_200_is_examined(heard: Heard, state: State, job: Job, status: int) -> None:
    """Of others nothing is taken from a client's poll: the watcher asks for itself."""
    assert flags(examined(heard, order_of(state, job=job), RUNS, head(status))) == (False, False, False)
    assert (heard.said, job.asked_at) == ([], BEFORE)


def test_what_is_no_poll_for_a_job_is_not_examined(heard: Heard, state: State, job: Job) -> None:
    for order in (
        order_of(state),
        order_of(state, job=job, method="HEAD"),
        order_of(state, job=job, target="/asset/job-1"),
    ):
        assert flags(examined(heard, order, ENDED)) == (False, False, False)
    assert (heard.said, job.asked_at) == ([], BEFORE)


def test_a_job_of_which_all_is_known_is_not_examined_again(heard: Heard, state: State, job: Job) -> None:
    job.add_known(Known.COMPLETE)
    assert flags(examined(heard, order_of(state, job=job), ENDED)) == (False, False, False)
    assert heard.said == []


def test_an_answer_for_another_target_than_the_status_spares_nobody_a_question(
    heard: Heard, state: State, job: Job
) -> None:
    assert flags(examined(heard, order_of(state, job=job, target=RESULT + "?format=x"), RUNS)) == (False, True, True)
    assert job.asked_at == BEFORE


def test_an_answer_that_is_known_is_not_parsed_again_and_means_the_same(heard: Heard, state: State, job: Job) -> None:
    first = flags(examined(heard, order_of(state, job=job), RUNS))
    assert heard.unfinished.has(job, RUNS)
    job.mark_asked(BEFORE)
    job.misses = job.unread = 1
    assert flags(examined(heard, order_of(state, job=job), RUNS)) == first
    assert heard.said == [Said.RUNNING]  # once
    assert (job.asked_at, job.misses, job.unread) == (NOW, 0, 0)


def test_a_known_answer_about_a_job_that_has_ended_is_parsed(heard: Heard, state: State, job: Job) -> None:
    examined(heard, order_of(state, job=job), RUNS)
    job.end(expires_at=9e9)
    examined(heard, order_of(state, job=job), RUNS)
    assert heard.said == [Said.RUNNING, Said.RUNNING]


@pytest.mark.parametrize(
    ("content", "is_kept"),
    [(RUNS, True), (ENDED, False), (FAILED, False), (b"no JSON", False), (says(status="of tomorrow"), False)],
)
def test_only_an_answer_that_surely_gives_nothing_is_kept_for_others(
    heard: Heard, state: State, job: Job, content: bytes, is_kept: bool
) -> None:
    asking: Any = heard
    for _ in range(2):  # parsed, and known again
        order = order_of(state, job=job, asking_poll=asking)
        examined(heard, order._replace(delivery=Delivery(answered=BEFORE)), content)
    assert heard.kept == ([(content, BEFORE)] * 2 if is_kept else [])  # as old as when it came


def test_who_asks_for_himself_keeps_nothing_for_others(heard: Heard, state: State, job: Job) -> None:
    examined(heard, order_of(state, job=job), RUNS)
    assert heard.kept == []


def test_an_answer_in_pieces_is_examined_as_one(heard: Heard, state: State, job: Job) -> None:
    order = order_of(state, job=job)
    examination = heard.examiner.begin(order, head())
    assert examination is not None
    assert job.asked_at == NOW  # from its beginning on nobody else has to ask
    for start in range(0, len(ENDED), 5):
        examination.take(ENDED[start : start + 5])
    at_once(examination.end())
    examination.close()
    assert flags(order.delivery) == (True, False, False)
    assert job.asked_at == NOW


def test_an_answer_that_broke_off_lets_others_ask_at_once(heard: Heard, state: State, job: Job) -> None:
    order = order_of(state, job=job)
    examination = heard.examiner.begin(order, head())
    assert examination is not None
    examination.take(ENDED[:9])
    examination.close()
    assert flags(order.delivery) == (False, False, False)
    assert (heard.said, job.asked_at) == ([], BEFORE)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (StatusAnswer.of_running(head(), RUNS), (False, True, True)),
        (StatusAnswer.of(head(), ENDED, is_final=True, gives_nothing=False), (True, False, False)),
        (StatusAnswer.of(head(), FAILED, is_final=True, gives_nothing=True), (True, False, True)),
    ],
)
def test_who_shares_an_answer_was_told_the_same(answer: StatusAnswer, expected: tuple[bool, bool, bool]) -> None:
    delivery = Delivery()
    note_shared(delivery, answer)
    assert flags(delivery) == expected
