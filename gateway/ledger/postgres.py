"""The engine where replicas meet: PostgreSQL, by asyncpg.

Facts this file rests on:
- A transaction is a synchronous function; SQLAlchemy runs it on a greenlet, which needs a task of its own.
- asyncpg reads a libpq URL whole, sslmode, sslrootcert, passfile and unix sockets included, so it gets it as it is.
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
from gateway.ledger.engine import REPORT_SECONDS
from gateway.ledger.migrate import migrate

T = TypeVar("T")
_CONNECTIONS: Final = 8
_MILLISECONDS: Final = 1000
_WORDS: Final = {
    "InvalidPasswordError": "the password is wrong",
    "InvalidAuthorizationSpecificationError": "this user may not log in",
    "InvalidCatalogNameError": "there is no such database",
    "LockNotAvailableError": "it is locked by somebody else",
    "QueryCanceledError": "no answer within ledger.timeout",
    "DiskFullError": "its disk is full",
    "ReadOnlySQLTransactionError": "it is read-only",
    "InsufficientPrivilegeError": "this user may not do that",
    "TooManyConnectionsError": "it has too many connections",
    "CannotConnectNowError": "it is starting or stopping",
}


class PostgresEngine:
    """A ledger in a PostgreSQL database. `timeout` is the deadline of a transaction in seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
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
                async with self._engine.begin() as connection:
                    await connection.run_sync(migrate)
                self._is_migrated = True
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)
        except IntegrityError:
            raise
        except DBAPIError as error:
            self._is_migrated = False  # the database may be another one when it is back
            raise _unavailable(error.orig) from None
        except (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise _unavailable(error) from None

    async def _connect(self) -> asyncpg.Connection:
        deadline = str(int(self._timeout * _MILLISECONDS))
        return await asyncpg.connect(
            self._url,
            timeout=self._timeout,
            server_settings={
                "application_name": "document-gateway",
                "statement_timeout": deadline,
                "lock_timeout": deadline,
                "idle_in_transaction_session_timeout": deadline,
            },
        )

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here when nobody waits for it any more


def _unavailable(error: BaseException | None) -> LedgerUnavailable:
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError):
        return LedgerUnavailable("no connection to PostgreSQL")
    name = type(error).__name__
    return LedgerUnavailable(_WORDS.get(name, f"PostgreSQL says {name}"))
