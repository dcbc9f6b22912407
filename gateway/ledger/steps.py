"""The steps of submits: waiting steps of one account are batched into one transaction.

A ledger may be far away, and an account's steps run one after the other: singly, a hundred submits would wait for a
hundred round trips. So while some steps are under way, the next ones gather and go as one transaction. If others
(another replica, or the account's steps of another kind) keep changing the account meanwhile, the batch runs under
the account's lock. Steps that don't fit a batch (a taken id, an expired slot) run one by one as the transactions of
reservations.py, which also lock, and cover every case.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.errors import LedgerUnavailable, without_calls
from gateway.ledger import closing, postgres_ends, postgres_submits, reservations
from gateway.ledger.accounts import lock
from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.engine import is_postgres
from gateway.ledger.jobs import NewJob, begin
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import Claim, RequestIdTaken, ReservationLost, reclaim
from gateway.limits.submit_decisions import Ask, StepOutcome, decide_in_turn, decide_pages, decide_submit
from gateway.model.identity import Profile

MOST_OF_AN_ACCOUNT: Final = 64  # submits that may wait for a step
TRIES: Final = 3
"""So often a guarded transaction is tried, before one that takes the account's lock."""
_FAULTS: Final = (IntegrityError, ReservationLost, RequestIdTaken)
_Step = TypeVar("_Step")


class Admit(NamedTuple):
    """Asks for a submit slot, and for the pages where they are known. Times are in seconds since the epoch."""

    claim: Claim
    profile: Profile
    now: float
    until: float
    ask: Ask | None = None


class Reserve(NamedTuple):
    """Asks for pages."""

    claim: Claim
    profile: Profile
    ask: Ask
    now: float
    until: float


class Accept(NamedTuple):
    """Reports a job that the upstream took, or, without one, a lost answer. Its pages stay reserved `until` then."""

    claim: Claim
    job: NewJob | None
    webhook: Planned | None
    watcher: str
    now: float
    until: float


class Cancel(NamedTuple):
    """Returns all that a submit took, because no job came of it."""

    claim: Claim
    now: float


class NotDone(Enum):
    """Why a batch was not done."""

    CHANGED = auto()
    """The account was changed meanwhile: try again."""
    OVERDUE = auto()
    """Some reservation of the account has expired; reclaim it before anything is refused."""
    ONE_BY_ONE = auto()
    """One of the steps must run in a transaction of its own."""


class _LedgerStep(Protocol):
    @property
    def claim(self) -> Claim: ...
    @property
    def now(self) -> float: ...


class _StepKind(NamedTuple):
    """How to run one step in a transaction, and, on PostgreSQL, several of one account in one statement each.

    Of those, all are done or none.
    """

    name: str
    one: Callable[[Connection, Any], Any]
    several: Callable[[Connection, Sequence[Any]], list[Any] | NotDone]


@dataclass(slots=True)
class _Lane:
    waiting: "deque[tuple[Any, asyncio.Future[Any]]]" = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None


class Steps:
    """Runs steps on a ledger. Each returns what becomes of it, so that who awaits it needs no task of his own.

    Besides the errors named here, each raises LedgerUnavailable.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lanes: dict[tuple[str, str], _Lane] = {}

    def admit(self, step: Admit) -> "asyncio.Future[StepOutcome]":
        """Takes a submit's slot, and its pages where it names them; see reservations.admit."""
        return self._do(_ADMIT, step)

    def reserve(self, step: Reserve) -> "asyncio.Future[StepOutcome]":
        """Reserves pages; see reservations.reserve.

        Raises:
            ReservationLost: the reservation was reclaimed.
        """
        return self._do(_RESERVE, step)

    def accept(self, step: Accept) -> "asyncio.Future[None]":
        """Records a job's owner, its id, and its webhook.

        Raises:
            ReservationLost: the reservation does not exist any more.
            RequestIdTaken: another job has the id.
        """
        return self._do(_ACCEPT, step)

    def cancel(self, step: Cancel) -> "asyncio.Future[int]":
        """Returns all that a submit took; see reservations.cancel. Returns how many pages."""
        return self._do(_CANCEL, step)

    def _do(self, kind: _StepKind, step: _LedgerStep) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        key = kind.name, step.claim.account
        lane = self._lanes.setdefault(key, _Lane())
        done: asyncio.Future[Any] = loop.create_future()
        lane.waiting.append((step, done))
        if lane.task is None:
            lane.task = loop.create_task(self._run(kind, key, lane))
        return done

    async def _run(self, kind: _StepKind, key: tuple[str, str], lane: _Lane) -> None:
        try:
            while lane.waiting:
                some = [lane.waiting.popleft() for _ in range(min(MOST_OF_AN_ACCOUNT, len(lane.waiting)))]
                wanted = [(step, done) for step, done in some if not done.done()]
                if wanted:
                    await self._take(kind, key[1], wanted)
        finally:
            del self._lanes[key]
            for _, done in lane.waiting:
                done.cancel()

    async def _take(self, kind: _StepKind, account: str, some: "list[tuple[Any, asyncio.Future[Any]]]") -> None:
        try:
            results = await self._results(kind, account, [step for step, _ in some])
        except Exception as error:  # noqa: BLE001 -- any error goes to all waiters
            results = [error] * len(some)
        except BaseException:
            for _, done in some:
                done.cancel()
            raise
        for (_, done), result in zip(some, results, strict=True):
            if done.done():
                continue
            if isinstance(result, Exception):
                done.set_exception(without_calls(result))
            else:
                done.set_result(result)

    async def _results(self, kind: _StepKind, account: str, steps: list[Any]) -> list[Any]:
        owner = steps[0].claim.owner  # has more than half of the connections with none of its accounts
        for number in range(TRIES + 1):
            try:
                if number < TRIES:
                    found = await self._ledger.guarded(partial(_all, kind, steps), in_turn_of=owner)
                else:
                    found = await self._ledger.write(partial(_locked, kind, account, steps), in_turn_of=owner)
            except _FAULTS:
                break  # one step fails, and nothing was done
            if isinstance(found, list):
                return found
            if found is NotDone.ONE_BY_ONE:
                break
            if found is NotDone.OVERDUE:
                now = max(step.now for step in steps)
                await self._ledger.write(lambda c, now=now: reclaim(c, account, now), in_turn_of=owner)  # type: ignore[misc]
        return [await self._single(kind, step) for step in steps]

    async def _single(self, kind: _StepKind, step: Any) -> Any:
        try:
            return await self._ledger.write(lambda c: kind.one(c, step), in_turn_of=step.claim.owner)
        except (*_FAULTS, LedgerUnavailable) as error:
            return error


