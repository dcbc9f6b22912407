"""Whether the ledger may have changed: asked once for all callers that poll each second.

Most seconds nothing has changed, and a few statements each second are most of what an idle gateway costs. So the
engine is asked for the state of its data first, one number of SQLite's in some microseconds; callers that poll ask
again only if that differs, or if the answer before ends by time alone.

Facts this file rests on:
- SQLite's `PRAGMA data_version` differs from what the same connection said before if another one has committed, in
  this process or any other (sqlite.org/pragma.html#pragma_data_version). The reader's connection never writes.
- PostgreSQL's snapshot names the transactions whose changes are seen. Every transaction that changes something gets
  the next number; so an equal snapshot of the same server sees the same data (postgresql.org, "pg_current_snapshot").
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from gateway.errors import LedgerUnavailable
from gateway.ledger.engine import OwnTurn, is_postgres
from gateway.ledger.statement import raw_of

TOGETHER: Final = 0.02  # seconds: callers asking at the same moment share one query
_SNAPSHOT: Final = text(
    "SELECT txid_current_snapshot()::text, pg_postmaster_start_time()::text,"
    " (SELECT value FROM counters WHERE name = 'ledger')"
)


class Version(NamedTuple):
    """A state of the ledger: equal states have the same data. `age`: how long before the call it was asked for."""

    state: object
    age: float


class News:
    """Asks for the ledger's version; `read` runs a transaction that only reads. For one event loop."""

    def __init__(self, read: Callable[..., Awaitable[Any]]) -> None:
        self._read = read
        self._asking: asyncio.Task[object] | None = None
        self._began = 0.0

    async def version(self) -> Version:
        """The version as of now, or as of a few milliseconds ago if somebody is asking.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        loop = asyncio.get_running_loop()
        age = loop.time() - self._began
        if self._asking is None or self._asking.done() or age > TOGETHER:
            self._asking, self._began, age = loop.create_task(self._ask()), loop.time(), 0.0
        found = await asyncio.shield(self._asking)  # others wait for it, too
        if isinstance(found, LedgerUnavailable):
            raise LedgerUnavailable(*found.args)
        return Version(found, age)

    async def _ask(self) -> object:
        try:
            return await self._read(state_of, in_turn_of=OwnTurn.NEWS)
        except LedgerUnavailable as failure:
            return failure  # not raised here: perhaps nobody waits any more


def state_of(connection: Connection) -> object:
    """Equals what it was before only if nothing has been committed in between."""
    if is_postgres(connection):
        return tuple(connection.execute(_SNAPSHOT).one())
    (number,) = raw_of(connection).execute("PRAGMA data_version").fetchone()
    return connection.info.setdefault("is", object()), number  # another connection counts anew


class Question:
    """What somebody asks the ledger regularly, and until when its answer holds.

    `version` is the ledger's; `age` that of the version by which `is_open` judged last.
    """

    def __init__(self, version: Callable[[], Awaitable[Version]]) -> None:
        self._version = version
        self._asked: object = None
        self._answered: object = None
        self._until = inf
        self.age = 0.0

    async def is_open(self, now: float = 0.0) -> bool:
        """Whether the answer may be another one by now.

        Raises:
            LedgerUnavailable: that is not known.
        """
        self._asked, self.age = await self._version()
        return self._asked != self._answered or now >= self._until

    def mark_answered(self, until: float = inf) -> None:
        """What was asked since `is_open` is its answer, until a moment, or until something changes."""
        self._answered, self._until = self._asked, until

    def reopen(self) -> None:
        """Has it asked again in any case."""
        self._answered = None
