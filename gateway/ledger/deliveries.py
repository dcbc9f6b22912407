"""Outgoing webhooks, at most one per job; each function is one transaction, or a part of one.

    plan ──> make_due ──────> claim_due ──> mark_delivered
                 ▲                │ └─────> mark_dead ──> retry (operators), then as after make_due
                 └ schedule_retry ┘

A claim is a lease: `leased_by` is its holder, and `next_at` its end; without a lease, `next_at` is when to send. A
lease of a dead process falls to the next claim, so each webhook is sent at least once. Each claim counts an attempt;
`leased_by` and this number guard the end of the lease: a claim that lost its lease changes nothing any more.
`ended_at` is when the job ended, or an operator retried; finally, when it was delivered or given up.

The upstream may give a job's id to another one later, whose webhook is another row. Which of an id's rows is a job's
needs no word in it: only a job that has the id can end, and of its rows only that job's waits for an end. (A column
with the job's reservation would say no more: replicas of versions before leave it empty, so by it alone their rows
would not be found.)
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)

from gateway.ledger.audit import record
from gateway.ledger.composite_keys import is_one_of
from gateway.ledger.conditions import WAITS
from gateway.ledger.engine import is_postgres
from gateway.ledger.schema import DeliveryState, deliveries
from gateway.ledger.statement import Statement

_LOCK: Final = 0x686F_6F6B  # PostgreSQL's advisory lock for claims: "hook"
_AT_ONCE: Final = 200
_MAX_ROUNDS: Final = 20
_ROUNDS_OF_OTHERS: Final = 4
_LONGEST_LEASE: Final = 600.0  # seconds: the longest attempt, the time to note it, and clocks that differ
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


class Bounds(NamedTuple):
    """How many deliveries may be claimed: at most in all, and of one destination at once, over all replicas.

    `rooms` are smaller limits now in force (circuit breaker), by destination and owner. `per_owner`: how many of one
    owner the claiming process may hold at once; None for no bound.
    """

    most: int
    per_destination: int
    rooms: Mapping[Line, int] | None = None
    per_owner: int | None = None


def claim_due(connection: Connection, me: str, now: float, until: float, bounds: Bounds) -> list[Due]:
    """Claims due deliveries, of owners in turn, the longest due first; no other process gets them before `until`.

    Next comes who has the fewest attempts running: however many of one owner are due, and however long its receivers
    take, another's first waits for no more than one place to become free. Claims run one after the other (on
    PostgreSQL by a lock), so the bound per destination holds across replicas.

    Args:
        connection: of a transaction that writes.
        me: name of the claiming process, 32 characters at most.
        now: seconds since the epoch.
        until: when the leases end, likewise; ten minutes after `now` at the latest.
        bounds: how many to claim.
    """
    if is_postgres(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    slots = _Slots(me, bounds.per_destination, bounds.per_owner, bounds.rooms or {})
    _count_running(connection, now, slots)
    chosen: dict[str, Row[Any]] = {}
    last: tuple[int, str] = (0, "")
    for number in range(_MAX_ROUNDS):
        rows = _due(connection, now, last, slots)
        others = _of_others(connection, now, slots, rows) if len(rows) == _AT_ONCE and not number else []
        for row in _in_turn(
            [row for row in (*rows, *others) if row.id not in chosen], slots, bounds.most - len(chosen)
        ):
            chosen[row.id] = row
        if len(chosen) >= bounds.most or len(rows) < _AT_ONCE:
            break
        last = rows[-1].next_at, rows[-1].id  # what had no room before has none now
    return _claim(connection, list(chosen.values()), me, min(until, now + _LONGEST_LEASE))


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


def give_up(
    connection: Connection, lines: Collection[Line], before: float, now: float, *, least_attempts: int = 1
) -> list[GivenUp]:
    """Gives up a batch of what was due before a moment at destinations that fail for their owners.

    A delivery without any attempt is kept: one attempt will show whether the destination takes it. With
    `least_attempts` 0 it is not: where the destination has failed for so long, nobody would ever try all of them.
    """
    # Of a bare column SQLite prefers another index: then it goes through all that is on record, not what waits alone.
    destination = deliveries.c.destination.concat("")
    return _give_up(
        connection,
        now,
        tuple_(destination, deliveries.c.owner).in_(_these(lines, is_postgres(connection))),
        deliveries.c.attempts >= least_attempts,
        deliveries.c.ended_at < int(before),
        deliveries.c.next_at.is_not(None),
        or_(deliveries.c.leased_by.is_(None), deliveries.c.next_at <= int(now)),
    )


def give_up_untried(connection: Connection, before: float, now: float) -> list[GivenUp]:
    """Gives up a batch of what became due before a moment, and was never attempted; wherever it is to go."""
    return _give_up(connection, now, deliveries.c.next_at < int(before), deliveries.c.attempts == 0)


def _give_up(connection: Connection, now: float, *late: ColumnElement[bool]) -> list[GivenUp]:
    of = select(deliveries.c.id, deliveries.c.destination).where(*late, deliveries.c.state == DeliveryState.DUE)
    found = of.order_by(deliveries.c.next_at, deliveries.c.id).limit(_AT_ONCE)
    rows = [GivenUp(*row) for row in connection.execute(found.with_for_update(skip_locked=True))]
    if rows:
        values = {"state": DeliveryState.DEAD, "ended_at": int(now), **_FREE}
        connection.execute(update(deliveries).where(deliveries.c.id.in_([row.id for row in rows])).values(values))
    return rows


def _of_others(connection: Connection, now: float, slots: "_Slots", rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """What is due of owners that are not among these rows: the first of one owner's thousands hide all others'."""
    found, seen = list[Row[Any]](), {row.owner for row in rows}
    for _ in range(_ROUNDS_OF_OTHERS):
        more = _due(connection, now, (0, ""), slots, without=seen)
        found += more
        seen |= {row.owner for row in more}
        if len(more) < _AT_ONCE:
            break
    return found


def _in_turn(rows: Sequence[Row[Any]], slots: "_Slots", most: int) -> list[Row[Any]]:
    """Takes slots for up to `most` of these, each time for the owner that has the fewest; of its rows the first."""
    waiting: dict[str, deque[Row[Any]]] = {}
    for row in rows:
        waiting.setdefault(row.owner, deque()).append(row)
    turns = [(slots.running(owner), place, owner) for place, owner in enumerate(waiting)]
    heapify(turns)
    taken: list[Row[Any]] = []
    while turns and len(taken) < most:
        _, place, owner = turns[0]
        found = next((one for one in _popped(waiting[owner]) if slots.has_room(one.destination, owner)), None)
        if found is None:
            heappop(turns)
        else:
            taken.append(found)
            slots.take(found.destination, owner, slots.me, 1)
            heapreplace(turns, (slots.running(owner), place, owner))
    return taken


def _popped(queue: deque[Row[Any]]) -> Iterator[Row[Any]]:
    while queue:
        yield queue.popleft()


class _Slots:
    """How many slots each destination and owner has taken, and which of them are full."""

    def __init__(self, me: str, per_destination: int, per_owner: int | None, rooms: Mapping[Line, int]) -> None:
        self.me = me
        self._per_destination = per_destination
        self._per_owner = per_owner
        self._rooms = rooms
        self._of_destination: Counter[str] = Counter()
        self._of_owner: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._of_line: Counter[Line] = Counter()
        self.full_destinations: set[str] = set()
        self.full_owners: set[str] = set()
        self.full_lines = {line for line, room in rooms.items() if room <= 0}

    def take(self, destination: str, owner: str, by: str, count: int) -> None:
        line = destination, owner
        self._of_destination[destination] += count
        self._of_line[line] += count
        self._running[owner] += count
        if by == self.me:
            self._of_owner[owner] += count
        if self._of_destination[destination] >= self._per_destination:
            self.full_destinations.add(destination)
        if self._per_owner is not None and self._of_owner[owner] >= self._per_owner:
            self.full_owners.add(owner)
        if line in self._rooms and self._of_line[line] >= self._rooms[line]:
            self.full_lines.add(line)

    def running(self, owner: str) -> int:
        """How many attempts of an owner run, in all processes."""
        return self._running[owner]

    def has_room(self, destination: str, owner: str) -> bool:
        return not (
            destination in self.full_destinations
            or owner in self.full_owners
            or (destination, owner) in self.full_lines
        )


def _count_running(connection: Connection, now: float, slots: _Slots) -> None:
    """Takes the slots of running deliveries."""
    # Nobody leases for longer, so of those that wait, which may be many, most are not looked at.
    soon = deliveries.c.next_at.between(int(now) + 1, int(now + _LONGEST_LEASE))
    leased = soon, deliveries.c.leased_by.is_not(None)
    of = deliveries.c.destination, deliveries.c.owner, deliveries.c.leased_by
    for row in connection.execute(select(*of, func.count()).where(*leased).group_by(*of)):
        slots.take(row[0], row[1], row[2], int(row[3]))


def _due(
    connection: Connection, now: float, last: tuple[int, str], slots: _Slots, without: Collection[str] = ()
) -> Sequence[Row[Any]]:
    """The batch of due deliveries behind `last`, the longest due first, without those that have no free slot.

    `without`: not those of these owners, either.
    """
    query = (
        select(deliveries)
        .where(
            deliveries.c.next_at.between(last[0], int(now)),
            tuple_(deliveries.c.next_at, deliveries.c.id) > last,
            deliveries.c.state == DeliveryState.DUE,
            deliveries.c.destination.not_in(sorted(slots.full_destinations)),
            deliveries.c.owner.not_in(sorted({*slots.full_owners, *without})),
            tuple_(deliveries.c.destination, deliveries.c.owner).not_in(
                _these(slots.full_lines, is_postgres(connection))
            ),
        )
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(query).all()


def _these(lines: Collection[Line], on_postgres: bool) -> Sequence[Line] | Select[Any]:
    """Lines, for a look whether a delivery is in one of them.

    PostgreSQL hashes what a subquery gives, but compares a row with each tuple of a list: beside 300,000 deliveries
    at a thousand paused lines a claim took 4 s.
    """
    lines = sorted(lines)
    if not on_postgres:
        return lines
    columns = ([line[place] for line in lines] for place in (0, 1))
    return select(*(func.unnest(literal(column, ARRAY(String))) for column in columns))


def _claim(connection: Connection, rows: Sequence[Row[Any]], me: str, until: float) -> list[Due]:
    """Leases deliveries that are locked: in one statement, since the ledger may be far away."""
    if rows:
        these = update(deliveries).where(deliveries.c.id.in_([row.id for row in rows]))
        values = {"leased_by": me, "next_at": int(until), "attempts": deliveries.c.attempts + 1}
        connection.execute(these.values(values))
    return [_due_of(row, DeliveryLease(row.id, me, int(row.attempts) + 1)) for row in rows]


def _due_of(row: Row[Any], lease: DeliveryLease) -> Due:
    return Due(
        lease=lease, request_id=row.request_id, owner=row.owner, url=row.url, destination=row.destination,
        check_url=row.check_url, status=row.status, since=int(row.ended_at),
    )  # fmt: skip


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
