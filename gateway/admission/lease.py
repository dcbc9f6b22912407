"""One submit's lease: its slot and its pages, from its head to its job.

A lease gets its slot before the body is invited, and its pages as the last act before the body's end is released; one
that went ahead gets both there. It is closed on every path. A ledger write that fails is retried in the background.
Until it succeeds, whatever may have been released counts as charged, so that no fault of ours can oversell a page. A
mere slot is also freed by its expiry, so its retries end: in a long outage they would pile up for nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, NamedTuple, Protocol

import structlog

from gateway.admission.throttle import Throttle
from gateway.errors import LedgerUnavailable, Refused, UpstreamBrokeOff, ledger_unavailable, whereabouts
from gateway.ledger.closing import Settled
from gateway.ledger.deliveries import Planned
from gateway.ledger.jobs import NewJob, end_another_owners
from gateway.ledger.replica import Replica
from gateway.ledger.reservations import Claim, RequestIdTaken, ReservationLost
from gateway.ledger.steps import Accept, Admit, Cancel, Reserve, Steps
from gateway.limits.quotas import Limit, limits_of, rate_limit_lines, soft_among, soft_limits
from gateway.limits.submit_decisions import Ask, StepOutcome
from gateway.model.identity import Profile

LEASE_SECONDS: Final = 60.0
RETRY_DELAYS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # seconds
log = structlog.get_logger()


class Counts(Protocol):
    """Counts settlements and crossed soft limits, for the metrics."""

    def pages(self, account: str, settled: int, refunded: int) -> None:
        """Counts one settlement."""

    def set_ratios(self, account: str, ratios: dict[str, float]) -> None:
        """Records the share of each limit that an account has used."""

    def count_crossed(self, account: str, limits: frozenset[str]) -> None:
        """Counts soft limits that an account has just crossed."""


class PagesRefused(Refused):
    """Its head was let in, but not the pages that it asks for."""


class LeaseParts(NamedTuple):
    """What a lease works with. `held` are the reservations that are renewed while they run.

    `new` counts the leases of each account of which it is not known yet whether they have a slot.
    """

    replica: Replica
    steps: Steps
    throttle: Throttle
    counts: Counts
    held: set[str]
    new: Counter[str]


class LeaseState(Enum):
    """How far a submit has come, and so what `close` does, which makes each of them OVER at once.

        NEW ──admit──> HELD ──reserve──> RESERVING ──mark_released──> RELEASED ──accept──> OVER
         │                                ▲  ▲                           │
         └────────────reserve─────────────┘  └───────mark_refused────────┘

    An accept that fails leaves it RELEASED; a refusal by the head alone, which took nothing, makes it OVER.
    """

    NEW = "new"
    """Has nothing and has asked for nothing: closing spends a token of the rate, as any other submit has."""
    HELD = "held"
    """Has a slot, or asks for one: closing gives it back, or lets it expire after some tries."""
    RESERVING = "reserving"
    """May have pages, too: closing gives all back, however many tries that takes."""
    RELEASED = "released"
    """The upstream may have the whole request: closing has it charged, likewise."""
    OVER = "over"
    """The job has been accepted, nothing was taken, or the rest goes on in the background."""


class Lease:
    """One submit's slot and pages."""

    def __init__(self, parts: LeaseParts, claim: Claim, profile: Profile, reservation_ttl: float) -> None:
        self._parts = parts
        self._claim = claim
        self._profile = profile
        self._ttl = reservation_ttl
        self._doing: asyncio.Future[Any] | None = None
        self._state = LeaseState.NEW
        self._is_in_new = True
        self._asked_at = 0.0
        parts.new[claim.account] += 1
        self._shown: tuple[Profile, list[Limit], float] | None = None

    def __repr__(self) -> str:
        return f"<Lease {self._state.value} account={self._claim.account}>"

    @property
    def is_new(self) -> bool:
        """Whether it has asked for nothing yet."""
        return self._state is LeaseState.NEW

    async def admit(self) -> None:
        """Takes the slot.

        Raises:
            Refused: rate_limited, too_many_requests_in_flight, too_many_pages_in_flight, budget_exhausted or
                ledger_unavailable.
        """
        self._advance(LeaseState.HELD)
        await self._admit()

    async def _admit(self, ask: Ask | None = None) -> None:
        """Takes the slot, and with `ask` the pages, too."""
        self._parts.held.add(self._claim.id)
        self._asked_at = self._parts.replica.wall()
        self._know(await self._do(self._through(self._asked_at, ask)))

    async def until_known(self) -> None:
        """Waits for what the ledger says of its slot, and asks for one first, if that was not done.

        For what ends a submit before its pages were reserved: a limit is said first, and the limits are known.

        Raises:
            Refused: as `admit` does.
        """
        if self.is_new:
            await self.admit()
        elif self._shown is None and self._doing is not None:
            with suppress(PagesRefused):  # its head was let in
                self._know(await self._do(self._doing))

    def _know(self, outcome: StepOutcome) -> None:
        self._leave_new()
        if outcome.denial is not None:
            self._end()  # nothing was taken that could be given back
        self._judge(outcome, self._asked_at, PagesRefused if outcome.has_spent_token else Refused)

    def _through(self, now: float, ask: Ask | None = None) -> Coroutine[Any, Any, StepOutcome]:
        step = Admit(self._claim, self._profile, now, now + LEASE_SECONDS, ask)
        take = partial(self._parts.steps.admit, step)
        return self._parts.throttle.through(self._claim.account, self._profile, take)

    async def reserve(self, ask: Ask) -> None:
        """Reserves pages, and takes the slot, too, if it has none; then the end of the body may be released.

        Raises:
            PagesRefused: too_many_pages_in_flight or budget_exhausted.
            Refused: ledger_unavailable; without a slot also as `admit` does.
        """
        now, was_new = self._parts.replica.wall(), self.is_new
        self._advance(LeaseState.RESERVING)
        if was_new:
            await self._admit(ask)
            return
        try:
            step = Reserve(self._claim, self._profile, ask, now, now + LEASE_SECONDS)
            outcome: StepOutcome = await self._do(self._parts.steps.reserve(step))
        except ReservationLost:
            raise ledger_away() from None
        self._judge(outcome, now, PagesRefused)

    def mark_released(self) -> None:
        """Records that from now on the upstream may have the whole request."""
        self._advance(LeaseState.RELEASED)

    async def accept(self, job: NewJob | None, webhook: Planned | None = None) -> None:
        """Records the job's owner, its id and its webhook; the client may see the id once this has returned.

        Raises:
            Refused: ledger_unavailable.
            UpstreamBrokeOff: the upstream gave two jobs one id.
        """
        replica = self._parts.replica
        now = replica.wall()
        try:
            step = Accept(self._claim, job, webhook, replica.name, now, now + self._ttl)
            await self._do(self._parts.steps.accept(step))
        except ReservationLost:
            raise ledger_away() from None
        except RequestIdTaken:
            if job is not None:
                self._parts.replica.background.start(self._end_another_owners(job.request_id, now))
            raise UpstreamBrokeOff("The upstream gave this job the id of another one.", arrived=True) from None
        self._end()
        self._parts.throttle.free_slot(self._claim.account)

    async def _end_another_owners(self, request_id: str, now: float) -> None:
        """Makes the job of an id unreadable, if it is another owner's: what the upstream has there now is not his.

        A container that was started anew may count its ids anew. It goes on until the ledger has taken it.
        """
        replica, claim = self._parts.replica, self._claim
        work = partial(end_another_owners, upstream=claim.upstream, request_id=request_id, owner=claim.owner, now=now)
        for wait in chain(RETRY_DELAYS, repeat(RETRY_DELAYS[-1])):
            await asyncio.sleep(wait)
            with suppress(LedgerUnavailable):
                ended = await replica.ledger.write(work, in_turn_of=claim.owner)
                if ended.was_readable:
                    log.error("the upstream gave the id of an owner's job to another's", upstream=claim.upstream)
                if ended.settled is not None:
                    self._parts.counts.pages(*ended.settled)
                return

    def mark_refused(self) -> None:
        """Records that the upstream has refused the job: closing the lease gives all back."""
        if self.is_released:
            self._state = LeaseState.RESERVING

    def close(self) -> None:
        """Gives back what is still held, in the background; called on every path, and idempotent."""
        last = self._state
        if last is not LeaseState.OVER:
            self._end()
            self._parts.replica.background.start(self._spend() if last is LeaseState.NEW else self._finish(last))

    async def _spend(self) -> None:
        """Takes a slot and gives it back: who left before he had asked for one has spent his token all the same."""
        with suppress(LedgerUnavailable):  # then nobody is let in, either
            try:
                outcome = await self._through(self._parts.replica.wall())
            finally:
                self._leave_new()
            if outcome.denial is None:
                await self._finish(LeaseState.HELD)

    def _advance(self, state: LeaseState) -> None:
        if self._state is LeaseState.OVER:
            raise RuntimeError("the submit is over")  # what it would take or release now, nobody would give back
        self._state = state

    def _end(self) -> None:
        self._state = LeaseState.OVER
        self._parts.held.discard(self._claim.id)

    def _leave_new(self) -> None:
        new, account = self._parts.new, self._claim.account
        if self._is_in_new:
            self._is_in_new = False
            new[account] -= 1
            if not new[account]:
                del new[account]

    def _judge(self, outcome: StepOutcome, now: float, refused: type[Refused]) -> None:
        profile, counts, account = self._profile, self._parts.counts, self._claim.account
        limits = limits_of(profile, outcome.after, now)
        self._shown = profile, limits, now
        counts.set_ratios(account, {limit.name: limit.ratio for limit in limits})
        soft = soft_among(profile, limits)
        counts.count_crossed(account, soft - soft_limits(profile, outcome.before, now) if soft else soft)
        if outcome.denial is not None:
            raise refused(replace(outcome.denial, lines=self.lines))

    @property
    def lines(self) -> tuple[bytes, ...]:
        """Header lines that show the client its limits, as they were at the last step."""
        return () if self._shown is None else rate_limit_lines(*self._shown)

    def judge_by(self, profile: Profile) -> None:
        """Replaces the limits under which the submit was admitted."""
        self._profile = profile

    async def _do(self, step: Awaitable[Any]) -> Any:
        """Runs one step. Its wait may be interrupted, but the step itself is not, and `close` waits for it."""
        # A step's own future; a task where it first waits for its turn.
        doing = self._doing = asyncio.ensure_future(step)
        try:
            return await asyncio.shield(doing)
        except LedgerUnavailable:
            raise ledger_away() from None
        finally:
            if doing.done():
                self._doing = None  # it has the error, which has the calls of this in its traceback
            del doing, step

    async def _finish(self, last: LeaseState) -> None:
        was_refused = await self._is_refused_late()
        self._leave_new()
        if not was_refused:  # else nothing was taken that could be given back
            await self._give_back(last)

    async def _give_back(self, last: LeaseState) -> None:
        """Has the ledger take it back: a slot alone is tried some times (it expires), pages until that is done."""
        faults = 0
        for wait in chain(RETRY_DELAYS, () if last is LeaseState.HELD else repeat(RETRY_DELAYS[-1])):
            await asyncio.sleep(wait)
            try:
                settled = await (self._lose() if last is LeaseState.RELEASED else self._cancel())
            except LedgerUnavailable:
                continue
            except Exception as error:  # noqa: BLE001 -- a fault of ours: without another attempt the place is charged
                log.error("a place could not be given back yet", error=whereabouts(error))
                faults += 1
                if faults > len(RETRY_DELAYS):
                    break
                continue
            if settled is not None:
                self._parts.counts.pages(*settled)
            self._parts.throttle.free_slot(self._claim.account)
            return
        log.error("a place could not be given back; it will expire")

    async def _is_refused_late(self) -> bool:
        """Waits for a step that nobody waits for any more; returns whether it was the slot's, and refused."""
        if self._doing is None:
            return False
        outcome: Any = (await asyncio.gather(self._doing, return_exceptions=True))[0]
        return self._shown is None and isinstance(outcome, StepOutcome) and outcome.denial is not None

    async def _cancel(self) -> Settled:
        pages = await self._parts.steps.cancel(Cancel(self._claim, self._parts.replica.wall()))
        return Settled(self._claim.account, 0, pages)

    async def _lose(self) -> None:
        replica = self._parts.replica
        now = replica.wall()
        await self._parts.steps.accept(Accept(self._claim, None, None, replica.name, now, now + self._ttl))

    @property
    def is_released(self) -> bool:
        """Whether the upstream may have the whole request, and has not refused it."""
        return self._state is LeaseState.RELEASED

    @property
    def reservation(self) -> str:
        """The id of its reservation, which is the job's own."""
        return self._claim.id

    @property
    def owner(self) -> str:
        """The owner of the job."""
        return self._claim.owner

    @property
    def upstream(self) -> str:
        """The name of where the job runs."""
        return self._claim.upstream


def ledger_away() -> Refused:
    """The refusal of a submit when the ledger does not answer."""
    detail = "Keys and budgets can't be checked at the moment; try again."
    return ledger_unavailable(detail)
