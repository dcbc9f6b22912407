"""Follows jobs to their end, so that settlement, expiry and webhooks need no client that comes back.

Each running job has one due date. When it comes, the watcher requests the job's status, unless a client's poll has
just learnt it. A job with a long poll is requested ten times as often as a new one; the older a job, the longer its
interval. Concurrent requests are bounded per upstream; further due jobs wait in the status queue for a slot, in turns
of their owners. The ledger says which process watches a job (failover.py).

States of a job here, and what ends each:
    not followed  another process asks, or none. `begin` and `hold` end it; `apply_changes` leads back to it, and
                  `_consider` where `jobs.watch` is off.
    dated         its date is one of DueDates. `ask_due` ends it when the date comes; an earlier date
                  replaces it and voids the old ticket.
    late          its date has come, and its upstream has no free slot. StatusQueue ends it.
    being asked   its ticket is _BEING_ASKED. The answer, or a failure, ends it: dated again, or ended.
    ended         it has ended (Completion): any ticket that comes up is dropped.
Impossible: two requests by date for one job at the same time (a DELETE may ask beside one: deletion_questions.py); a
running, followed job that is neither dated, late nor being asked.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed, UpstreamTimeout
from gateway.jobs.due_dates import DueDates
from gateway.jobs.findings import Findings
from gateway.jobs.job import Job
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.owner_counts import OwnerCounts
from gateway.jobs.poll_interval import after_unread, interval
from gateway.jobs.reading import is_answer
from gateway.jobs.status_answer import RunningAnswer, StatusAnswer
from gateway.jobs.status_queue import Patience, StatusQueue, StatusRequest
from gateway.jobs.status_slots import Urgency
from gateway.jobs.status_watch import StatusWatch
from gateway.ledger.replica import Replica
from gateway.ledger.watchers import adopt
from gateway.model.times import Times
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

_BEING_ASKED: Final = -1
WITHIN: Final = 30.0  # seconds without a byte of an answer
_LONGEST: Final = 600.0  # seconds for an answer that goes on coming: it may be a result of 200 MB
KEPT: Final = 1.0  # seconds
AT_ONCE: Final = 256  # jobs that are taken up in one piece
GRAIN: Final = 0.02  # seconds: what is due within it is asked about together, since waking up is what costs


class Watcher:
    """Follows the jobs of this process, whose name in the ledger is `me`; `state` returns the State in force."""

    def __init__(
        self,
        replica: Replica,
        queue: StatusQueue,
        findings: Findings,
        state: Callable[[], State],
        times: Times,
        kept: KeptAnswers,
    ) -> None:
        self.me = replica.name
        self._ledger = replica.ledger
        self._background = replica.background
        self._queue = queue
        self._findings = findings
        self._state = state
        self._clock = times.monotonic
        self._wall = times.wall
        self._kept = kept
        self._dates = DueDates()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at: float | None = None
        self._is_closed = False
        self._held: set[Job] = set()
        self._held_of = OwnerCounts()

    def __repr__(self) -> str:
        closed = " closed" if self._is_closed else ""
        timer = "" if self._wakes_at is None else f" wakes_at={self._wakes_at:.3f}"
        return f"<Watcher{closed}{timer} dates={self.dates} {self._queue!r}>"

    @property
    def behind(self) -> float:
        """By how many seconds the most urgent status request is late."""
        return max(0.0, self._clock() - min((*self._queue.first_due, self.next_due)))

    @property
    def next_due(self) -> float:
        """When the next request is due, by the loop's clock; infinite if none is."""
        return self._dates.next_due

    @property
    def dates(self) -> int:
        """How many jobs have a date."""
        return len(self._dates)

    def begin(self, job: Job) -> None:
        """Follows a job from now on."""
        if job.is_running and not job.is_followed:
            job.is_followed = True
            self._put_unless_asked(job, self._clock() + self._interval(job, 0))

    def hold(self, job: Job) -> None:
        """Called when a long poll begins: requests the job's status now and often, until `let_go`."""
        if job not in self._held:
            self._held.add(job)
            self._held_of.add(job.owner)
        if not job.is_followed:
            job.is_followed = True
            self._background.start(self._adopt(job))
        elif len(job.waiters) > 1:
            return  # already requested often
        self._put_unless_asked(job, self._clock())

    def let_go(self, job: Job) -> None:
        """Called when a long poll has ended, and is no waiter of the job any more."""
        if not job.is_held and job in self._held:
            self._held.discard(job)
            self._held_of.drop(job.owner)

    def apply_changes(self, changes: Iterable[tuple[Job, str]]) -> None:
        """Applies other replicas' changes: stops following jobs they took or ended, unless a client waits here."""
        for job, watcher in changes:
            if watcher != self.me and not job.is_held:
                job.is_followed = False

    def ask_due(self) -> None:
        """Requests the status of due jobs, up to the bound on concurrent requests; of more than AT_ONCE, soon."""
        now = self._clock()
        for _ in range(AT_ONCE):
            if self.next_due > now:
                break
            due, ticket, job = self._dates.pop()
            if self._is_due(job, ticket):
                urgency = Urgency.HELD if job.is_held else Urgency.NOBODY
                start = partial(self._start, due, ticket, job)
                self._queue.put(job, urgency, StatusRequest(due, start))
        self._set_timer()

    def close(self) -> None:
        """Sends no more requests."""
        self._is_closed = True
        self._queue.close()
        self._set_timer()

    def _put_unless_asked(self, job: Job, due: float) -> None:
        """Sets the job's next date; while a request is under way, its answer does that."""
        if job.ticket != _BEING_ASKED:
            self._put(job, due)

    def _put(self, job: Job, due: float) -> None:
        if self._dates.put(job, due):
            self._set_timer()

    def _is_due(self, job: Job, ticket: int) -> bool:
        return job.is_running and job.is_followed and job.ticket == ticket

    def _start(self, due: float, ticket: int, job: Job) -> bool:
        return self._is_due(job, ticket) and self._consider(job, due, self._clock())

    def _set_timer(self) -> None:
        """Schedules the next turn for the end of the grain in which the first job is due."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._wakes_at = None
        due = self.next_due
        if due < math.inf and not self._is_closed:
            now = self._clock()
            seconds = time_to_wake(due, now)
            self._timer, self._wakes_at = self._loop.call_later(seconds, self.ask_due), now + seconds

    def _consider(self, job: Job, due: float, now: float) -> bool:
        """Requests one job's status, unless it is too early because a request or a poll has just learnt it."""
        if not job.is_held and not self._state().settings.jobs.watch:
            job.is_followed = False
            return False
        earliest = job.asked_at + self._interval(job, self._age(job))
        if due < earliest and now < earliest:
            self._put(job, earliest)
            return False
        return self._ask(job)

    def _ask(self, job: Job) -> bool:
        job.mark_asked(self._clock())
        upstream = self._state().upstreams.get(job.upstream)
        if upstream is None:  # a later configuration may have it again
            self._give_up_old(job)
            self._schedule_next(job)
            return False
        job.ticket = _BEING_ASKED
        self._queue.send(job, upstream, Patience(WITHIN, _LONGEST), partial(self._take_outcome, job, upstream))
        return True

    def _take_outcome(
        self, job: Job, upstream: UpstreamTarget, watch: StatusWatch, outcome: ResponseHead | UpstreamFailed
    ) -> None:
        if isinstance(outcome, ResponseHead):
            self._take_answer(job, upstream, watch, outcome)
        elif isinstance(outcome, UpstreamTimeout) and watch.reader is not None and watch.content is None:
            self._findings.note_cut(job)  # to fetch the same megabytes at once again would end likewise
        self._give_up_old(job)
        self._schedule_next(job)
        self._set_timer()

    def _take_answer(self, job: Job, upstream: UpstreamTarget, watch: StatusWatch, head: ResponseHead) -> None:
        if not is_answer(head.status):
            job.forget_misses()
        self._keep_for_waiters(job, upstream, head, watch)
        if watch.is_unfinished and watch.gives_nothing and watch.content is not None:
            answer = StatusAnswer.of_running(head, watch.content)
            self._kept.keep(job, RunningAnswer(answer, upstream, None, watch.began_at))

    def _keep_for_waiters(self, job: Job, upstream: UpstreamTarget, head: ResponseHead, watch: StatusWatch) -> None:
        """Keeps a small answer for all waiters; each fetches a large one itself."""
        is_news = watch.is_final or (watch.is_unfinished and not job.has_seen_end)
        if job.is_held and watch.content is not None and is_news:
            job.answer = answer = StatusAnswer.of(
                head,
                watch.content,
                is_final=watch.is_final,
                gives_nothing=watch.gives_nothing,
                target=upstream,
            )
            self._loop.call_later(KEPT, _drop_answer, job, answer)

    def _give_up_old(self, job: Job) -> None:
        if job.is_running and self._age(job) > self._state().settings.jobs.give_up_after:
            self._findings.give_up(job)

    def _schedule_next(self, job: Job) -> None:
        if job.is_running:
            self._put(job, self._clock() + self._interval(job, self._age(job)))

    def _age(self, job: Job) -> float:
        return self._wall() - job.created_at

    def _interval(self, job: Job, age: float) -> float:
        followed = self._held_of.shared_by(job.owner) if job.is_held else self._dates.shared_by(job)
        return max(interval(age, held=job.is_held, followed=followed), after_unread(job.unread, held=job.is_held))

    async def _adopt(self, job: Job) -> None:
        try:
            await self._ledger.write(lambda c: adopt(c, job.ref, self.me, self._wall()), in_turn_of=job.owner)
        except LedgerUnavailable:
            return  # two processes follow it for a while


def time_to_wake(due: float, now: float) -> float:
    """Seconds until a date is taken up, together with all others of its grain; 0 if it has come already.

    In whole milliseconds, never fewer than it takes: the loop rounds, and would wake up too soon.
    """
    return math.ceil((math.ceil(due / GRAIN) * GRAIN - now) * 1000) / 1000 if due > now else 0.0


def _drop_answer(job: Job, answer: StatusAnswer) -> None:
    if job.answer is answer:
        job.answer = None
