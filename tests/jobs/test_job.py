"""One job: whose it is and for how long, who is told of its end, how often it is asked about."""

import re
from dataclasses import replace
from functools import partial

import pytest

from gateway.jobs.job import Job, job_not_found
from gateway.jobs.status_answer import StatusAnswer
from gateway.limits.job_cost import Known
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from gateway.upstream.job_api import JobShape
from gateway.upstream.response_head import read_answer_head

SHAPE = JobShape(
    "default", "request_id", re.compile("x"), None, "{path}/{id}", "status", frozenset(), frozenset(), frozenset(),
    None, None, None,
)  # fmt: skip


HEAD = read_answer_head(200, b"OK", [], http_1_1=True, bodiless=False)


def make_job() -> Job:
    return Job(JobRef("default", "job", "r1"), "key:ci", SHAPE, "/api/v1/marker", 100.0)


def test_it_is_its_owners_until_it_expires() -> None:
    job = make_job()
    assert job.key == ("default", "job")
    assert job.is_for("key:ci", 1e12)
    assert not job.is_for("key:other", 0)
    job.end(200.0)
    assert (job.is_running, job.expires_at, job.is_gone) == (False, 200.0, False)
    assert job.is_for("key:ci", 199.9)
    assert not job.is_for("key:ci", 200.0)
    assert not job.is_for("key:other", 199.9)
    job.end(0)
    assert job.is_gone
    assert not job.is_for("key:ci", 0)


def test_who_waits_is_told_once() -> None:
    job, told = make_job(), list[str]()
    job.waiters = {name: partial(told.append, name) for name in ("a", "b")}
    job.end(200.0)
    job.end(0)
    assert told == ["a", "b"]
    assert job.waiters == {}


def test_who_is_told_may_wait_for_something_else() -> None:
    job, told = make_job(), []

    def woken() -> None:
        told.append(len(job.waiters))
        job.waiters["again"] = lambda: None

    job.waiters["first"] = woken
    job.end(200.0)
    assert told == [0]
    assert list(job.waiters) == ["again"]


@pytest.mark.parametrize(
    ("asked", "is_result"),
    [
        ("/results?id=job&download=true", True),
        ("/results?download=true&id=job", True),
        ("/results?id=job", False),
        ("/results?id=job&download=", False),
        ("/results?id=job&download=true&download=true", False),
        ("/results?id=job&download=true&more=1", False),
        ("/results", False),
        ("/api/v1/marker/job", False),
    ],
)
def test_its_result_is_where_its_shape_says(asked: str, is_result: bool) -> None:
    job = make_job()
    assert job.is_result("/api/v1/marker/job")
    job.shape = replace(SHAPE, result="/results?id={id}&download=true")
    assert job.is_result(asked) is is_result


def test_what_counts_as_failed_may_prove_wrong() -> None:
    job = make_job()
    found = [job.is_open]
    job.end(200.0)
    for known in (Known.LOST, Known.FAILED, Known.GIVEN_UP, Known.TAKEN, Known.COMPLETE):
        job.add_known(known)
        found.append(job.is_open)
    forgotten = make_job()
    forgotten.add_known(Known.FAILED)
    forgotten.end(0)
    assert [*found, forgotten.is_open] == [True, True, True, True, True, False, False]


def test_its_end_is_seen_once_and_outdates_what_was_said_before() -> None:
    job = make_job()
    seen = []
    for known in (Known.TAKEN, Known.COMPLETE, Known.COMPLETE | Known.TAKEN):
        job.answer = StatusAnswer.of(HEAD, b"", is_final=False, gives_nothing=True)
        job.add_known(known)
        seen.append((job.known, job.has_known_end, job.answer is None))
    both = Known.COMPLETE | Known.TAKEN
    assert seen == [(Known.TAKEN, False, False), (both, True, True), (both, True, False)]


def test_there_is_one_way_to_say_that_there_is_none() -> None:
    refusals = {repr(job_not_found().denial) for _ in range(3)}
    assert len(refusals) == 1
    assert job_not_found().denial.reason is Reason.JOB_NOT_FOUND
