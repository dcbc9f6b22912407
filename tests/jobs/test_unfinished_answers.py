"""Answers that are known to say that a job runs: known again for the same shape and configuration, and bounded."""

from pathlib import Path

import pytest

from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.jobs.status_answer import MAX_CONTENT
from gateway.jobs.unfinished_answers import MAX, UnfinishedAnswers
from tests.support.orders import job_in, state_of

RUNS = b'{"status": "processing"}'
OTHER = {"shapes": {"other": {"read": "/other/{id}", "status": {"processing": ["busy"], "complete": ["processing"]}}}}


class Remembering:
    """Remembered answers, and the State in force."""

    def __init__(self, directory: Path) -> None:
        self.state: State = state_of(directory / "first", jobs=OTHER)
        self.answers = UnfinishedAnswers(lambda: self.state)
        self.job: Job = job_in(self.state)


@pytest.fixture
def room(tmp_path: Path) -> Remembering:
    return Remembering(tmp_path)


def test_an_answer_is_known_again_by_all_of_its_bytes(room: Remembering) -> None:
    assert not room.answers.has(room.job, RUNS)
    room.answers.remember(room.job, RUNS)
    assert room.answers.has(room.job, RUNS)
    for other in (RUNS[:-1], RUNS + b" ", RUNS.upper(), b""):
        assert not room.answers.has(room.job, other)


def test_it_is_known_for_all_jobs_of_its_shape_and_for_no_other_shape(room: Remembering) -> None:
    room.answers.remember(room.job, RUNS)
    assert room.answers.has(job_in(room.state, request_id="job-2"), RUNS)
    assert not room.answers.has(job_in(room.state, "other"), RUNS)  # there the same word says that a job has ended


def test_another_configuration_may_read_the_same_words_otherwise(room: Remembering, tmp_path: Path) -> None:
    room.answers.remember(room.job, RUNS)
    before, room.state = room.state, state_of(tmp_path / "second", jobs=OTHER)
    assert not room.answers.has(room.job, RUNS)
    assert not room.answers.has(job_in(room.state), RUNS)
    room.answers.remember(job_in(room.state), RUNS)
    assert room.answers.has(job_in(room.state), RUNS)
    room.state = before
    assert not room.answers.has(room.job, RUNS)  # what was read by the one before is not known any more


def test_a_long_answer_is_not_remembered(room: Remembering) -> None:
    longest, longer = b"x" * MAX_CONTENT, b"x" * (MAX_CONTENT + 1)
    for content in (longest, longer):
        room.answers.remember(room.job, content)
    assert room.answers.has(room.job, longest)
    assert not room.answers.has(room.job, longer)


def test_there_are_never_more_than_so_many(room: Remembering) -> None:
    """A container that gives each answer an hour of its own has none of them known again, and takes no memory."""
    for number in range(MAX):
        room.answers.remember(room.job, b"%d" % number)
    assert room.answers.has(room.job, b"0")
    room.answers.remember(room.job, RUNS)
    assert room.answers.has(room.job, RUNS)
    assert sum(room.answers.has(room.job, b"%d" % number) for number in range(MAX)) < MAX
    assert repr(room.answers) == "<UnfinishedAnswers 1>"
