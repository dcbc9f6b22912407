"""The engine that replicas share: PostgreSQL, by asyncpg.

Facts this file rests on:
- A transaction is a synchronous function; SQLAlchemy runs it on a greenlet, which needs its own task.
- Cancelling a query may itself wait for the server. So the caller does not wait for that: the task ends by itself. If
  the server does not answer that either, SQLAlchemy drops the connection 2 s later, and the pool is whole again.
- Each statement is a round trip, and so are BEGIN, COMMIT, a ping, and the first use of a statement. So a connection
  is pinged only after a long idle time, and the statements of submits are prepared before a connection is used.
- The server ends what we gave up: statement_timeout, lock_timeout and idle_in_transaction_session_timeout.
- Alembic makes the tables in 150 round trips: that is one task with a deadline of its own, which no caller ends.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.aio.background import keep_task
from gateway.errors import LedgerUnavailable, OwnerWaited, ValueNotKept
from gateway.ledger.connecting import DEADLINES, FAULTS, Connector, has_waited, in_words, is_read_only
from gateway.ledger.connection_slots import ConnectionSlots
from gateway.ledger.engine import REPORT_SECONDS, OwnTurn, fault_of_waiting, handed_on, is_of_an_owner
from gateway.ledger.loop_time import LoopTime
from gateway.ledger.migrate import DEFAULT_UPKEEP, MIGRATION_SECONDS, Upkeep
from gateway.ledger.postgres_submits import STATEMENTS
from gateway.ledger.row_portions import LOOP_TIME

T = TypeVar("T")
_CONNECTIONS: Final = 8
_REPORTS: Final = 2  # at once
_MILLISECONDS: Final = 1000
_STALE: Final = 10.0
_MORE: Final = 5
"""So many times its deadline a transaction may take more, for the time that it gave to others."""
_NEVER: Final = float("inf")
_TO_CONNECT: Final = 0.5
"""Seconds that a turn has to have left, or a quarter of it, for a connection to be begun. While a server hangs, turns
come to those whose time is nearly over, one after the other: each would begin one for some milliseconds."""
_USED_AT: Final = "used_at"
_PREPARED: Final = "prepared"
_NO_TURN: Final = "no connection within ledger.turn_timeout"
_MANY_REPORTS: Final = "other searches take all the time that there is for them"
_CHANGING: Final = "its tables are being made or changed"


class PostgresEngine:
    """A ledger in a PostgreSQL database.

    `timeout` is a transaction's deadline in seconds, from when it has a connection, without what it gives to others
    of the loop's time; `turn` is that of the wait for one, None for the same. `isolation` is that of transactions
    that copy the ledger.
    """

    def __init__(
        self,
        connector: Connector,
        timeout: float,
        upkeep: Upkeep = DEFAULT_UPKEEP,
        turn: float | None = None,
        isolation: IsolationLevel | None = None,
    ) -> None:
        self._connector = connector
        self._upkeep = upkeep
        self._timeout = timeout
        self._turn = timeout if turn is None else turn
        self._connects_until: dict[asyncio.Task[Any] | None, tuple[float, type[LedgerUnavailable]]] = {}
        self._to_connect = min(_TO_CONNECT, self._turn / 4)
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            connect_args={"async_creator_fn": self._connect, **connector.statements},
            isolation_level=isolation or "READ COMMITTED",
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=self._turn,
            pool_use_lifo=True,  # the few connections in use are known to work; idle ones may be lost
        )
        self._at_once, self._prepared = self._engine, list[str]()
        if connector.keeps_statements:
            self._at_once = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        if connector.keeps_statements and not isolation:  # asyncpg prepares without a Sync, and so in a transaction
            self._prepared = [str(statement.compile(dialect=self._engine.dialect)) for statement in STATEMENTS]
        event.listen(self._engine.sync_engine, "checkout", self._on_checkout)
        event.listen(self._engine.sync_engine, "checkin", _on_checkin)
        self._slots = ConnectionSlots(_CONNECTIONS)
        self._reports = asyncio.Semaphore(_REPORTS)
        self._is_migrated = False
        self._tending: asyncio.Task[None] | None = None
        self._is_changing = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        """See Engine; commits are always durable here."""
        del durable
        return await self._run(work, in_turn_of, self._engine)

    async def guarded(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """See Engine."""
        return await self._run(work, in_turn_of, self._at_once)

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """See Engine. Needs no transaction: at READ COMMITTED it would not give two statements one snapshot."""
        return await self._run(work, in_turn_of, self._at_once)

    async def report(self, work: Callable[[Connection], T]) -> T:
        """See Engine; two reports at a time: each may last a minute, and a replica has eight connections."""

        def slowly(connection: Connection) -> T:
            milliseconds = int(REPORT_SECONDS * _MILLISECONDS)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            return work(connection)

        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await self._reports.acquire()
        except TimeoutError:
            raise LedgerUnavailable(_MANY_REPORTS) from None
        try:
            return await self._run(slowly, OwnTurn.REPORTS, self._engine, REPORT_SECONDS)
        finally:
            self._reports.release()

    async def close(self) -> None:
        """See Engine."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        for task in self._tasks:
            task.cancel()
        disposing = asyncio.get_running_loop().create_task(self._engine.dispose())
        keep_task(disposing, self._tasks)
        await asyncio.wait([disposing], timeout=self._timeout)
        disposing.cancel()
        self._connector.drop()  # a lost server does not answer the goodbye
        await asyncio.sleep(0)  # lets the transports close: the loop may end next

    async def _run(
        self, work: Callable[[Connection], T], in_turn_of: str, engine: AsyncEngine, within: float | None = None
    ) -> T:
        if not self._is_migrated:
            await self._tended()
        loop = asyncio.get_running_loop()
        has_begun: asyncio.Future[LoopTime] = loop.create_future()
        task = loop.create_task(self._work(work, in_turn_of, engine, has_begun))
        keep_task(task, self._tasks)
        either: tuple[asyncio.Future[Any], ...] = (task, has_begun)
        try:
            await asyncio.wait(either, timeout=self._turn, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                fault = fault_of_waiting(in_turn_of)
                if not has_begun.done():
                    raise fault(_NO_TURN)
                await _answered(task, within or self._timeout, has_begun.result(), fault)
            return task.result()
        except Exception as error:  # noqa: BLE001 -- the caller gets whatever the work raises
            raise handed_on(error)  # noqa: B904 -- it is the same
        finally:
            task.cancel()
            del task, either  # an error has this call in its traceback, and they have the error

    async def _work(
        self,
        work: Callable[[Connection], T],
        in_turn_of: str,
        engine: AsyncEngine,
        has_begun: "asyncio.Future[LoopTime]",
    ) -> T:
        until = asyncio.get_running_loop().time() + self._turn - self._to_connect
        async with self._slots.one(in_turn_of):
            with self._words(in_turn_of), self._connecting_until(until, fault_of_waiting(in_turn_of)):
                return await self._begin(work, engine, has_begun)

    @contextmanager
    def _connecting_until(self, until: float, fault: type[LedgerUnavailable]) -> Iterator[None]:
        """Lets the task that runs this begin no connection later: it gets one that is there, or that fault."""
        task = asyncio.current_task()
        self._connects_until[task] = until, fault
        try:
            yield
        finally:
            del self._connects_until[task]

    async def _connect(self) -> asyncpg.Connection:
        """Called in the task that wants it, where no connection is there."""
        until, fault = self._connects_until.get(asyncio.current_task(), (_NEVER, LedgerUnavailable))
        if asyncio.get_running_loop().time() > until:
            raise fault(_NO_TURN)
        return await self._connector.connect()

    @contextmanager
    def _words(self, in_turn_of: str = "") -> Iterator[None]:
        try:
            yield
        except (IntegrityError, LedgerUnavailable):
            raise
        except DBAPIError as error:
            if error.orig is not None and isinstance(error.orig.__cause__, asyncpg.DataError):
                raise ValueNotKept(in_words(error.orig)) from None
            if is_of_an_owner(in_turn_of) and has_waited(error.orig):
                raise OwnerWaited(in_words(error.orig)) from None
            if is_read_only(error.orig):
                self._connector.look_for_another()
            self._is_migrated = False  # the database may be another one when it is back
            raise LedgerUnavailable(in_words(error.orig)) from None
        except (SQLAlchemyError, *FAULTS) as error:
            raise LedgerUnavailable(in_words(error)) from None

    async def _tended(self) -> None:
        """Waits for the tables. One task migrates for all waiters; a waiter that gives up does not end it."""
        if self._tending is None:
            self._tending = asyncio.get_running_loop().create_task(self._tend())
            keep_task(self._tending, self._tasks)
            self._tending.add_done_callback(self._finish_tending)
        task = self._tending
        await asyncio.wait([task], timeout=self._turn)
        if not task.done() and self._is_changing and self._upkeep.patience:
            self._upkeep.waits()
            await asyncio.wait([task], timeout=self._upkeep.patience)
        if not task.done():
            raise LedgerUnavailable(_CHANGING if self._is_changing else _NO_TURN)
        try:
            task.result()
        except Exception as error:  # noqa: BLE001 -- as `_run` does
            raise handed_on(error)  # noqa: B904 -- likewise
        finally:
            del task

    async def _tend(self) -> None:
        with self._words():
            async with asyncio.timeout(self._turn):
                is_due = await self._begin(self._upkeep.is_due, self._at_once)
            if is_due:
                self._is_changing = True
                async with asyncio.timeout(MIGRATION_SECONDS):
                    before = await self._begin(self._change, self._engine)
                if before is not None:
                    self._upkeep.changed(before)
            self._is_migrated = True

    def _change(self, connection: Connection) -> str | None:
        for name in DEADLINES:
            connection.exec_driver_sql(f"SET LOCAL {name} = {int(MIGRATION_SECONDS * _MILLISECONDS)}")
        return self._upkeep.tend(connection)

    def _finish_tending(self, _: "asyncio.Task[None]") -> None:
        self._tending, self._is_changing = None, False

    async def _begin(
        self,
        work: Callable[[Connection], T],
        engine: AsyncEngine,
        has_begun: "asyncio.Future[LoopTime] | None" = None,
    ) -> T:
        async with engine.begin() as connection:
            if has_begun is not None and not has_begun.done():
                has_begun.set_result(connection.info[LOOP_TIME])
            if self._connector.begin:
                await connection.exec_driver_sql(self._connector.begin)
            return await connection.run_sync(work)

    def _on_checkout(self, raw: Any, record: Any, _: Any) -> None:
        """Checks and prepares a connection before use, in SQLAlchemy's greenlet.

        Raises:
            InvalidatePoolError: it is dead, and so may be those of the same age; SQLAlchemy makes a new one.
        """
        used_at = record.info.get(_USED_AT)
        record.info[LOOP_TIME] = LoopTime(raw)
        try:
            if raw.driver_connection.is_closed():
                raise InvalidatePoolError
            if used_at is not None and time.monotonic() - used_at > _STALE:
                raw.ping()
        except raw.dbapi.Error:
            raise InvalidatePoolError from None
        if self._is_migrated and _PREPARED not in record.info:
            for statement in self._prepared:
                # Fills the cache that SQLAlchemy's own statements use; it has no public way to fill it.
                raw.run_async(lambda _, statement=statement: raw._prepare(statement, 0.0))  # noqa: SLF001
            record.info[_PREPARED] = True


async def _answered(
    task: "asyncio.Task[Any]", seconds: float, loop_time: LoopTime, fault: type[LedgerUnavailable]
) -> None:
    """Waits for so long, and for what is given to others meanwhile: of a busy loop that is most of the time."""
    left, given = seconds, 0.0
    while left > 0:
        await asyncio.wait([task], timeout=left)
        if task.done():
            return
        most = min(loop_time.given, _MORE * seconds)
        left, given = most - given, most
    raise fault("no answer within ledger.timeout")


def _on_checkin(_: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()