def _locked(kind: _StepKind, account: str, steps: Sequence[Any], connection: Connection) -> Any:
    lock(connection, account)
    return _all(kind, steps, connection)


def _all(kind: _StepKind, steps: Sequence[Any], connection: Connection) -> Any:
    """All or none of them; on SQLite, where nothing is far away, one after the other."""
    if is_postgres(connection):
        return kind.several(connection, steps)
    return [kind.one(connection, step) for step in steps]


def _admit_one(connection: Connection, step: Admit) -> StepOutcome:
    return reservations.admit(connection, *step)


def _admit_several(connection: Connection, steps: Sequence[Admit]) -> list[StepOutcome] | NotDone:
    account, now = steps[0].claim.account, max(step.now for step in steps)
    seen = postgres_submits.read_account(connection, account, now)
    outcomes = decide_in_turn(
        steps, seen.counts, lambda step, counts: decide_submit(step.profile, counts, now, step.ask)
    )
    taken = [(step.claim, step.ask) for step in _admitted(steps, outcomes)]
    if seen.is_overdue and len(taken) < len(steps):
        return NotDone.OVERDUE
    until, tat = max(step.until for step in steps), outcomes[-1].after.tat
    if any(outcome.has_spent_token for outcome in outcomes) and not postgres_submits.admit(
        connection, seen, tat, taken, now, until
    ):
        return NotDone.CHANGED
    return outcomes


def _reserve_one(connection: Connection, step: Reserve) -> StepOutcome:
    return reservations.reserve(connection, *step)


def _reserve_several(connection: Connection, steps: Sequence[Reserve]) -> list[StepOutcome] | NotDone:
    account, now = steps[0].claim.account, max(step.now for step in steps)
    seen = postgres_submits.read_account(connection, account, now)
    outcomes = decide_in_turn(
        steps, seen.counts, lambda step, counts: decide_pages(step.profile, step.ask, counts, now)
    )
    taken = [(step.claim.id, step.ask) for step in _admitted(steps, outcomes)]
    if seen.is_overdue and len(taken) < len(steps):
        return NotDone.OVERDUE
    until = max(step.until for step in steps)
    if taken and not postgres_submits.reserve(connection, seen, taken, now, until):
        return NotDone.CHANGED
    return outcomes


def _admitted(steps: Sequence[_Step], outcomes: Sequence[StepOutcome]) -> list[_Step]:
    return [step for step, outcome in zip(steps, outcomes, strict=True) if outcome.denial is None]


def _accept_one(connection: Connection, step: Accept) -> None:
    request_id = None if step.job is None else step.job.request_id
    accepted = reservations.accept(connection, step.claim, request_id, step.until)
    if step.job is None or not begin(connection, accepted, step.job, step.watcher, step.now):
        return
    if step.webhook is not None:
        plan(connection, step.webhook, step.now)


def _accept_several(connection: Connection, steps: Sequence[Accept]) -> list[None] | NotDone:
    jobs = [(step.claim.id, step.job, step.until) for step in steps]
    webhooks = [step.webhook for step in steps if step.webhook is not None]
    account, watcher, now = steps[0].claim.account, steps[0].watcher, max(step.now for step in steps)
    is_done = postgres_submits.accept(connection, account, jobs, webhooks, watcher, now)
    return [None] * len(steps) if is_done else NotDone.ONE_BY_ONE


def _cancel_one(connection: Connection, step: Cancel) -> int:
    return reservations.cancel(connection, *step)


def _cancel_several(connection: Connection, steps: Sequence[Cancel]) -> list[int] | NotDone:
    ids, now = [step.claim.id for step in steps], max(step.now for step in steps)
    if len({*ids}) < len(ids):
        return NotDone.ONE_BY_ONE
    rows = postgres_ends.read_reservations(connection, steps[0].claim.account, ids)
    ends = [end for row in rows if (end := closing.cancel(row, now, row.reset_at or 0)) is not None]
    if ends and not postgres_ends.write_closings(connection, ends, now):
        return NotDone.CHANGED
    refunded = {end.row.id: end.settled.refunded for end in ends}
    return [refunded.get(name, 0) for name in ids]


_ADMIT: Final = _StepKind("admit", _admit_one, _admit_several)
_RESERVE: Final = _StepKind("reserve", _reserve_one, _reserve_several)
_ACCEPT: Final = _StepKind("accept", _accept_one, _accept_several)
_CANCEL: Final = _StepKind("cancel", _cancel_one, _cancel_several)
