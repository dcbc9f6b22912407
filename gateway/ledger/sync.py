"""Keeps the gateway and its ledger in sync, in the background: no request waits for this.

Each second it applies changes of keys, made here, by the command line or by another replica, and nothing else delays
that. Thousands are read some at a time; after a failure it goes on where the last read ended. At longer intervals it
records when secrets were last used, writes to test whether writing works, reclaims what dead processes left, and
reads the accounts' counts for the metrics.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection, update

from gateway.aio.periodic import take_turns
from gateway.errors import LedgerUnavailable, OwnerWaited
from gateway.ledger.callers import blocked_accounts
from gateway.ledger.closing import Settled
from gateway.ledger.engine import OwnTurn
from gateway.ledger.key_records import key_ids
from gateway.ledger.key_revisions import changes_since, revision_of
from gateway.ledger.keys import note_used
from gateway.ledger.ledger import Ledger
from gateway.ledger.news import Question
from gateway.ledger.reservations import overdue, reclaim
from gateway.ledger.schema import counters
from gateway.ledger.statement import Statement
from gateway.ledger.tables_place import Place, identity_of
from gateway.ledger.usage import active_counts
from gateway.limits.quotas import AccountCounts
from gateway.model.keys import KeyRecord
from gateway.model.times import Times

_BEAT: Final = 5
_USES: Final = 10
COUNTS_EVERY: Final = 10
_MAX_ACCOUNTS: Final = 1000
MAX_NAMED: Final = 20  # keys, in one event of the log
_PORTION: Final = 1000  # keys and secrets that change at once: each costs some microseconds
_NOTHING: Final = -1
_RECLAIM_SECONDS: Final = 2.0
"""Key changes have a turn at the ledger of their own, beside all accounts."""
_BEAT_ONCE: Final = Statement(update(counters).where(counters.c.name == "beat").values(value=counters.c.value + 1))

log = structlog.get_logger()


class _Reached(NamedTuple):
    """How far the keys are known: in which ledger, its latest revision, and the one up to which they were read."""

    ledger: Place | None
    latest: int
    revision: int


class _Changes(NamedTuple):
    """`ids` are those of all keys where a ledger is read from its beginning."""

    place: _Reached
    records: list[KeyRecord]
    blocked: frozenset[str] | None
    ids: frozenset[str] | None


class SyncListeners(NamedTuple):
    """Callbacks for keys that changed, for reclaimed reservations, the accounts' counts, and all blocked accounts."""

    changed: Callable[[list[KeyRecord]], None]
    settled: Callable[[Settled], None]
    show_counts: Callable[[dict[str, AccountCounts]], Awaitable[None]]
    blocked: Callable[[frozenset[str]], None]


