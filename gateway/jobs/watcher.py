"""Follows jobs to their end (failover), so that settlement, expiry and webhooks need no client that comes back.

Each running job has one due date. When it comes, the watcher requests the job's status, unless a client's poll has
just learnt it. A job with a long poll is requested ten times as often as a new one; the older a job, the longer its
interval. Concurrent requests are bounded per upstream; further due jobs wait for a slot, in turns of their owners
(status_slots.py). The ledger says which process watches a job; jobs of a dead process are taken over.

States of a job here, and what ends each:
    not followed  another process asks, or none yet. `begin`, `hold` and `take_over` end it.
    dated         its ticket is in the heap of dates. `ask_due` ends it when the date comes; an earlier date
                  replaces it and voids the old ticket.
    late          its date has come, and its upstream has no free slot. `_go_on` ends it.
    being asked   its ticket is _BEING_ASKED. The answer, or a failure, ends it: dated again, or ended.
    ended         it has ended (Completion): any ticket that comes up is dropped.
Impossible: two requests by date for one job at the same time (a DELETE may ask beside one: `ask_once`); a running,
followed job without a date.
"""

import asyncio
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, count
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, Refused, UpstreamFailed, UpstreamTimeout
from gateway.jobs.completion import Completion
from gateway.jobs.job import Job, after_unread, interval
from gateway.jobs.reading import is_answer
from gateway.jobs.registry import Registry
from gateway.jobs.status_answer import RunningAnswer, StatusAnswer
from gateway.jobs.status_slots import StatusSlots, Urgency
from gateway.jobs.status_watch import StatusWatch
from gateway.ledger.engine import OwnTurn
from gateway.ledger.jobs import job_ref
from gateway.ledger.replica import Replica
from gateway.ledger.unfollowed import AT_ONCE, running
from gateway.ledger.watchers import LIVES_FOR, adopt, beat, followed_by, leave, take_over
from gateway.limits.job_cost import ENDS, Facts, Known
from gateway.model.jobs import JobRef
from gateway.model.reasons import Denial, Reason
from gateway.model.times import Times
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.response_head import ResponseHead

_BEING_ASKED: Final = -1
WITHIN: Final = 30.0  # seconds without a byte of an answer
_LONGEST: Final = 600.0  # seconds for an answer that goes on coming: it may be a result of 200 MB
_LONGEST_BEFORE_DELETE: Final = 60.0
BEFORE_DELETE: Final = 5.0  # seconds for a slot, and without a byte; a client waits before its job is deleted
_RETRY_AFTER: Final = 5
KEPT: Final = 1.0  # seconds
_GIVEN_UP_LATER: Final = 300.0  # seconds that a replica has to give up the jobs that it follows
_PORTION: Final = 500  # jobs looked at in one iteration of the loop
GRAIN: Final = 0.02  # seconds: what is due within it is asked about together, since waking up is what costs
log = structlog.get_logger()


class _Wait(NamedTuple):
    """What waits for a slot. `start` sends the request; False: it was not needed any more."""

    due: float
    start: Callable[[], bool]


