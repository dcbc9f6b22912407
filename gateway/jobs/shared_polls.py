"""One answer of the container serves all like polls of a running job (request coalescing).

A job's asking poll is a client's poll that waits for the container. States of a job, and what ends each:
    unasked  no poll asks; `running_answer` may hold the last whole answer that said that the job runs.
             `begin` ends it. What is too old to be shared is let go (kept_answers.py).
    asked    a poll asks. Polls that are alike wait for it, once each; others ask for themselves.
             `AskingPoll.close` ends it, whatever came of it: all who wait go on. If its client has left, or was
             refused, the first of them asks in its place, and the others wait for this one; so does the first who has
             waited for PATIENCE, or whose turn came when the answer was too old. Once it has asked for that long and
             nobody waits for it, one that is not alike takes its place.
Impossible: an answer reaches another owner (a Job has one), serves after an end was seen (Job.see drops it), or
serves under another configuration (each reload makes other UpstreamTargets); two asking polls that know each other;
a poll that waits for more than ROUNDS others, each for PATIENCE.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.waiters import call_each
from gateway.jobs.job import Job, Waited
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.status_answer import Poll, RunningAnswer, StatusAnswer

PATIENCE: Final = 5.0
"""Seconds to wait for another's answer, which comes in milliseconds: one that hangs in the container may have the
five minutes of upstream.read_timeout, and another would be answered."""
ROUNDS: Final = 6
"""How often a poll waits for another: while a container hangs, a job's polls ask it one after the other."""


class AskingPoll:
    """A client's poll that waits for the container, and those that wait for its answer."""

    __slots__ = ("_job", "_kept", "_outcome", "_poll", "_since", "_waiting")

    def __init__(self, job: Job, poll: Poll, kept: KeptAnswers, since: float) -> None:
        self._since = since
        self._job = job
        self._poll = poll
        self._kept = kept
        self._outcome = Waited.FOR_ITSELF
        self._waiting: dict[Signal, Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<AskingPoll waiting={len(self._waiting)}>"

    def is_like(self, poll: Poll) -> bool:
        """Whether its answer may serve that poll."""
        return self._poll.is_like(poll)

    def is_in_vain(self, now: float) -> bool:
        """Whether it hangs, and nobody waits for it: those who do go on by themselves, one for all of them."""
        return now - self._since >= PATIENCE and not self._waiting

    async def wait(self, iteration: Iteration, peer: Hashable) -> Waited:
        """Waits for its end, for PATIENCE at most, then for a turn of `peer`: hundreds may wait. Runs in a Drive."""
        signal = Signal()
        wake = self._waiting[signal] = partial(iteration.call_in_turn, signal.wake, peer, is_small=True)
        timer = asyncio.get_running_loop().call_later(PATIENCE, wake)
        try:
            await signal
        finally:
            timer.cancel()
            has_ended = self._waiting.pop(signal, None) is None
        return self._outcome if has_ended else Waited.LATE

    def keep(self, answer: StatusAnswer, at: float) -> None:
        """Keeps its answer, which came at `at` and said that the job runs, if it is for all polls that are alike."""
        if answer.is_for_like_polls:
            running = RunningAnswer(answer, self._poll.target, self._poll, at)
            self._kept.keep(self._job, running)
            if self._job.running_answer is running:
                self._outcome = Waited.KEPT

    def close(self, *, has_left: bool = False) -> None:
        """Lets all that wait go on; `has_left`: its client has, or was refused: one of them asks. Idempotent."""
        self.step_aside()
        if has_left and self._waiting and self._outcome is Waited.FOR_ITSELF:
            self._outcome = Waited.LEFT
        waiting, self._waiting = self._waiting, {}
        call_each(deque(waiting.values()))

    def step_aside(self) -> None:
        """Lets another be the one that is waited for."""
        if self._job.asking_poll is self:
            self._job.asking_poll = None


class SharedPolls:
    """Finds the answer that a poll may share. `clock` is the loop's."""

    def __init__(self, iteration: Iteration, kept: KeptAnswers, clock: Callable[[], float]) -> None:
        self._iteration = iteration
        self._kept = kept
        self._clock = clock

    def find(self, job: Job, poll: Poll, age: float) -> StatusAnswer | None:
        """An answer of the last `age` seconds; None: there is none, or it is not for this poll."""
        running = job.running_answer
        if running is None or not job.is_running or self._clock() - running.at >= age:
            return None
        return running.answer if running.may_serve(poll) else None

    async def wait(self, job: Job, poll: Poll, age: float, peer: Hashable) -> StatusAnswer | None:
        """Waits for an asking poll whose answer may serve this poll, if there is one; `peer` is who waits.

        Where thousands wait, a turn may come when the answer is too old; by then another poll asks. Without an answer
        this poll asks. Runs in a Drive.
        """
        for _ in range(ROUNDS):
            answer, asking = self.find(job, poll, age), job.asking_poll
            if answer is not None or job.has_seen_end or asking is None or not asking.is_like(poll):
                return answer
            if await asking.wait(self._iteration, peer) is Waited.FOR_ITSELF:
                return None
            if job.asking_poll is asking:  # it hangs, and nobody has begun to ask in its place
                asking.step_aside()
                return None
        return self.find(job, poll, age)

    def begin(self, job: Job, poll: Poll) -> AskingPoll | None:
        """Makes this poll the one that asks, unless another asks already, and not in vain. The caller closes it.

        One that hangs, in a container that a reload has replaced or by its client's headers, would keep all that are
        not alike from sharing anything.
        """
        now, other = self._clock(), job.asking_poll
        if other is not None and not other.is_in_vain(now):
            return None
        asking = job.asking_poll = AskingPoll(job, poll, self._kept, now)
        return asking