class LedgerSync:
    """`run` and `run_keys` run until cancelled.

    `uses` has times of the monotonic clock; `renew` renews this process's reservations.
    """

    def __init__(
        self,
        ledger: Ledger,
        times: Times,
        uses: dict[tuple[str, int], float],
        listeners: SyncListeners,
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._wall = times.wall
        self._monotonic = times.monotonic
        self._uses = uses
        self._listeners = listeners
        self._renew = renew
        self._noted: set[tuple[str, int]] = set()
        self._known: dict[str, KeyRecord] = {}
        self._place = _Reached(None, _NOTHING, _NOTHING)
        self._applying = asyncio.Lock()
        self._keys = Question(ledger.version)

    async def begin(self) -> None:
        """Does what is due before the first request: makes the ledger, and reads its keys.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        failure = await self._beat()
        await self.apply_key_changes()  # even if unwritable, it may be readable: revoked keys stay locked out
        if failure is not None:
            raise failure

    async def run_keys(self) -> None:
        """Applies changes of keys each second."""
        await take_turns(
            lambda _: self.follow_keys(), lambda error: log.error("keys could not be followed", error=error)
        )

    async def run(self) -> None:
        """Runs one turn of all else each second."""
        await take_turns(self.turn, lambda error: log.error("the ledger could not be followed", error=error))

    async def turn(self, turn: int) -> None:
        """Does what is due in one turn.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        is_due = turn % _BEAT == 0 or self._ledger.problem is not None or self._ledger.is_in_doubt
        if is_due and (failure := await self._beat()) is not None:
            raise failure
        if turn % _BEAT == 0:
            # First, because leases held here may have expired during an outage or when a clock jumped.
            await self._renew()
            await self._reclaim()
        if turn % _USES == 0 or not self._uses.keys() <= self._noted:
            await self.note_uses()  # a secret's first use at once: a rotation asks which one is in use
        if turn % COUNTS_EVERY == 0:
            await self._listeners.show_counts(
                await self._ledger.read(lambda c: active_counts(c, self._wall(), _MAX_ACCOUNTS))
            )

    async def follow_keys(self) -> None:
        """Applies what has changed of the keys, if anything has changed in the ledger.

        Raises:
            LedgerUnavailable: changes may be missing; call again.
        """
        if await self._keys.is_open():
            await self.apply_key_changes()
            self._keys.mark_answered()

    async def apply_key_changes(self) -> None:
        """Applies what has changed of the keys, one call after the other: what was read earlier never counts later.

        Raises:
            LedgerUnavailable: changes may be missing; call again.
        """
        async with self._applying:
            await self._apply_key_changes()

    async def _apply_key_changes(self) -> None:
        """A portion after the other: the next call goes on where a read has failed."""
        seen = set[Place | None]()
        while True:
            found = await self._ledger.read(lambda c: _changes(c, self._place), in_turn_of=OwnTurn.KEYS)
            if found.place.ledger != self._place.ledger and found.place.ledger in seen:
                raise LedgerUnavailable("several servers answer in turn, as one ledger")
            seen.add(found.place.ledger)
            await self._apply(found)
            if found.place.revision >= found.place.latest:
                return

    async def _apply(self, found: _Changes) -> None:
        gone = [] if found.ids is None else self._gone(found.ids)
        if found.blocked is not None:
            self._listeners.blocked(found.blocked)
        await self._tell_changed([*gone, *found.records])
        # Only now: what a listener could not take comes again, or a revocation would be lost for good.
        for record in gone:
            del self._known[record.id]
        self._known |= {record.id: record for record in found.records}
        self._place = found.place
        _tell_unreadable(found.records)

    async def _tell_changed(self, records: list[KeyRecord]) -> None:
        portion, size = list[KeyRecord](), 0
        for record in records:
            portion.append(record)
            size += self._size(record)
            if size >= _PORTION:
                self._listeners.changed(portion)
                await asyncio.sleep(0)
                portion, size = [], 0
        if portion:
            self._listeners.changed(portion)

    def _size(self, record: KeyRecord) -> int:
        """The old secrets count, too: a key that is gone has none, and all that it had are taken away."""
        old = self._known.get(record.id)
        return 1 + len(record.generations) + (len(old.generations) if old is not None else 0)

    async def note_uses(self) -> None:
        """Writes when secrets were last used.

        Raises:
            LedgerUnavailable: they are kept for the next call.
        """
        if not self._uses:
            return
        offset = self._wall() - self._monotonic()
        noted = dict(self._uses)
        await self._ledger.write(partial(_note, {use: at + offset for use, at in noted.items()}))
        self._noted |= noted.keys()
        for use, at in noted.items():
            if self._uses.get(use) == at:
                del self._uses[use]

    def _gone(self, there: frozenset[str]) -> list[KeyRecord]:
        """Keys that a replacement of the old ledger lacks, as disabled records: they stop working now."""
        gone = self._known.keys() - there
        lost = [replace(self._known[key_id], disabled_at=int(self._wall()), generations=()) for key_id in gone]
        if lost:
            log.warning("another ledger is where the old one was; keys it does not have are shut out", keys=len(lost))
        return lost

    async def _beat(self) -> LedgerUnavailable | None:
        self._ledger.is_in_doubt = False
        try:
            await self._ledger.write(_beat)
        except LedgerUnavailable as failure:
            return failure
        return None

    async def _reclaim(self) -> None:
        """Reclaims for some seconds at most, an account at a time; the next turn goes on."""
        until = self._monotonic() + _RECLAIM_SECONDS
        while accounts := await self._ledger.read(lambda c: overdue(c, self._wall())):
            for account in accounts:
                with suppress(OwnerWaited):  # somebody holds its lock; the others' is done
                    await self._reclaim_of(account)
                if self._monotonic() >= until:
                    return

    async def _reclaim_of(self, account: str) -> None:
        # A turn of the account's own: in its owner's queue it would wait for others that may wait for what it frees.
        pages = await self._ledger.write(partial(_reclaim, account, self._wall()), in_turn_of=account)
        if pages:
            self._listeners.settled(Settled(account, pages, 0))


def _changes(connection: Connection, known: _Reached) -> _Changes:
    ledger, latest = identity_of(connection), revision_of(connection)
    # Another ledger, or an older state of the same: since then it may have got as many changes as it lacks.
    is_all = ledger != known.ledger or latest < max(known.latest, known.revision)
    ids = key_ids(connection) if is_all else None
    reached, records = changes_since(connection, _NOTHING if is_all else known.revision)
    # Read after the revision: on PostgreSQL each statement has its own snapshot, and what is newer is read again.
    blocked = blocked_accounts(connection) if is_all or latest != known.latest else None
    return _Changes(_Reached(ledger, latest, reached), records, blocked, ids)


def _tell_unreadable(records: list[KeyRecord]) -> None:
    found = [record.id for record in records if record.unreadable]
    if found:
        log.error("keys of the ledger can't be read and are shut out", keys=found[:MAX_NAMED], count=len(found))


def _beat(connection: Connection) -> None:
    _BEAT_ONCE.run(connection)


def _note(uses: dict[tuple[str, int], float], connection: Connection) -> None:
    note_used(connection, uses)


def _reclaim(account: str, now: float, connection: Connection) -> int | None:
    return reclaim(connection, account, now)