class Watcher:
    """Follows the jobs of this process, whose name in the ledger is `me`; `state` returns the State in force."""

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        completion: Completion,
        upstream_client: UpstreamClient,
        state: Callable[[], State],
        times: Times,
    ) -> None:
        self.me = replica.name
        self._ledger = replica.ledger
        self._background = replica.background
        self._registry = registry
        self._completion = completion
        self._upstream_client = upstream_client
        self._state = state
        self._clock = times.monotonic
        self._wall = times.wall
        self._due: list[tuple[float, int, Job]] = []
        self._tickets = count()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._slots: dict[str, StatusSlots[_Wait]] = {}
        self._questions: dict[Job, asyncio.Future[bool]] = {}
        self._held: Counter[Job] = Counter()
        self.asked = 0

    def __repr__(self) -> str:
        closed = " closed" if self._is_closed else ""
        timer = "" if self._timer is None or self._timer.cancelled() else f" wakes_at={self._timer.when():.3f}"
        asking = sum(slots.taken for slots in self._slots.values())
        return f"<Watcher{closed}{timer} dates={self.dates} asking={asking} asked={self.asked}>"

    @property
    def behind(self) -> float:
        """By how many seconds the most urgent status request is late."""
        first = [due for due, _, _ in self._due[:1]]
        first += [wait.due for slots in self._slots.values() for wait in slots.first()]
        return max(0.0, self._clock() - min(first)) if first else 0.0

    @property
    def next_due(self) -> float:
        """When the next request is due, by the loop's clock; fails if none is."""
        return self._due[0][0]

    @property
    def dates(self) -> int:
        """How many dates are scheduled, including outdated ones."""
        return len(self._due)

    def begin(self, job: Job) -> None:
        """Follows a job from now on."""
        if job.is_running and not job.is_followed:
            job.is_followed = True
            self._put_unless_asked(job, self._clock() + self._interval(job, 0))

    def hold(self, job: Job) -> None:
        """Called when a long poll begins: requests the job's status now and often, until `let_go`."""
        self._held[job] += 1
        if not job.is_followed:
            job.is_followed = True
            self._background.start(self._adopt(job))
        elif len(job.waiters) > 1:
            return  # already requested often
        self._put_unless_asked(job, self._clock())

    async def ask_once(self, job: Job) -> None:
        """Asks the upstream about a job and waits for the answer; without an answer in time it just returns.

        All who ask about one job at the same time share the question, and all questions share the slots: they are
        the first to get one.

        Raises:
            Refused: there was no slot for seconds.
        """
        if job.upstream not in self._state().upstreams:
            return
        waiting = self._questions.get(job) or self._put_question(job)
        if not await asyncio.shield(waiting):
            detail = "The job was not deleted: too many are asked about at the moment (jobs.most_status_requests)."
            raise Refused(Denial(Reason.NO_ROOM, detail, retry_after=_RETRY_AFTER, title="Too many status requests"))

    def _put_question(self, job: Job) -> "asyncio.Future[bool]":
        """Queues a question; its future gets whether there was a slot for it."""
        waiting = self._questions[job] = self._loop.create_future()
        timer = self._loop.call_later(BEFORE_DELETE, self._close_question, job, waiting, False)
        start = partial(self._start_question, job, waiting, timer)
        self._slots_of(job).put(job.owner, Urgency.DELETION, _Wait(self._clock(), start))
        self._go_on(job)
        return waiting

    def _close_question(self, job: Job, waiting: "asyncio.Future[bool]", had_slot: bool) -> None:
        del self._questions[job]
        waiting.set_result(had_slot)

    def _start_question(self, job: Job, waiting: "asyncio.Future[bool]", timer: asyncio.TimerHandle) -> bool:
        if waiting.done():
            return False
        timer.cancel()
        upstream = self._state().upstreams.get(job.upstream)
        if upstream is None or not job.is_running:
            self._close_question(job, waiting, had_slot=True)
            return False

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            del outcome
            self._slots_of(job).give_back(job.owner)
            self._close_question(job, waiting, had_slot=True)
            self._go_on(job)

        self.asked += 1
        call, within = UpstreamCall("GET", job.target), min(upstream.read_timeout, BEFORE_DELETE)
        watch = self._completion.watch(job)
        self._upstream_client.run(upstream, call, watch, within, done, longest=_LONGEST_BEFORE_DELETE)
        return True

    def let_go(self, job: Job) -> None:
        """Called when a long poll ends."""
        self._held[job] -= 1
        if not self._held[job]:
            del self._held[job]

    def apply_changes(self, changes: Iterable[tuple[Job, str]]) -> None:
        """Applies other replicas' changes: stops following jobs they took or ended, unless a client waits here."""
        for job, watcher in changes:
            if watcher != self.me and not job.waiters:
                job.is_followed = False

    def ask_due(self) -> None:
        """Requests the status of all due jobs, up to the bound on concurrent requests."""
        now = self._clock()
        while self._due and self.next_due <= now:
            due, ticket, job = heapq.heappop(self._due)
            if self._is_due(job, ticket):
                urgency = Urgency.HELD if job.waiters else Urgency.NOBODY
                start = partial(self._start_late, due, ticket, job)
                self._slots_of(job).put(job.owner, urgency, _Wait(due, start))
                self._go_on(job)
        self._set_timer()

    def close(self) -> None:
        """Sends no more requests."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    async def beat(self) -> None:
        """Sends this process's heartbeat; called every few seconds.

        Raises:
            LedgerUnavailable: it may not have been sent.
        """
        now = self._wall()
        await self._ledger.write(lambda c: beat(c, self.me, now, now + LIVES_FOR), in_turn_of=OwnTurn.HEARTBEAT)

    async def take_over(self) -> None:
        """Takes over jobs that no one follows; called every few seconds.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        now = self._wall()
        while rows := await self._ledger.write(lambda c: take_over(c, self.me, now)):
            for row in rows:
                self._begin_row(row)
            log.info("jobs taken over", jobs=len(rows))

    async def recall(self) -> None:
        """Follows jobs that the ledger assigns to this process but that it does not follow; called once a minute.

        Causes: the ledger's answer about a job's beginning or deletion was lost, whether it was written or not; or
        the job was let go while the configuration lacked its upstream's shape or had watching off. As long as it does
        none of them is followed, and those that are too old are given up.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        settings, left = self._state().settings.jobs, list[JobRef]()
        over = self._wall() - settings.give_up_after - _GIVEN_UP_LATER
        before = None if settings.watch else over
        for index, mine in enumerate(await self._ledger.read(lambda c: followed_by(c, self.me, before))):
            if index % _PORTION == 0:
                await asyncio.sleep(0)  # there may be ten thousand
            job = self._registry.get(mine.key)
            if job is None or job.ref != mine or not (job.is_gone or job.is_followed):
                left.append(mine)
            elif job.is_gone:
                self._completion.forget(job)
        old = list(chain.from_iterable([await self._recall_some(some, over) for some in _portions(left)]))
        for some in _portions(old):
            if lost := [one for one in some if not self._has_hope(one)]:  # portions take a while
                await self._completion.give_up(lost)

    async def _recall_some(self, left: Sequence[JobRef], over: float) -> list[JobRef]:
        """Follows those that can be followed; returns the others that began before a moment."""
        rows = [row for row in await self._ledger.read(lambda c: running(c, left)) if row.watcher == self.me]
        if self._state().settings.jobs.watch:
            for row in rows:
                self._begin_row(row)
        return [job_ref(row) for row in rows if row.created_at < over and not self._has_hope(job_ref(row))]

    def _has_hope(self, mine: JobRef) -> bool:
        """Whether a job is followed here, or its end is known and only to be told to the ledger."""
        job = self._registry.get(mine.key)
        return job is not None and job.ref == mine and (job.is_followed or bool(job.known & ENDS))

    async def leave(self) -> None:
        """Hands the jobs of this process over to others."""
        try:
            await self._ledger.write(lambda c: leave(c, self.me))
        except LedgerUnavailable:
            return  # others take them over once this process's heartbeat expires

    def _begin_row(self, row: Row[Any]) -> None:
        job = self._registry.apply_row(row)
        if job is not None:
            self.begin(job)

    def _put_unless_asked(self, job: Job, due: float) -> None:
        """Sets the job's next date; while a request is under way, its answer does that."""
        if job.ticket != _BEING_ASKED:
            self._put(job, due)

    def _put(self, job: Job, due: float) -> None:
        job.ticket = next(self._tickets)
        heapq.heappush(self._due, (due, job.ticket, job))
        if self._due[0][2] is job:
            self._set_timer()

    def _slots_of(self, job: Job) -> StatusSlots[_Wait]:
        """The slots of a job's upstream: one that is silent delays no other."""
        return self._slots.setdefault(job.upstream, StatusSlots())

    def _go_on(self, job: Job) -> None:
        """Sends the next requests to a job's upstream that have to wait for a slot."""
        slots, most = self._slots_of(job), self._state().settings.jobs.most_status_requests
        while not self._is_closed and (found := slots.take(most)) is not None:
            owner, wait = found
            if not wait.start():
                slots.give_back(owner, unused=True)

    def _is_due(self, job: Job, ticket: int) -> bool:
        return job.is_running and job.is_followed and job.ticket == ticket

    def _start_late(self, due: float, ticket: int, job: Job) -> bool:
        return self._is_due(job, ticket) and self._consider(job, due, self._clock())

    def _set_timer(self) -> None:
        """Schedules the next turn for the end of the grain in which the first job is due."""
        if self._timer is not None:
            self._timer.cancel()
        if self._due and not self._is_closed:
            self._timer = self._loop.call_later(time_to_wake(self.next_due, self._clock()), self.ask_due)

    def _consider(self, job: Job, due: float, now: float) -> bool:
        """Requests one job's status, unless it is too early because a request or a poll has just learnt it."""
        held = bool(job.waiters)
        if not held and not self._state().settings.jobs.watch:
            job.is_followed = False
            return False
        earliest = job.asked_at + self._interval(job, self._wall() - job.created_at)
        if due < earliest and now < earliest:
            self._put(job, earliest)
            return False
        return self._ask(job)

    def _ask(self, job: Job) -> bool:
        upstream = self._state().upstreams.get(job.upstream)
        if upstream is None:  # a later configuration may have it again
            job.mark_asked(self._clock())
            self._give_up_old(job)
            self._schedule_next(job)
            return False
        self.asked += 1
        job.ticket = _BEING_ASKED
        job.mark_asked(self._clock())
        watch = self._completion.watch(job)
        call = UpstreamCall("GET", job.target)

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            self._slots_of(job).give_back(job.owner)
            if isinstance(outcome, ResponseHead):
                if not is_answer(outcome.status):
                    job.forget_misses()
                self._keep_for_waiters(job, outcome, watch)
                if watch.is_unfinished and watch.gives_nothing and watch.content is not None:
                    answer = StatusAnswer(outcome, watch.content, is_final=False, gives_nothing=True)
                    job.keep(RunningAnswer(answer, upstream, None, self._clock()))
            elif isinstance(outcome, UpstreamTimeout) and watch.reader is not None and watch.content is None:
                self._completion.note_cut(job)  # to fetch the same megabytes at once again would end likewise
            self._give_up_old(job)
            self._schedule_next(job)
            self._go_on(job)
            self._set_timer()

        within = min(upstream.read_timeout, WITHIN)
        self._upstream_client.run(upstream, call, watch, within, done, longest=_LONGEST)
        return True

    def _keep_for_waiters(self, job: Job, head: ResponseHead, watch: StatusWatch) -> None:
        """Keeps a small answer for all waiters; each fetches a large one itself."""
        is_news = watch.is_final or (watch.is_unfinished and not job.known & ENDS)
        if job.waiters and watch.content is not None and is_news:
            job.answer = answer = StatusAnswer(head, watch.content, watch.is_final, watch.gives_nothing)
            self._loop.call_later(KEPT, _drop_answer, job, answer)

    def _give_up_old(self, job: Job) -> None:
        if job.is_running and self._wall() - job.created_at > self._state().settings.jobs.give_up_after:
            log.warning("a job has run for too long and was given up", upstream=job.upstream)
            self._completion.add_facts(job, Facts(Known.GIVEN_UP))

    def _schedule_next(self, job: Job) -> None:
        if job.is_running:
            self._put(job, self._clock() + self._interval(job, self._wall() - job.created_at))

    def _interval(self, job: Job, age: float) -> float:
        is_held = bool(job.waiters)
        seconds = interval(age, held=is_held, followed=len(self._held) if is_held else len(self._due))
        return max(seconds, after_unread(job.unread, held=is_held))

    async def _adopt(self, job: Job) -> None:
        try:
            await self._ledger.write(lambda c: adopt(c, job.ref, self.me, self._wall()), in_turn_of=job.owner)
        except LedgerUnavailable:
            return  # two processes follow it for a while


def _portions(jobs: Sequence[JobRef]) -> list[Sequence[JobRef]]:
    return [jobs[start : start + AT_ONCE] for start in range(0, len(jobs), AT_ONCE)]


def time_to_wake(due: float, now: float) -> float:
    """Seconds until a date is taken up, together with all others of its grain; 0 if it has come already.

    In whole milliseconds, never fewer than it takes: the loop rounds, and would wake up too soon.
    """
    return math.ceil((math.ceil(due / GRAIN) * GRAIN - now) * 1000) / 1000 if due > now else 0.0


def _drop_answer(job: Job, answer: StatusAnswer) -> None:
    if job.answer is answer:
        job.answer = None
