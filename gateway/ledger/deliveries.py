"""Outgoing webhooks, at most one per job; each function is one transaction, or a part of one.

    plan ──> make_due ──────> claim_due ──> mark_delivered
                 ▲                │ └─────> mark_dead ──> retry (operators), then as after make_due
                 └ schedule_retry ┘

A claim (delivery_claims.py) is a lease: `leased_by` is its holder, and `next_at` its end; without one, `next_at` is
when to send. A lease of a dead process falls to the next claim, so each webhook is sent at least once. Each claim
counts an attempt; `leased_by` and this number guard the end of the lease: a claim that lost its lease changes nothing
any more.
`ended_at` is when the job ended, or an operator retried; finally, when it was delivered or given up.

The upstream may give a job's id to another one later, whose webhook is another row. Which of an id's rows is a job's
needs no word in it: only a job that has the id can end, and of its rows only that job's waits for an end. (A column
with the job's reservation would say no more: replicas of versions before leave it empty, so by it alone their rows
would not be found.)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    String,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from gateway.ledger.audit import record
from gateway.ledger.composite_keys import is_one_of
from gateway.ledger.conditions import WAITS
from gateway.ledger.engine import is_postgres
from gateway.ledger.schema import DeliveryState, deliveries
from gateway.ledger.statement import Statement

_AT_ONCE: Final = 200
_FREE: Final = {"leased_by": None, "next_at": None}
_OF_JOB: Final = (deliveries.c.upstream == bindparam("at"), deliveries.c.request_id == bindparam("named"), WAITS)
_MAKE_WAY: Final = Statement(delete(deliveries).where(*_OF_JOB))
_FIRST_DUE: Final = Statement(
    select(deliveries.c.next_at).where(deliveries.c.next_at.is_not(None)).order_by(deliveries.c.next_at).limit(1)
)
_PLANNED: Final = (
    "id", "upstream", "request_id", "owner", "url", "destination", "check_url", "state", "attempts", "created_at",
)  # fmt: skip
_PLAN: Final = Statement(insert(deliveries), _PLANNED)
_MAKE_DUE: Final = Statement(
    update(deliveries)
    .where(*_OF_JOB)
    .values(
        state=int(DeliveryState.DUE),
        status=bindparam("new_status"),
        next_at=bindparam("ended"),
        ended_at=bindparam("ended"),
    )
)
Line = tuple[str, str]
"""A destination and an owner: one owner's failures there don't affect other owners."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A new webhook. `destination` is host and port; `check_url` is what the client received."""

    id: str
    upstream: str
    request_id: str
    owner: str
    url: str
    destination: str
    check_url: str | None


class DeliveryLease(NamedTuple):
    """The right to send one delivery: its id, the holder, and the number of the attempt."""

    id: str
    by: str
    attempt: int


class Due(NamedTuple):
    """A claimed delivery. `since` is when it became due, in seconds since the epoch; `status` is the job's."""

    lease: DeliveryLease
    request_id: str
    owner: str
    url: str
    destination: str
    check_url: str | None
    status: str
    since: int


class DeliveryOutcome(NamedTuple):
    """The result of an attempt: the answer's status, if there was one, and a word for what went wrong."""

    status: int | None
    error: str | None


def plan(connection: Connection, planned: Planned, now: float) -> None:
    """Plans the webhook of a job that has just begun."""
    _PLAN.run(
        connection, id=planned.id, upstream=planned.upstream, request_id=planned.request_id, owner=planned.owner,
        url=planned.url, destination=planned.destination, check_url=planned.check_url, state=DeliveryState.WAITING,
        attempts=0, created_at=int(now),
    )  # fmt: skip


def make_due(connection: Connection, upstream: str, request_id: str, status: str, now: float) -> bool:
    """Makes a job's webhook due, with the status that it will report; returns False if none is waiting."""
    return bool(_MAKE_DUE.run(connection, at=upstream, named=request_id, new_status=status, ended=int(now)))


