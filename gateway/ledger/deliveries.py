"""Webhooks that go out, one for each job at most; each function is one transaction, or a part of one.

    plan ──> job_ended ──> claim_due ──> done
                 ▲              │ └────> dead ──> retry (listings.py), and on as after job_ended
                 └─── failed <──┘

A claim is a lease: `leased_by` says whose, and `next_at` when it ends, or else when it is to be sent. Whoever dies
with one leaves it to the next who claims, so that what is sent is sent at least once. Each claim counts an attempt,
and with `leased_by` the number of it guards the end of the lease: a claim that was lost changes nothing any more.
`ended_at` is when the job ended, or an operator began anew; in the end, when it was delivered or given up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, text, tuple_, update

from gateway.ledger.audit import record
from gateway.ledger.schema import DeliveryState, deliveries

_LOCK: Final = 0x686F_6F6B  # of PostgreSQL's advisory locks, for claims alone: "hook"
_AT_ONCE: Final = 200
_MAX_ROUNDS: Final = 20
_FREE: Final = {"leased_by": None, "next_at": None}
Line = tuple[str, str]
"""A destination and an owner: what an owner has of failures there is nobody else's."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A webhook as it is planned. `destination` is host and port, `check_url` what the client was told."""

    id: str
    upstream: str
    request_id: str
    owner: str
    url: str
    destination: str
    check_url: str | None


class DeliveryLease(NamedTuple):
    """The right to send one delivery: which, whose, and the number of the attempt."""

    id: str
    by: str
    attempt: int


class Due(NamedTuple):
    """A delivery that was claimed. `since` is when it became due, in seconds since the epoch; `status` the job's."""

    lease: DeliveryLease
    request_id: str
    owner: str
    url: str
    destination: str
    check_url: str | None
    status: str
    since: int


class DeliveryOutcome(NamedTuple):
    """What came of an attempt: the status of the answer, if there was one, and a word for what went wrong."""

    status: int | None
    error: str | None


def plan(connection: Connection, planned: Planned, now: float) -> None:
    """Notes where to tell of a job's end. A job that has one already keeps it: safe to repeat."""
    if _of_job(connection, planned.upstream, planned.request_id) is not None:
        return
    row = {
        "id": planned.id, "upstream": planned.upstream, "request_id": planned.request_id, "owner": planned.owner,
        "url": planned.url, "destination": planned.destination, "check_url": planned.check_url,
        "state": DeliveryState.WAITING, "attempts": 0, "created_at": int(now),
    }  # fmt: skip
    connection.execute(insert(deliveries), row)


def job_ended(connection: Connection, upstream: str, request_id: str, status: str, now: float) -> bool:
    """Makes a job's webhook due, with the status that it tells; false when there is none that waits."""
    of_job = deliveries.c.upstream == upstream, deliveries.c.request_id == request_id
    values = {"state": DeliveryState.DUE, "status": status, "next_at": int(now), "ended_at": int(now)}
    waits = deliveries.c.state == DeliveryState.WAITING
    return bool(connection.execute(update(deliveries).where(*of_job, waits).values(values)).rowcount)


def drop(connection: Connection, upstream: str, request_id: str) -> None:
    """Forgets the webhook of a job that was deleted before its end; one that is due is sent all the same."""
    of_job = deliveries.c.upstream == upstream, deliveries.c.request_id == request_id
    connection.execute(delete(deliveries).where(*of_job, deliveries.c.state == DeliveryState.WAITING))


def make_way(connection: Connection, upstream: str, request_id: str) -> None:
    """Deletes the old delivery of a request id that is used again: each id has one at most."""
    of_job = deliveries.c.upstream == upstream, deliveries.c.request_id == request_id
    connection.execute(delete(deliveries).where(*of_job))


def is_any_due(connection: Connection, now: float) -> bool:
    """Whether there is something to claim. It only reads."""
    query = select(deliveries.c.id).where(deliveries.c.next_at <= int(now)).limit(1)
    return connection.execute(query).first() is not None


def claim_due(
    connection: Connection,
    me: str,
    now: float,
    until: float,
    most: int,
    per_destination: int,
    rooms: Mapping[Line, int] | None = None,
    per_owner: int | None = None,
) -> list[Due]:
    """Claims deliveries that are due, the longest due first; nobody else gets them before `until`.

    Claims come one after the other, on PostgreSQL by a lock: so the bound per destination holds for all replicas.

    Args:
        connection: of a transaction that writes.
        me: who claims, 32 characters at most.
        now: seconds since the epoch.
        until: when the leases end, likewise.
        most: how many at most.
        per_destination: how many may be claimed at once of one destination, by all replicas.
        rooms: destinations that take fewer just now of an owner.
        per_owner: how many `me` may have claimed at once of one owner; None for as many as there are.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    places = _Places(me, per_destination, per_owner, rooms or {})
    _count_running(connection, now, places)
    chosen: dict[str, Row[Any]] = {}
    for _ in range(_MAX_ROUNDS):
        rows = _due(connection, now, [*chosen], places)
        for row in rows:
            if len(chosen) < most and places.has_room(row.destination, row.owner):
                chosen[row.id] = row
                places.take(row.destination, row.owner, me, 1)
        if len(chosen) >= most or len(rows) < _AT_ONCE:
            break
    return [_claim(connection, row, me, until) for row in chosen.values()]


def done(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, now: float) -> bool:
    """Notes that it was delivered; false when the lease was lost."""
    return _end(connection, lease, outcome, {"state": DeliveryState.DELIVERED, "ended_at": int(now), **_FREE})


def failed(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, next_at: float) -> bool:
    """Puts off the next attempt; false when the lease was lost."""
    return _end(connection, lease, outcome, {"leased_by": None, "next_at": int(next_at)})


def dead(connection: Connection, lease: DeliveryLease, outcome: DeliveryOutcome, now: float) -> bool:
    """Gives it up; false when the lease was lost."""
    return _end(connection, lease, outcome, {"state": DeliveryState.DEAD, "ended_at": int(now), **_FREE})


def release(connection: Connection, leases: Sequence[DeliveryLease], now: float) -> None:
    """Gives leases back whose attempts were broken off: they are due at once, and the attempts don't count."""
    for lease in sorted(leases):
        values = {"leased_by": None, "next_at": int(now), "attempts": deliveries.c.attempts - 1}
        connection.execute(update(deliveries).where(*_held(lease)).values(values))


