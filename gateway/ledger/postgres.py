"""The engine where replicas meet: PostgreSQL, by asyncpg.

Facts this file rests on:
- A transaction is a synchronous function; SQLAlchemy runs it on a greenlet, which needs a task of its own.
- Cancelling a query may itself wait for the server. So whoever waits does not wait for that: the task is left to end.
  Where nobody answers that either, SQLAlchemy drops the connection 2 s later, and the pool is whole again.
- The server ends what we gave up: statement_timeout, lock_timeout and idle_in_transaction_session_timeout.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.errors import LedgerUnavailable
from gateway.ledger.connecting import Connector, in_words
from gateway.ledger.engine import REPORT_SECONDS
from gateway.ledger.migrate import DEFAULT_UPKEEP, Upkeep

T = TypeVar("T")
_CONNECTIONS: Final = 8
_MILLISECONDS: Final = 1000


class PostgresEngine:
    """A ledger in a PostgreSQL database. `timeout` is the deadline of a transaction in seconds."""

    def __init__(self, connector: Connector, timeout: float, upkeep: Upkeep = DEFAULT_UPKEEP) -> None:
        self._connector = connector
        self._upkeep = upkeep
        self._timeout = timeout
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            connect_args={"async_creator_fn": connector.connect, **connector.statements},
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=timeout,
            pool_pre_ping=True,
        )
        self._is_migrated = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """See Engine; what is committed is durable here whatever is asked for."""
        del durable
        return await self._run(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See Engine."""
        return await self._run(work)

    async def report(self, work: Callable[[Connection], T]) -> T:
        """See Engine."""

        def slowly(connection: Connection) -> T:
            milliseconds = int(REPORT_SECONDS * _MILLISECONDS)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            return work(connection)

        return await self._run(slowly, REPORT_SECONDS)

    async def close(self) -> None:
        """See Engine."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        for task in self._tasks:
            task.cancel()
        disposing = asyncio.get_running_loop().create_task(self._engine.dispose())
        self._tasks.add(disposing)
        disposing.add_done_callback(self._ended)
        await asyncio.wait([disposing], timeout=self._timeout)
        disposing.cancel()

    async def _run(self, work: Callable[[Connection], T], within: float | None = None) -> T:
        task = asyncio.get_running_loop().create_task(self._transact(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait([task], timeout=within or self._timeout)
            if not task.done():
                raise LedgerUnavailable("no answer within ledger.timeout")
        finally:
            task.cancel()
        return task.result()

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        try:
            if not self._is_migrated:
                before = await self._begin(self._upkeep.tend)
                self._is_migrated = True
                if before is not None:
                    self._upkeep.changed(before)
            return await self._begin(work)
        except (IntegrityError, LedgerUnavailable):
            raise
        except DBAPIError as error:
            self._is_migrated = False  # the database may be another one when it is back
            raise LedgerUnavailable(in_words(error.orig)) from None
        except (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise LedgerUnavailable(in_words(error)) from None

    async def _begin(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            if self._connector.begin:
                await connection.exec_driver_sql(self._connector.begin)
            return await connection.run_sync(work)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here when nobody waits for it any more