def drop(connection: Connection, *keys: tuple[str, str]) -> None:
    """Deletes the webhooks of jobs (upstream and id) that were deleted before their end; due ones are still sent."""
    of_jobs = is_one_of((deliveries.c.upstream, deliveries.c.request_id), keys)
    connection.execute(delete(deliveries).where(of_jobs, WAITS))


def make_way(connection: Connection, upstream: str, request_id: str) -> None:
    """Deletes what waits for the end of a job that had this id before: nothing should, and it would hear another end.

    What is due stays, and is sent.
    """
    _MAKE_WAY.run(connection, at=upstream, named=request_id)


def first_due(connection: Connection) -> int | None:
    """When the first delivery is to claim, also in the past; None if there is none. Only reads."""
    row = _FIRST_DUE.first(connection)
    return None if row is None else int(row.next_at)


def mark_delivered(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, now: float) -> bool:
    """Records that it was delivered; returns False if the lease was lost."""
    return _end(connection, lease, outcome, {"state": DeliveryState.DELIVERED, "ended_at": int(now), **_FREE})


def schedule_retry(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, next_at: float) -> bool:
    """Schedules the next attempt; returns False if the lease was lost."""
    return _end(connection, lease, outcome, {"leased_by": None, "next_at": int(next_at)})


def mark_dead(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, now: float) -> bool:
    """Gives it up; returns False if the lease was lost."""
    return _end(connection, lease, outcome, {"state": DeliveryState.DEAD, "ended_at": int(now), **_FREE})


def release(connection: Connection, leases: Sequence[DeliveryLease], now: float) -> None:
    """Returns the leases of interrupted attempts: they are due at once, and the attempts don't count."""
    if not leases:
        return
    lease = deliveries.c.id, deliveries.c.leased_by, deliveries.c.attempts
    held = is_one_of(lease, sorted(leases)), deliveries.c.state == DeliveryState.DUE
    locked = select(deliveries.c.id).where(*held).order_by(deliveries.c.id).with_for_update()
    ids = list(connection.execute(locked).scalars())
    values = {"leased_by": None, "next_at": int(now), "attempts": deliveries.c.attempts - 1}
    connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(values))


class GivenUp(NamedTuple):
    """A delivery that was given up."""

    id: str
    destination: str


Late = Callable[[Connection], tuple[ColumnElement[bool], ...]]
"""Which deliveries are to be given up, as conditions for the engine of a connection."""


def failing(lines: Collection[Line], before: float, now: float, *, least_attempts: int = 1) -> Late:
    """What was due before a moment at destinations that fail for their owners.

    A delivery without any attempt is kept: one attempt will show whether the destination takes it. With
    `least_attempts` 0 it is not: where the destination has failed for so long, nobody would ever try all of them.
    """
    # Of a bare column SQLite prefers another index: then it goes through all that is on record, not what waits alone.
    destination = deliveries.c.destination.concat("")
    return lambda connection: (
        tuple_(destination, deliveries.c.owner).in_(lines_among(lines, is_postgres(connection))),
        deliveries.c.attempts >= least_attempts,
        deliveries.c.ended_at < int(before),
        deliveries.c.next_at.is_not(None),
        or_(deliveries.c.leased_by.is_(None), deliveries.c.next_at <= int(now)),
    )


def untried(before: float) -> Late:
    """What became due before a moment, and was never attempted; wherever it is to go."""
    return lambda _: (deliveries.c.next_at < int(before), deliveries.c.attempts == 0)


def find_late(connection: Connection, late: Late) -> list[str]:
    """A batch of what is to be given up. A slow query: it goes through all that waits. See Ledger.report."""
    query = select(deliveries.c.id).where(*late(connection), deliveries.c.state == DeliveryState.DUE)
    found = query.order_by(deliveries.c.next_at, deliveries.c.id).limit(_AT_ONCE)
    return list(connection.execute(found).scalars())