def give_up(connection: Connection, line: Line, before: float, now: float) -> list[str]:
    """Gives up what was due before a moment at a destination that takes nothing of an owner, some at once; their ids.

    What was never attempted is not given up: it is attempted once, and then it is known whether it is taken.
    """
    late = (
        deliveries.c.destination == line[0],
        deliveries.c.owner == line[1],
        deliveries.c.attempts > 0,
        deliveries.c.state == DeliveryState.DUE,
        deliveries.c.ended_at < int(before),
        deliveries.c.next_at.is_not(None),
        or_(deliveries.c.leased_by.is_(None), deliveries.c.next_at <= int(now)),
    )
    found = select(deliveries.c.id).where(*late).order_by(deliveries.c.id).limit(_AT_ONCE)
    ids = list(connection.execute(found.with_for_update(skip_locked=True)).scalars())
    values = {"state": DeliveryState.DEAD, "ended_at": int(now), **_FREE}
    connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(values))
    return ids


def _of_job(connection: Connection, upstream: str, request_id: str) -> Row[Any] | None:
    of_job = deliveries.c.upstream == upstream, deliveries.c.request_id == request_id
    return connection.execute(select(deliveries.c.id).where(*of_job)).first()


class _Places:
    """Who has how many of the places that there are, and where there are none left."""

    def __init__(self, me: str, per_destination: int, per_owner: int | None, rooms: Mapping[Line, int]) -> None:
        self._me = me
        self._per_destination = per_destination
        self._per_owner = per_owner
        self._rooms = rooms
        self._of_destination: Counter[str] = Counter()
        self._of_owner: Counter[str] = Counter()
        self._of_line: Counter[Line] = Counter()
        self.full_destinations: set[str] = set()
        self.full_owners: set[str] = set()
        self.full_lines = {line for line, room in rooms.items() if room <= 0}

    def take(self, destination: str, owner: str, by: str, count: int) -> None:
        line = destination, owner
        self._of_destination[destination] += count
        self._of_line[line] += count
        if by == self._me:
            self._of_owner[owner] += count
        if self._of_destination[destination] >= self._per_destination:
            self.full_destinations.add(destination)
        if self._per_owner is not None and self._of_owner[owner] >= self._per_owner:
            self.full_owners.add(owner)
        if line in self._rooms and self._of_line[line] >= self._rooms[line]:
            self.full_lines.add(line)

    def has_room(self, destination: str, owner: str) -> bool:
        return not (
            destination in self.full_destinations
            or owner in self.full_owners
            or (destination, owner) in self.full_lines
        )


def _count_running(connection: Connection, now: float, places: _Places) -> None:
    """Takes the places of what is being sent."""
    leased = deliveries.c.next_at > int(now), deliveries.c.leased_by.is_not(None)
    of = deliveries.c.destination, deliveries.c.owner, deliveries.c.leased_by
    for row in connection.execute(select(*of, func.count()).where(*leased).group_by(*of)):
        places.take(row[0], row[1], row[2], int(row[3]))


def _due(connection: Connection, now: float, chosen: list[str], places: _Places) -> Sequence[Row[Any]]:
    """Some that are due, the longest first, but for those that were chosen and those for which there is no room."""
    query = (
        select(deliveries)
        .where(
            deliveries.c.next_at <= int(now),
            deliveries.c.state == DeliveryState.DUE,
            deliveries.c.id.not_in(chosen),
            deliveries.c.destination.not_in(sorted(places.full_destinations)),
            deliveries.c.owner.not_in(sorted(places.full_owners)),
            tuple_(deliveries.c.destination, deliveries.c.owner).not_in(sorted(places.full_lines)),
        )
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(query).all()


def _claim(connection: Connection, row: Row[Any], me: str, until: float) -> Due:
    attempt = int(row.attempts) + 1
    values = {"leased_by": me, "next_at": int(until), "attempts": attempt}
    connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(values))
    lease = DeliveryLease(row.id, me, attempt)
    return Due(
        lease, row.request_id, row.owner, row.url, row.destination, row.check_url, row.status, int(row.ended_at)
    )


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
    """Makes one due at once that is a dead letter, or waits for its next attempt; the attempts are counted anew.

    Tells the state it was in: WAITING and DELIVERED are left as they are. None when there is none such.
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


def forget(connection: Connection, before: float) -> int:
    """Deletes what was planned before a moment and has ended, some at once; how many."""
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
