"""Claims of webhooks that are due: whose come next, and how many may run at once (deliveries.py has their life).

Next comes who has the fewest attempts running, among equals who was served longest ago. So however many of one
owner, or of a thousand, are due, for however long, and however long their receivers take, an owner's first waits for
one place to become free; where there are more owners than places, for one of each that has had no turn since.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    func,
    select,
    text,
    tuple_,
    update,
)

from gateway.ledger.deliveries import DeliveryLease, Due, Line, is_in_none
from gateway.ledger.engine import is_postgres
from gateway.ledger.schema import DeliveryState, deliveries
from gateway.limits.served_owners import ServedOwners

_LOCK: Final = 0x686F_6F6B  # PostgreSQL's advisory lock for claims: "hook"
_AT_ONCE: Final = 200
_MAX_ROUNDS: Final = 20
SECONDS: Final = 0.4
"""After that long a claim looks for no more. Each round is a statement of its own, where one owner's webhooks for
destinations with one place left stand in rows: with PostgreSQL 100 ms away claims ended in ledger.timeout, for ever.
"""
OWNERS: Final = 1000  # of whom a claim looks for the first
_FEW: Final = 20
_LONGEST_LEASE: Final = 600.0  # seconds: the longest attempt, the time to note it, and clocks that differ


class Bounds(NamedTuple):
    """How many deliveries may be claimed: at most in all, and of one destination at once, over all replicas.

    `rooms` are smaller limits now in force (circuit breaker), by destination and owner. `per_owner`: how many of one
    owner the claiming process may hold at once; None for no bound. `served`: whom it served, in their order, and up
    to whom it looked for others. `clock` is in seconds.
    """

    most: int
    per_destination: int
    rooms: Mapping[Line, int] | None = None
    per_owner: int | None = None
    served: ServedOwners | None = None
    clock: Callable[[], float] = time.monotonic


def claim_due(connection: Connection, me: str, now: float, until: float, bounds: Bounds) -> list[Due]:
    """Claims due deliveries, of owners in turn, as they were given; no other process gets them before `until`.

    Claims run one after the other (on PostgreSQL by a lock), so the bound per destination holds across replicas.

    Args:
        connection: of a transaction that writes.
        me: name of the claiming process, 32 characters at most.
        now: seconds since the epoch.
        until: when the leases end, likewise; ten minutes after `now` at the latest.
        bounds: how many to claim.
    """
    ends = bounds.clock() + SECONDS
    if is_postgres(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    slots = _Slots(me, bounds.per_destination, bounds.per_owner, bounds.rooms or {})
    served = ServedOwners() if bounds.served is None else bounds.served  # one that has served nobody is empty
    _count_running(connection, now, slots)
    chosen: dict[str, Row[Any]] = {}
    last: tuple[int, str] = (0, "")
    for number in range(_MAX_ROUNDS):
        rows = _due(connection, now, last, slots)
        is_hiding = len(rows) == _AT_ONCE and not number
        hidden = _of_others(connection, now, slots, rows, served) if is_hiding else []
        waiting = [row for row in {row.id: row for row in (*rows, *hidden)}.values() if row.id not in chosen]
        for row in _in_turn(waiting, slots, served, bounds.most - len(chosen)):
            chosen[row.id] = row
        if len(chosen) >= bounds.most or len(rows) < _AT_ONCE or bounds.clock() >= ends:
            break
        last = rows[-1].next_at, rows[-1].id  # what had no room before has none now
    return _claim(connection, list(chosen.values()), me, min(until, now + _LONGEST_LEASE))


def _of_others(
    connection: Connection, now: float, slots: "_Slots", rows: Sequence[Row[Any]], served: ServedOwners
) -> Sequence[Row[Any]]:
    """The first that is due of each owner hidden behind the thousands of these rows' owners; of few owners more.

    Of a thousand owners, the next ones by name. It goes round over all that wait for something, due or not, so that
    each is looked at however many there are, and whoever is served meanwhile.
    """
    firsts = _firsts(connection, now, slots, OWNERS, served.looked_up_to)
    if len(firsts) < OWNERS and served.looked_up_to:
        upto = deliveries.c.owner <= served.looked_up_to
        firsts |= _firsts(connection, now, slots, OWNERS - len(firsts), "", upto)
    served.looked_up_to = next(reversed(firsts), "")
    seen = {row.owner for row in rows}
    hidden = {owner: first for owner, first in firsts.items() if first is not None and owner not in seen}
    if not hidden:
        return []
    locked = select(deliveries).where(deliveries.c.id.in_(sorted(hidden.values()))).with_for_update(skip_locked=True)
    found = [*connection.execute(locked)]
    if len(hidden) <= _FEW:  # of more, each has to wait for others anyway
        found += _due(connection, now, (0, ""), slots, deliveries.c.owner.in_(sorted(hidden)))
    return found


def _firsts(
    connection: Connection, now: float, slots: "_Slots", most: int, after: str, *upto: ColumnElement[bool]
) -> dict[str, str | None]:
    """Owners by name, with the id of the first that is due of each one, None if none is.

    Goes from owner to owner by the index of their deliveries: one search for each, however many they have.
    """
    name = deliveries.c.owner
    those = deliveries.c.next_at.is_not(None), *upto
    owners = select(func.min(name).label("owner")).where(*those, name > after).cte("owners", recursive=True)
    following = select(func.min(name)).where(*those, name > owners.c.owner)
    owners = owners.union_all(select(following.scalar_subquery()).where(owners.c.owner.is_not(None)))
    its_first = (
        select(deliveries.c.id)
        .where(name == owners.c.owner, *_is_due(connection, now, slots))
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(1)
    )
    found = select(owners.c.owner, its_first.scalar_subquery()).where(owners.c.owner.is_not(None)).limit(most)
    return {row.owner: row[1] for row in connection.execute(found)}


def _in_turn(rows: Sequence[Row[Any]], slots: "_Slots", served: ServedOwners, most: int) -> list[Row[Any]]:
    """Takes slots for up to `most` of these, each time for the owner that has the fewest; of its rows the first.

    Of several that have the fewest, for the one that was served longest ago.
    """
    waiting: dict[str, deque[Row[Any]]] = {}
    for row in rows:
        waiting.setdefault(row.owner, deque()).append(row)
    turns = [(slots.running(owner), served.last(owner), place, owner) for place, owner in enumerate(waiting)]
    heapify(turns)
    taken: list[Row[Any]] = []
    while turns and len(taken) < most:
        _, last, place, owner = turns[0]
        found = next((one for one in _popped(waiting[owner]) if slots.has_room(one.destination, owner)), None)
        if found is None:
            heappop(turns)
        else:
            taken.append(found)
            slots.take(found.destination, owner, slots.me, 1)
            heapreplace(turns, (slots.running(owner), last, place, owner))
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
    connection: Connection, now: float, last: tuple[int, str], slots: _Slots, *among: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    """The batch of due deliveries behind `last`, the longest due first, without those that have no free slot."""
    query = (
        select(deliveries)
        .where(
            tuple_(deliveries.c.next_at, deliveries.c.id) > last,
            *among,
            *_is_due(connection, now, slots, last[0]),
        )
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(query).all()


def _is_due(connection: Connection, now: float, slots: _Slots, since: int = 0) -> tuple[ColumnElement[bool], ...]:
    """The conditions of a delivery that is due and has a free slot."""
    return (
        deliveries.c.next_at.between(since, int(now)),
        deliveries.c.state == DeliveryState.DUE,
        deliveries.c.destination.not_in(sorted(slots.full_destinations)),
        deliveries.c.owner.not_in(sorted(slots.full_owners)),
        is_in_none(slots.full_lines, is_postgres(connection)),
    )


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