def give_up(connection: Connection, found: Sequence[str], late: Late, now: float) -> list[GivenUp]:
    """Gives up what was found, unless it is not to be any more: it was tried again meanwhile, or is being tried."""
    still = deliveries.c.id.in_(found), *late(connection), deliveries.c.state == DeliveryState.DUE
    query = select(deliveries.c.id, deliveries.c.destination).where(*still).order_by(deliveries.c.id)
    rows = [GivenUp(*row) for row in connection.execute(query.with_for_update(skip_locked=True))]
    if rows:
        values = {"state": DeliveryState.DEAD, "ended_at": int(now), **_FREE}
        connection.execute(update(deliveries).where(deliveries.c.id.in_([row.id for row in rows])).values(values))
    return rows


def lines_among(lines: Collection[Line], on_postgres: bool) -> Sequence[Line] | Select[Any]:
    """Lines, for a look whether a delivery is in one of them.

    PostgreSQL hashes what a subquery gives, but compares a row with each tuple of a list: beside 300,000 deliveries
    at a thousand paused lines a claim took 4 s.
    """
    lines = sorted(lines)
    if not on_postgres:
        return lines
    columns = ([line[place] for line in lines] for place in (0, 1))
    return select(*(func.unnest(literal(column, ARRAY(String))) for column in columns))


def is_in_none(lines: Collection[Line], on_postgres: bool) -> ColumnElement[bool]:
    """Whether a delivery is in none of these lines.

    SQLite compares a row that is not in a list of tuples with each of them: with 300 lines and 100,000 deliveries a
    claim kept its only writer for seconds. A text it looks up. No destination has a space.
    """
    if on_postgres:
        return tuple_(deliveries.c.destination, deliveries.c.owner).not_in(lines_among(lines, on_postgres))
    return (deliveries.c.destination + " " + deliveries.c.owner).not_in([" ".join(line) for line in sorted(lines)])


def _held(lease: DeliveryLease) -> tuple[Any, ...]:
    return (
        deliveries.c.id == lease.id,
        deliveries.c.leased_by == lease.by,
        deliveries.c.attempts == lease.attempt,
        deliveries.c.state == DeliveryState.DUE,
    )


def _end(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, values: Mapping[str, Any]) -> bool:
    last = {"last_status": outcome.status, "last_error": outcome.error}
    return bool(connection.execute(update(deliveries).where(*_held(lease)).values({**last, **values})).rowcount)


_ENDED: Final = (DeliveryState.DELIVERED, DeliveryState.DEAD)


def retry(connection: Connection, delivery: str, actor: str, now: float) -> DeliveryState | None:
    """Makes a dead letter, or a delivery that waits for its next attempt, due at once; counts attempts from zero.

    Returns the state it was in; WAITING and DELIVERED ones are left as they are. None if it does not exist.
    """
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery).with_for_update()).first()
    if row is None:
        return None
    state = DeliveryState(row.state)
    is_running = row.leased_by is not None and row.next_at > now
    if state in {DeliveryState.DEAD, DeliveryState.DUE} and not is_running:
        values = {"state": DeliveryState.DUE, "attempts": 0, "ended_at": int(now), "next_at": int(now)}
        connection.execute(
            update(deliveries).where(deliveries.c.id == delivery).values({**values, "leased_by": None})
        )
        record(connection, now, actor, "webhook.retry", delivery, {"was": state.name.lower()})
    return state


def purge(connection: Connection, before: float) -> int:
    """Deletes ended deliveries planned before a moment, a batch at a time; returns how many."""
    old = (
        select(deliveries.c.id)
        .where(deliveries.c.created_at < int(before), deliveries.c.state.in_(_ENDED))
        .order_by(deliveries.c.created_at)
        .limit(_AT_ONCE)
    )
    ids = list(connection.execute(old).scalars())
    return connection.execute(
        delete(deliveries).where(deliveries.c.id.in_(ids), deliveries.c.state.in_(_ENDED))
    ).rowcount
