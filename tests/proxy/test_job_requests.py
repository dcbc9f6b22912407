"""A poll to which an answer is at hand gets it without a wait; any other request takes the steps, and none less."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.state import Live, State
from gateway.errors import Refused
from gateway.jobs.job import Job
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.shared_polls import SharedPolls
from gateway.jobs.status_answer import RunningAnswer, StatusAnswer
from gateway.model.reasons import Reason
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.job_requests import JobRequests
from gateway.proxy.still_permitted import StillPermitted
from tests.support.orders import job_in, order_of, state_of
from tests.support.polls import head

ROUTES = [
    {"name": "r", "methods": ["GET"], "path": "/api/v1/marker/{request_id}", "kind": "result", "access": "anyone"}
]
NOW = 100.0  # orders are permitted until 1000
ANSWER = StatusAnswer.of_running(head(), b"{}")


class Stage:
    """Requests about one job that runs; `did` is what came of them, in order."""

    def __init__(self, state: State, age: float = 0.0) -> None:
        self.now = NOW
        self.is_sure = True
        self.lookup = 0.0  # seconds
        self.keeps_ours = True  # while the job is looked up
        self.live = Live(state)
        self.job = job_in(state)
        self.did: list[str] = []
        self.job.keep(RunningAnswer(ANSWER, state.upstreams["default"], None, NOW - age))
        iteration: Any = None  # nobody waits for another's answer
        jobs: Any = SimpleNamespace(
            own=self._own,
            registry=SimpleNamespace(is_sure=lambda _: self.is_sure, confirm=self._confirm),
            long_polls=SimpleNamespace(until_ended=self._hold),
            shared_polls=SharedPolls(iteration, KeptAnswers(lambda: 1.0), lambda: self.now),
        )
        forwarder: Any = SimpleNamespace(share=self._share, forward=self._ask)
        nobody: Any = None
        permitted = StillPermitted(self.live, lambda: self.now, lambda: 1_795_435_200.0)
        self._requests = JobRequests(jobs, forwarder, permitted, nobody, nobody, lambda: self.now)

    def serve(self, order: ForwardOrder) -> list[str]:
        """What was done for it; nothing of this waits."""
        order.client.prefix = b""
        cached: Any = None
        with pytest.raises(StopIteration):
            self._requests.serve(self.live.state, cached, order).send(None)
        return self.did

    async def _own(self, *_: Any) -> Job:
        self.did.append("looked up")
        return self.job

    async def _confirm(self, job: Job) -> None:
        assert job is self.job
        self.now += self.lookup
        if not self.keeps_ours:
            self.job.answer = None
        self.did.append("confirmed")

    async def _hold(self, *_: Any) -> None:
        self.did.append("held")

    async def _ask(self, _: ForwardOrder) -> None:
        self.did.append("asked")

    def _share(self, order: ForwardOrder, answer: StatusAnswer) -> None:
        assert (order.job, answer._replace(is_final=False, target=None)) == (self.job, ANSWER)
        self.did.append("shared")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return state_of(tmp_path / "first", routes=ROUTES)


def test_a_poll_to_which_an_answer_is_at_hand_gets_it(state: State) -> None:
    stage = Stage(state)
    assert stage.serve(order_of(state, job=stage.job)) == ["shared"]


@pytest.mark.parametrize("knows_job", [True, False])
def test_a_job_that_is_not_sure_is_looked_up_and_again_before_the_answer_goes_out(
    state: State, knows_job: bool
) -> None:
    stage = Stage(state)
    stage.is_sure = not knows_job
    assert stage.serve(order_of(state, job=stage.job if knows_job else None)) == ["looked up", "confirmed", "shared"]


def test_an_answer_that_is_too_old_once_the_job_was_looked_up_serves_nobody(state: State) -> None:
    """The ledger may take seconds, and 200 ms is what an answer may be old."""
    stage = Stage(state, age=0.125)
    stage.is_sure, stage.lookup = False, 0.125
    assert stage.serve(order_of(state, job=stage.job)) == ["looked up", "confirmed", "asked"]


def test_who_wants_to_wait_waits(state: State) -> None:
    stage = Stage(state)
    assert stage.serve(order_of(state, (b"Prefer", b"wait=5"), job=stage.job)) == ["held", "confirmed", "shared"]


@pytest.mark.parametrize(
    ("is_final", "is_kept", "expected"),
    [(False, True, "shared"), (False, False, "asked"), (True, True, "shared"), (True, False, "shared")],
)
def test_who_has_waited_has_our_own_answer_unless_it_was_let_go_while_the_job_was_looked_up(
    state: State, is_final: bool, is_kept: bool, expected: str
) -> None:
    """The ledger may take seconds; but a job that has ended has ended."""
    stage = Stage(state, age=1.0)
    stage.job.answer = ANSWER._replace(is_final=is_final, target=state.upstreams["default"])
    stage.keeps_ours = is_kept
    assert stage.serve(order_of(state, (b"Prefer", b"wait=5"), job=stage.job)) == ["held", "confirmed", expected]


def test_who_wants_an_answer_of_his_own_asks(state: State) -> None:
    stage = Stage(state)
    assert stage.serve(order_of(state, (b"Cache-Control", b"no-cache"), job=stage.job)) == ["asked"]


def test_an_old_answer_is_not_at_hand(state: State) -> None:
    stage = Stage(state, age=0.25)
    assert stage.serve(order_of(state, job=stage.job)) == ["asked"]


def test_without_an_age_nothing_is_at_hand(tmp_path: Path) -> None:
    state = state_of(tmp_path / "off", routes=ROUTES, jobs={"status_age": "0s"})
    stage = Stage(state)
    assert stage.serve(order_of(state, job=stage.job)) == ["asked"]


def test_who_is_no_longer_permitted_gets_nothing(state: State, tmp_path: Path) -> None:
    stage = Stage(state)
    order = order_of(state, job=stage.job)
    stage.live.state = state_of(tmp_path / "elsewhere", routes=ROUTES, network={"allow": ["192.0.2.0/24"]})
    stage.job.keep(RunningAnswer(ANSWER, state.upstreams["default"], None, 1000.0))
    stage.now = 1000.0
    with pytest.raises(Refused) as refused:
        stage.serve(order)
    assert refused.value.denial.reason is Reason.ADDRESS_DENIED
    assert stage.did == []
