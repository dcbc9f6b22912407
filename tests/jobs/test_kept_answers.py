"""Answers are kept for as long as a poll may share them, and no longer."""

import pytest

from gateway.jobs.job import Job
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.status_answer import RunningAnswer, StatusAnswer
from gateway.limits.job_cost import Known
from gateway.model.jobs import JobRef
from gateway.upstream.job_api import JobShape
from gateway.upstream.target import UpstreamTarget
from tests.support.polls import head

TARGET = UpstreamTarget("http", "a", 1, "a:1", 1.0, 1.0, 1.0, "/", 60.0)
NO: frozenset[str] = frozenset()
SHAPE = JobShape("default", "request_id", None, None, "{path}/{id}", "status", NO, NO, NO, None, None, None)


def job_named(name: str) -> Job:
    return Job(JobRef("default", name, "r1"), "key:ci", SHAPE, "/api/v1/marker", 0.0)


def running(at: float, content: bytes = b"{}") -> RunningAnswer:
    return RunningAnswer(StatusAnswer.of_running(head(), content), TARGET, None, at)


def test_an_answer_is_let_go_once_no_poll_may_share_it() -> None:
    """They stayed for as long as their jobs ran: 20 KB with the headers of the poll that asked."""
    kept, one, other = KeptAnswers(lambda: 0.5), job_named("1"), job_named("2")
    kept.keep(one, running(10.0))
    kept.keep(other, running(10.25))
    found = []
    for now in (10.4375, 10.5, 10.75, 11.0):
        kept.drop_old(now)
        found.append((one.running_answer is None, other.running_answer is None))
    assert found == [(False, False), (True, False), (True, True), (True, True)]
    assert repr(kept) == "<KeptAnswers kept=0>"


def test_a_newer_one_has_its_own_time() -> None:
    kept, job = KeptAnswers(lambda: 0.5), job_named("1")
    for at in (10.0, 10.25):
        kept.keep(job, running(at))
    kept.drop_old(10.625)
    assert job.running_answer == running(10.25)
    kept.drop_old(10.75)
    assert job.running_answer is None


@pytest.mark.parametrize("why", ["off", "long", "ended"])
def test_what_no_poll_may_share_is_not_kept(why: str) -> None:
    kept, job = KeptAnswers(lambda: 0.0 if why == "off" else 0.5), job_named("1")
    if why == "ended":
        job.add_known(Known.LOST)
    kept.keep(job, running(10.0, b"x" * 600 if why == "long" else b"{}"))
    assert job.running_answer is None
    assert repr(kept) == "<KeptAnswers kept=0>"


def test_a_reload_counts_for_what_is_kept_already() -> None:
    ages = [5.0]
    kept, job = KeptAnswers(lambda: ages[0]), job_named("1")
    kept.keep(job, running(10.0))
    kept.drop_old(11.0)
    assert job.running_answer is not None
    ages[0] = 0.2
    kept.drop_old(11.0)
    assert job.running_answer is None
