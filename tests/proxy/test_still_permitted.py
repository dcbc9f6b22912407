"""A request that has waited is judged by what holds then: its caller once its permit is stale, its job always."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.state import Live, State
from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.still_permitted import StillPermitted
from tests.support.orders import job_in, order_of, state_of

GOOD_UNTIL = 1000.0
BEFORE, AFTER = GOOD_UNTIL - 0.001, GOOD_UNTIL
OPEN = [
    {"name": "r", "methods": ["GET"], "path": "/api/v1/marker/{request_id}", "kind": "result", "access": "anyone"}
]


class Judge:
    """The checks on a clock that tests move, and the State that tests replace."""

    def __init__(self, state: State) -> None:
        self.now = BEFORE
        self.live = Live(state)
        self.checks = StillPermitted(self.live, lambda: self.now, lambda: 1_795_435_200.0)

    def verdict(self, order: ForwardOrder, check: str = "check_both") -> Reason | None:
        try:
            getattr(self.checks, check)(order)
        except Refused as refused:
            return refused.denial.reason
        return None


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    return Judge(state_of(tmp_path / "first", routes=OPEN))


def elsewhere(directory: Path, **sections: Any) -> State:
    """A State that lets in nobody from where the client is."""
    return state_of(directory / "elsewhere", network={"allow": ["192.0.2.0/24"]}, **{"routes": OPEN, **sections})


@pytest.mark.parametrize("now", [BEFORE, AFTER])
def test_what_is_still_permitted_goes_on(judge: Judge, now: float) -> None:
    judge.now = now
    assert judge.verdict(order_of(judge.live.state, job=job_in(judge.live.state))) is None


@pytest.mark.parametrize(
    ("check", "now", "reason"),
    [
        ("check_if_stale", BEFORE, None),
        ("check_if_stale", AFTER, Reason.ADDRESS_DENIED),
        ("check_both", BEFORE, None),
        ("check_both", AFTER, Reason.ADDRESS_DENIED),
        ("check", BEFORE, Reason.ADDRESS_DENIED),
        ("check", AFTER, Reason.ADDRESS_DENIED),
        ("check_job", AFTER, None),
    ],
)
def test_a_caller_is_judged_anew_from_the_moment_on_at_which_the_permit_ends(
    judge: Judge, tmp_path: Path, check: str, now: float, reason: Reason | None
) -> None:
    order = order_of(judge.live.state, job=job_in(judge.live.state))
    judge.live.state = elsewhere(tmp_path)
    judge.now = now
    assert judge.verdict(order, check) is reason


def test_a_route_that_is_gone_is_found_out_when_the_permit_ends(judge: Judge, tmp_path: Path) -> None:
    order = order_of(judge.live.state)
    judge.live.state = state_of(tmp_path / "none", routes=[{**OPEN[0], "path": "/other/{request_id}"}])
    assert judge.verdict(order) is None
    judge.now = AFTER
    assert judge.verdict(order) is Reason.ROUTE_NOT_FOUND


def test_a_route_that_is_narrower_now_still_serves_whom_it_names(judge: Judge, tmp_path: Path) -> None:
    order = order_of(judge.live.state)
    judge.now = AFTER
    for network, reason in (("10.0.0.1/32", None), ("10.0.0.2/32", Reason.ADDRESS_DENIED)):
        judge.live.state = state_of(tmp_path / network[:8], routes=[{**OPEN[0], "networks": [network]}])
        assert judge.verdict(order) is reason


@pytest.mark.parametrize("now", [BEFORE, AFTER])
def test_a_job_that_has_gone_is_given_to_nobody_however_young_the_permit(judge: Judge, now: float) -> None:
    job = job_in(judge.live.state)
    order = order_of(judge.live.state, job=job)
    job.expires_at = 0.0
    judge.now = now
    assert judge.verdict(order) is Reason.JOB_NOT_FOUND


def test_the_request_that_deletes_a_job_may_finish_though_the_job_has_gone(judge: Judge) -> None:
    job = job_in(judge.live.state)
    job.expires_at = 0.0
    assert judge.verdict(order_of(judge.live.state, job=job, delete_before=GOOD_UNTIL + 2)) is None


@pytest.mark.parametrize("expires_at", [None, 1.0])
def test_a_job_that_runs_or_is_kept_is_there(judge: Judge, expires_at: float | None) -> None:
    job = job_in(judge.live.state)
    job.expires_at = expires_at
    assert judge.verdict(order_of(judge.live.state, job=job)) is None


def test_the_rules_of_a_form_are_made_once_as_long_as_they_are_the_same(judge: Judge) -> None:
    state = judge.live.state
    shape, rules = state.shapes["default"], judge.checks.form_rules
    first = rules(shape, 10)
    assert first.most_pages == 10
    assert rules(shape, 10) is first
    assert rules(shape, 11).most_pages == 11
    other = replace(shape, checkpoint_field="resume")
    assert (rules(other, 11).checkpoint, rules(shape, 11).checkpoint) == ("resume", shape.checkpoint_field)
    judge.live.state = replace(state, form_rules=replace(state.form_rules, refused=frozenset({"new"})))
    assert rules(shape, 11).refused == {"new"}
