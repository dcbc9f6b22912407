"""Follows jobs to their end, so that settlement, expiry and webhooks need no client that comes back.

Each running job has one due date. When it comes, the watcher requests the job's status, unless a client's poll has
just learnt it. A job with a long poll is requested ten times as often as a new one; the older a job, the longer its
interval. Concurrent requests are bounded per upstream; further due jobs wait for a slot. The ledger says which
process watches a job; jobs of a dead process are taken over.

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
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed
from gateway.jobs.completion import Completion, StatusWatch
from gateway.jobs.job import Job, StatusAnswer, after_unread, interval
from gateway.jobs.reading import is_answer
from gateway.jobs.registry import Registry
from gateway.jobs.shared_polls import RunningAnswer, keep_running
from gateway.ledger.jobs import adopt, beat, find, followed_by, leave, take_over
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.limits.job_cost import ENDS, Facts, Known
from gateway.model.times import Times
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

_ALIVE: Final = 15.0  # seconds
_BEING_ASKED: Final = -1
_WITHIN: Final = 30.0  # seconds
_BEFORE_DELETE: Final = 5.0  # seconds; a client waits for this answer before its job is deleted
_KEPT: Final = 1.0  # seconds
_TURN: Final = "(heartbeat)"  # a turn at the ledger of its own, beside all accounts
_PORTION: Final = 500  # jobs looked at in one iteration of the loop
log = structlog.get_logger()


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
        self._asking: Counter[str] = Counter()
        self._questions: dict[Job, asyncio.Future[None]] = {}
        self._late: dict[str, deque[tuple[float, int, Job]]] = {}
        self._held: Counter[Job] = Counter()
        self.asked = 0

    def __repr__(self) -> str:
        closed = " closed" if self._is_closed else ""
        timer = "" if self._timer is None or self._timer.cancelled() else f" wakes_at={self._timer.when():.3f}"
        return f"<Watcher{closed}{timer} dates={self.dates} asking={self._asking.total()} asked={self.asked}>"

    @property
    def behind(self) -> float:
        """By how many seconds the most urgent status request is late."""
        first = [waiting[0][0] for waiting in (self._due, *self._late.values()) if waiting]
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

        All who ask about one job at the same time share the question, and all questions share their bound.
        """
        upstream = self._state().upstreams.get(job.upstream)
        waiting = self._questions.get(job)
        if waiting is None and upstream is not None and not self._asks_enough(job.upstream):
            waiting = self._questions[job] = self._loop.create_future()
            self._ask_for(job, upstream, waiting)
        if waiting is not None:
            await asyncio.shield(waiting)

    def _asks_enough(self, upstream: str) -> bool:
        return self._asking[upstream] >= self._state().settings.jobs.most_status_requests

    def _ask_for(self, job: Job, upstream: UpstreamTarget, waiting: "asyncio.Future[None]") -> None:
        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            del outcome
            self._asking[job.upstream] -= 1
            del self._questions[job]
            waiting.set_result(None)
            self._go_on(job.upstream)

        self._asking[job.upstream] += 1
        self.asked += 1
        call, within = UpstreamCall("GET", job.target), min(upstream.read_timeout, _BEFORE_DELETE)
        self._upstream_client.run(upstream, call, self._completion.watch(job), within, done)

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
        most = self._state().settings.jobs.most_status_requests
        while self._due and self._due[0][0] <= now:
            due, ticket, job = heapq.heappop(self._due)
            if not job.is_running or not job.is_followed or job.ticket != ticket:
                continue
            if self._asking[job.upstream] >= most:  # this upstream may be silent; others are not
                self._late.setdefault(job.upstream, deque()).append((due, ticket, job))
            else:
                self._consider(job, due, now)
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
        await self._ledger.write(lambda c: beat(c, self.me, now, now + _ALIVE), of=_TURN)

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
        the job was let go while the configuration lacked its upstream's shape or had watching off.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        if not self._state().settings.jobs.watch:
            return
        for index, named in enumerate(await self._ledger.read(lambda c: followed_by(c, self.me))):
            if index % _PORTION == 0:
                await asyncio.sleep(0)  # there may be ten thousand
            job = self._registry.get(named.key)
            if job is None or job.named != named or not (job.is_gone or job.is_followed):
                row = await self._ledger.read(lambda c, key=named.key: find(c, *key))  # type: ignore[misc]
                if row is not None and row.state == JobState.RUNNING and row.watcher == self.me:
                    self._begin_row(row)
            elif job.is_gone:
                self._completion.forget(job)

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

    def _go_on(self, upstream: str) -> None:
        """Sends the next requests that had to wait for a slot."""
        late, most = self._late.get(upstream), self._state().settings.jobs.most_status_requests
        while late and self._asking[upstream] < most and not self._is_closed:
            due, ticket, job = late.popleft()
            if job.is_running and job.is_followed and job.ticket == ticket:
                self._consider(job, due, self._clock())

    def _set_timer(self) -> None:
        """Schedules the next turn for when the first job is due."""
        if self._timer is not None:
            self._timer.cancel()
        if self._due and not self._is_closed:
            wait = max(0.0, self._due[0][0] - self._clock())
            self._timer = self._loop.call_later(wait, self.ask_due)

    def _consider(self, job: Job, due: float, now: float) -> None:
        """Requests one job's status, unless it is too early because a request or a poll has just learnt it."""
        held = bool(job.waiters)
        if not held and not self._state().settings.jobs.watch:
            job.is_followed = False
            return
        earliest = job.asked_at + self._interval(job, self._wall() - job.created_at)
        if due < earliest and now < earliest:
            self._put(job, earliest)
        else:
            self._ask(job)

    def _ask(self, job: Job) -> None:
        upstream = self._state().upstreams.get(job.upstream)
        if upstream is None:  # a later configuration may have it again
            job.asked_at = self._clock()
            self._give_up_old(job)
            self._schedule_next(job)
            return
        self._asking[job.upstream] += 1
        self.asked += 1
        job.ticket = _BEING_ASKED
        job.asked_at = self._clock()
        watch = self._completion.watch(job)
        call = UpstreamCall("GET", job.target)

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            self._asking[job.upstream] -= 1
            if isinstance(outcome, ResponseHead):
                if not is_answer(outcome.status):
                    job.misses = 0
                self._keep_for_waiters(job, outcome, watch)
                if watch.is_unfinished and watch.gives_nothing and watch.content is not None:
                    answer = StatusAnswer(outcome, watch.content, is_final=False, gives_nothing=True)
                    keep_running(job, RunningAnswer(answer, upstream, None, self._clock()))
            self._give_up_old(job)
            self._schedule_next(job)
            self._go_on(job.upstream)
            self._set_timer()

        self._upstream_client.run(upstream, call, watch, min(upstream.read_timeout, _WITHIN), done)

    def _keep_for_waiters(self, job: Job, head: ResponseHead, watch: StatusWatch) -> None:
        """Keeps a small answer for all waiters; each fetches a large one itself."""
        is_news = watch.is_final or (watch.is_unfinished and not job.known & ENDS)
        if job.waiters and watch.content is not None and is_news:
            job.answer = answer = StatusAnswer(head, watch.content, watch.is_final, watch.gives_nothing)
            self._loop.call_later(_KEPT, _drop_answer, job, answer)

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
            await self._ledger.write(lambda c: adopt(c, job.named, self.me, self._wall()), of=job.owner)
        except LedgerUnavailable:
            return  # two processes follow it for a while


def _drop_answer(job: Job, answer: StatusAnswer) -> None:
    if job.answer is answer:
        job.answer = None
