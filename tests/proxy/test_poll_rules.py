"""Which polls share an answer, and who was given what of a result: both are judged by the request alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.jobs.status_answer import StatusAnswer
from gateway.limits.job_cost import Known
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.poll_rules import (
    has_read_result,
    has_reported_end,
    has_taken_result,
    may_share_ours,
    poll_of,
)
from gateway.upstream.response_head import ResponseHead
from tests.support.orders import RESULT, job_in, order_of, state_of
from tests.support.polls import head

STATUS, SPLIT_RESULT, ASSET = "/status/job-1", "/result/job-1", "/asset/job-1"
SPLIT = {
    "jobs": {"shapes": {"split": {"read": "/status/{id}", "result": "/result/{id}"}}},
    "routes": [
        {"name": "status", "methods": ["GET"], "path": "/status/{request_id}", "kind": "result", "job": "split"},
        {"name": "result", "methods": ["GET"], "path": "/result/{request_id}", "kind": "result", "job": "split"},
        {"name": "asset", "methods": ["GET"], "path": "/asset/{request_id}", "kind": "asset", "job": "split"},
    ],
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return state_of(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> State:
    """Where one request tells how far a job is, and another gives its result."""
    return state_of(tmp_path_factory.mktemp("split"), **SPLIT)


# Whose answers a poll may share


def ours(order: ForwardOrder, answer: ResponseHead) -> StatusAnswer:
    """An answer to our own question, which the upstream gave to which the order goes."""
    target = order.prepared.upstream
    return StatusAnswer.of(answer, b"{}", is_final=False, gives_nothing=True, target=target)


def test_like_polls_of_one_job_may_share_an_answer(state: State) -> None:
    job = job_in(state)
    one, other = (order_of(state, (b"Accept", b"*/*"), job=job) for _ in range(2))
    polls = poll_of(one), poll_of(other)
    assert polls[0] is not None
    assert polls[1] is not None
    assert polls[0].is_like(polls[1])
    third = poll_of(order_of(state, (b"Accept", b"text/html"), job=job))
    assert third is not None
    assert not polls[0].is_like(third)


@pytest.mark.parametrize(
    "header",
    [
        (b"Cache-Control", b"no-cache"),
        (b"If-None-Match", b'"a"'),
        (b"If-Match", b'"a"'),
        (b"If-Modified-Since", b"Mon, 30 Nov 2026 08:00:00 GMT"),
        (b"Range", b"bytes=0-9"),
        (b"If-Range", b'"a"'),
        (b"Content-Length", b"9"),
        (b"Accept", b"x" * 5000),
    ],
)
def test_a_poll_that_asks_for_something_of_its_own_asks_for_itself(state: State, header: tuple[bytes, bytes]) -> None:
    order = order_of(state, header, job=job_in(state))
    assert poll_of(order) is None
    assert not may_share_ours(order, ours(order, head()))


def test_a_request_without_a_job_or_for_another_target_shares_nothing(state: State, split: State) -> None:
    assert poll_of(order_of(state)) is None
    assert poll_of(order_of(state, job=job_in(state))) is not None
    assert poll_of(order_of(state, target=RESULT + "?format=html", job=job_in(state))) is None
    job = job_in(split, "split")
    assert poll_of(order_of(split, target=STATUS, job=job)) is not None
    for target in (SPLIT_RESULT, ASSET):
        assert poll_of(order_of(split, target=target, job=job)) is None


def test_an_answer_that_is_rewritten_for_its_client_is_shared_with_nobody(tmp_path: Path) -> None:
    rewriting = {"name": "r", "methods": ["GET"], "path": "/api/v1/marker/{request_id}", "kind": "result"}
    state = state_of(tmp_path, routes=[{**rewriting, "rewrite_urls": True}])
    assert poll_of(order_of(state, job=job_in(state))) is None


def test_what_is_not_passed_on_bars_nobody_from_sharing(state: State) -> None:
    """A token of 4 KB is a credential; the container is asked for no coding, whatever the client takes."""
    job = job_in(state)
    one = order_of(state, (b"Authorization", b"Bearer " + b"x" * 4096), (b"accept-ENCODING", b"gzip"), job=job)
    poll, plain = poll_of(one), poll_of(order_of(state, job=job))
    assert poll is not None
    assert plain is not None
    assert poll.is_like(plain)
    assert may_share_ours(one, ours(one, head(200, (b"vary", b"Accept-Encoding"))))


@pytest.mark.parametrize(
    ("vary", "may"),
    [
        ((), True),
        (((b"vary", b"Accept-Encoding"),), True),
        (((b"vary", b"X-Mine"),), False),
        (((b"vary", b"accept-encoding, x-mine"),), False),
        (((b"vary", b"*"),), False),
        (((b"vary", b"X-Forwarded-For"),), False),
        (((b"vary", b"Accept"),), False),
        (((b"set-cookie", b"session=1"),), False),
    ],
)
def test_an_answer_to_our_own_question_is_for_clients_whose_headers_do_not_matter(
    state: State, vary: tuple[tuple[bytes, bytes], ...], may: bool
) -> None:
    order = order_of(state, (b"X-Mine", b"1"), job=job_in(state))
    assert may_share_ours(order, ours(order, head(200, *vary))) is may


def test_an_answer_to_our_own_question_is_for_clients_of_the_upstream_that_gave_it(state: State) -> None:
    order = order_of(state, job=job_in(state))
    target, answer = order.prepared.upstream, ours(order, head())
    assert may_share_ours(order, answer._replace(target=replace(target)))  # a reload that changed nothing there
    assert not may_share_ours(order, answer._replace(target=replace(target, port=target.port + 1)))


# Who was given something of a result


def given(order: ForwardOrder, status: int = 200, sent: int = 10, *, gives_nothing: bool = False) -> ForwardOrder:
    order.delivery.status, order.delivery.sent = status, sent
    order.delivery.gives_nothing = gives_nothing
    return order


@pytest.mark.parametrize(
    ("status", "sent", "gives_nothing", "expected"),
    [
        (200, 1, False, True),
        (206, 1, False, True),
        (200, 0, False, False),
        (200, 10, True, False),
        (404, 10, False, False),
        (304, 10, False, False),
        (500, 10, False, False),
        (0, 0, False, False),
    ],
)
def test_who_was_sent_anything_that_may_be_a_result_has_taken_it(
    state: State, status: int, sent: int, gives_nothing: bool, expected: bool
) -> None:
    order = given(order_of(state, job=job_in(state)), status, sent, gives_nothing=gives_nothing)
    assert has_taken_result(order) is expected


def test_an_asset_is_a_part_of_the_result_and_what_has_no_body_is_none(split: State) -> None:
    job = job_in(split, "split")
    assert has_taken_result(given(order_of(split, target=ASSET, job=job)))
    assert not has_taken_result(given(order_of(split, method="HEAD", target=ASSET, job=job)))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known.NOTHING, False),
        (Known.TAKEN, False),
        (Known.LOST, False),
        (Known.GIVEN_UP, False),
        (Known.COMPLETE, True),
        (Known.FAILED | Known.TAKEN, True),
    ],
)
def test_only_what_the_container_said_is_a_reported_end(state: State, known: Known, expected: bool) -> None:
    job = job_in(state)
    job.add_known(known)
    assert has_reported_end(job) is expected


# Who has read a result to its end: with jobs.delete_after_read it is deleted


def read(order: ForwardOrder, job: Job, *, is_final: bool = False, had_end: bool = False) -> bool:
    order.delivery.is_final = is_final
    return has_read_result(order, job, had_reported_end=had_end)


def test_where_the_status_answer_is_the_result_it_must_itself_tell_the_end(state: State) -> None:
    job = job_in(state)
    assert read(given(order_of(state, job=job)), job, is_final=True)
    assert not read(given(order_of(state, job=job)), job, is_final=False, had_end=True)


def test_where_another_request_gives_the_result_the_end_was_told_before(split: State) -> None:
    job = job_in(split, "split")
    assert read(given(order_of(split, target=SPLIT_RESULT, job=job)), job, had_end=True)
    assert not read(given(order_of(split, target=SPLIT_RESULT, job=job)), job, had_end=False)
    assert not read(given(order_of(split, target=SPLIT_RESULT, job=job), gives_nothing=True), job, had_end=True)
    for target in (STATUS, ASSET):
        assert not read(given(order_of(split, target=target, job=job)), job, is_final=True, had_end=True)


@pytest.mark.parametrize("status", [206, 304, 404, 500])
def test_a_part_or_a_failure_is_no_result_that_was_read(state: State, status: int) -> None:
    job = job_in(state)
    assert not read(given(order_of(state, job=job), status), job, is_final=True)


def test_a_client_that_has_left_has_not_read_it(state: State) -> None:
    job = job_in(state)
    order = given(order_of(state, job=job))
    order.client.is_gone = True  # type: ignore[misc] # a stand-in's
    assert not read(order, job, is_final=True)


def test_a_head_reads_nothing(state: State) -> None:
    job = job_in(state)
    assert not read(given(order_of(state, method="HEAD", job=job)), job, is_final=True)
