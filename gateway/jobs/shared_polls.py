"""One answer of the container serves all polls of a running job that would get the same one.

A job's question here is a client's poll that waits for the container. States of a job, and what ends each:
    unasked  no question is under way; `running_answer` may hold the last whole answer that said that the job runs.
             `begin` ends it.
    asked    a question is under way. Polls that are alike wait for it, once each; others ask for themselves.
             `AskingPoll.close` ends it, whatever came of it: all who wait go on.
Impossible: an answer reaches another owner (a Job has one), serves after an end was seen (Job.add_known drops it), or
serves under another configuration (each reload makes other UpstreamTargets); two questions that know of each other;
a poll that waits longer than the one that asks, whose every step has a deadline.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, NamedTuple

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.jobs.job import Job, StatusAnswer
from gateway.limits.job_cost import ENDS
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

MAX_CONTENT: Final = 512  # bytes: an answer that says that a job runs is short
Lines = list[tuple[bytes, bytes]]


class Poll(NamedTuple):
    """What two polls of one job have to have in common: where they go, and what of the client the container may see.

    `origin` is ours, by which the client came; `headers` are the client's that are passed on.
    """

    target: UpstreamTarget
    origin: str
    headers: Lines

    def is_like(self, other: "Poll") -> bool:
        """Whether both would get the same answer."""
        return self.target is other.target and self.origin == other.origin and self.headers == other.headers


class RunningAnswer(NamedTuple):
    """A whole answer that said that a job runs, and when it came, in seconds of the loop's clock.

    `poll` is the client's that asked; None: we asked, with no client's headers (is_for_all_with).
    """

    answer: StatusAnswer
    target: UpstreamTarget
    poll: Poll | None
    at: float

    def may_serve(self, poll: Poll) -> bool:
        """Whether that poll would get the same answer."""
        if self.poll is not None:
            return self.poll.is_like(poll)
        return self.target is poll.target and is_for_all_with(poll.headers, self.answer.head)


class AskingPoll:
    """A client's poll that waits for the container, and those that wait for its answer."""

    __slots__ = ("_job", "_poll", "_waiting")

    def __init__(self, job: Job, poll: Poll) -> None:
        self._job = job
        self._poll = poll
        self._waiting: dict[Signal, Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<AskingPoll waiting={len(self._waiting)}>"

    def is_like(self, poll: Poll) -> bool:
        """Whether its answer may serve that poll."""
        return self._poll.is_like(poll)

    async def wait(self, iteration: Iteration, of: Hashable) -> None:
        """Waits for its end, then for a turn of `of`: hundreds may wait. Runs in a Drive."""
        signal = Signal()
        self._waiting[signal] = partial(iteration.wait, partial(_set, signal), of, is_small=True)
        try:
            await signal
        finally:
            self._waiting.pop(signal, None)

    def keep(self, answer: StatusAnswer, now: float) -> None:
        """Keeps its answer, which said that the job runs."""
        keep_running(self._job, RunningAnswer(answer, self._poll.target, self._poll, now))

    def close(self) -> None:
        """Lets all that wait go on. Idempotent."""
        if self._job.question is self:
            self._job.question = None
        waiting, self._waiting = self._waiting, {}
        for wake in waiting.values():
            wake()


def is_for_all_with(headers: Lines, head: ResponseHead) -> bool:
    """Whether a client with these headers would get the same answer as our own question, which had none of them.

    Not if the answer's Vary names one of them, nor with an Origin: a browser gives its page only an answer that
    allows that origin (CORS), and what has none to allow need not say so in Vary.
    """
    varies = {b"origin"}
    for name, value in head.headers:
        if name == b"vary":
            varies.update(part.strip().lower() for part in value.split(b","))
    return b"*" not in varies and not any(name.lower() in varies for name, _ in headers)


def keep_running(job: Job, running: RunningAnswer) -> None:
    """Keeps an answer that said that a job runs, unless an end was seen meanwhile or it is too long."""
    if job.is_running and not job.known & ENDS and len(running.answer.content) <= MAX_CONTENT:
        job.running_answer = running


class SharedPolls:
    """Finds the answer that a poll may share. `clock` is the loop's."""

    def __init__(self, iteration: Iteration, clock: Callable[[], float]) -> None:
        self._iteration = iteration
        self._clock = clock

    def find(self, job: Job, poll: Poll, age: float) -> StatusAnswer | None:
        """An answer of the last `age` seconds; None: there is none, or it is not for this poll."""
        running: RunningAnswer | None = job.running_answer
        if running is None or not job.is_running or self._clock() - running.at >= age:
            return None
        return running.answer if running.may_serve(poll) else None

    async def wait(self, job: Job, poll: Poll, of: Hashable) -> None:
        """Waits for the end of a question whose answer may serve this poll, if there is one; `of` is who waits.

        Runs in a Drive.
        """
        question: AskingPoll | None = job.question
        if question is not None and question.is_like(poll):
            await question.wait(self._iteration, of)

    def begin(self, job: Job, poll: Poll) -> AskingPoll | None:
        """Makes this poll the one that asks, unless another asks already. Who calls it closes it."""
        if job.question is not None:
            return None
        question = job.question = AskingPoll(job, poll)
        return question


def _set(signal: Signal) -> None:
    if signal.is_awaited:  # the client may be gone
        signal.set()
