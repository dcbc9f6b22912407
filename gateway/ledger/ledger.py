"""The ledger as the gateway uses it: an engine, and whether it works."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection

from gateway.errors import LedgerUnavailable, OwnerWaited, ValueNotKept
from gateway.ledger.engine import Engine
from gateway.ledger.migrate import DEFAULT_UPKEEP, Upkeep
from gateway.ledger.news import News
from gateway.ledger.postgres_url import is_postgres_url

T = TypeVar("T")
_CALM: Final = 2.0
log = structlog.get_logger()


class Ledger:
    """Runs transactions and remembers what went wrong. `problem` is None while all is well.

    An owner's transaction that waited in vain says too little: it may have waited for others of that owner. Then
    `is_in_doubt` asks for a write of the gateway's own, which decides.

    A full disk still takes small writes, but none that need another page. So a successful write ends a problem only
    if no write has failed for `calm` seconds by `clock`. `version` returns what differs when something has changed.
    """

    def __init__(self, engine: Engine, calm: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._calm = calm
        self._clock = clock
        self._failed_at = -calm
        self._not_writing: str | None = "not asked yet"
        self._not_reading: str | None = None
        self.is_in_doubt = False
        self.version = News(self.read).version

    @property
    def problem(self) -> str | None:
        """Why submits are refused now; None if they are not."""
        return self._not_writing or self._not_reading

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        """Runs a transaction that may write; see Engine.

        Raises:
            LedgerUnavailable: it is unknown whether it was committed.
        """
        return await self._noted(self._engine.write(work, durable=durable, in_turn_of=in_turn_of))

    async def guarded(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """Runs statements that guard what they write; see Engine.

        Raises:
            LedgerUnavailable: it is unknown whether they did their work.
        """
        return await self._noted(self._engine.guarded(work, in_turn_of=in_turn_of))

    async def _noted(self, writing: Awaitable[T]) -> T:
        result = await self._judged(writing, self._note_unwritten)
        if self._not_writing is not None and self._clock() - self._failed_at >= self._calm:
            self._note(None, self._not_reading)
        return result

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """Runs a transaction that only reads; see Engine.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        reading = self._engine.read(work, in_turn_of=in_turn_of)
        result = await self._judged(reading, lambda why: self._note(self._not_writing, why))
        self._note(self._not_writing, None)
        return result

    async def report(self, work: Callable[[Connection], T]) -> T:
        """Runs a slow query; its timeout says nothing about the ledger's health. See Engine.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        return await self._engine.report(work)

    async def close(self) -> None:
        """Closes it."""
        await self._engine.close()

    async def _judged(self, asked: Awaitable[T], note_failure: Callable[[str], None]) -> T:
        try:
            return await asked
        except ValueNotKept:
            raise
        except OwnerWaited:
            self.is_in_doubt = True
            raise
        except LedgerUnavailable as failure:
            note_failure(str(failure))
            raise

    def _note_unwritten(self, why: str) -> None:
        self._failed_at = self._clock()
        self._note(why, self._not_reading)

    def _note(self, not_writing: str | None, not_reading: str | None) -> None:
        before = self.problem
        self._not_writing, self._not_reading = not_writing, not_reading
        if self.problem is None and before is not None:
            log.info("ledger is available")
        elif self.problem is not None and self.problem != before:
            log.error("ledger is unavailable", why=self.problem)


def open_ledger(
    url: str,
    timeout: float,
    latest: Callable[[], str] | None = None,
    *,
    turn: float | None = None,
    behind_pooler: bool = False,
    upkeep: Upkeep = DEFAULT_UPKEEP,
) -> Ledger:
    """Creates the ledger that a URL names; nothing is opened before the first transaction.

    `timeout` bounds a transaction, `turn` the wait for its turn (None: the same); both in seconds. `latest` returns
    the same ledger's URL as it is now, since its password may change.
    """
    if is_postgres_url(url):
        from gateway.ledger.connecting import Connector  # noqa: PLC0415 -- one replica on SQLite never needs it
        from gateway.ledger.postgres import PostgresEngine  # noqa: PLC0415 -- likewise

        connector = Connector(latest or (lambda: url), timeout, turn, behind_pooler=behind_pooler)
        return Ledger(PostgresEngine(connector, timeout, upkeep, turn), _CALM)
    from gateway.ledger.sqlite import SqliteEngine  # noqa: PLC0415 -- likewise

    return Ledger(SqliteEngine(Path(url.removeprefix("sqlite:///")), timeout, upkeep, turn), _CALM)
