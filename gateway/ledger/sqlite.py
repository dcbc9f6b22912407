"""The embedded engine: one SQLite file in WAL mode, one thread that writes, one that reads, one that makes reports.

Transactions queue for one writer anyway; its own thread takes 0.5 ms for five statements, a pool 2 ms (measured).
sqlite_thread.py is such a thread with its queue, sqlite_file.py its connection to the file.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection

from gateway.ledger.engine import REPORT_SECONDS
from gateway.ledger.migrate import DEFAULT_UPKEEP, Upkeep
from gateway.ledger.sqlite_file import SqliteFile
from gateway.ledger.sqlite_thread import LedgerCall, LedgerThread

T = TypeVar("T")


class SqliteEngine:
    """A ledger in one file. Its third thread begins with the first report: a long one delays no other reader.

    `timeout` is a transaction's deadline in seconds, from its beginning; `turn` is that of the wait for its turn,
    None for the same.
    """

    def __init__(
        self, path: Path, timeout: float, upkeep: Upkeep = DEFAULT_UPKEEP, turn: float | None = None
    ) -> None:
        self._timeout = timeout
        self._turn = timeout if turn is None else turn
        self._make_file = partial(SqliteFile, path, timeout, Lock(), upkeep)
        self._writer = LedgerThread(self._make_file(writes=True))
        self._reader = LedgerThread(self._make_file(writes=False))
        self._reporter: LedgerThread | None = None

    def __repr__(self) -> str:
        return f"<SqliteEngine to_write={self._writer.waiting} to_read={self._reader.waiting}>"

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        """See Engine."""
        return await self._run(self._writer, work, in_turn_of, durable=durable)

    async def guarded(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """See Engine: only one transaction writes at a time, so it is a transaction like any other."""
        return await self._run(self._writer, work, in_turn_of)

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """See Engine."""
        return await self._run(self._reader, work, in_turn_of)

    async def report(self, work: Callable[[Connection], T]) -> T:
        """See Engine; one report at a time."""
        if self._reporter is None:
            self._reporter = LedgerThread(self._make_file(writes=False))
        return await self._run(self._reporter, work, "", within=REPORT_SECONDS)

    async def _run(
        self,
        worker: LedgerThread,
        work: Callable[[Connection], T],
        in_turn_of: str,
        *,
        durable: bool = False,
        within: float | None = None,
    ) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        turn = time.monotonic() + (within or self._turn)
        call = LedgerCall(work, done, in_turn_of, turn, within or self._timeout, durable)
        worker.put(call)
        call.watch()
        try:
            return await done
        finally:
            call.give_up()
            del call, done  # an error has this call in its traceback, and they have the error

    async def close(self) -> None:
        """See Engine."""
        for worker in (self._writer, self._reader, self._reporter):
            if worker is not None:
                await asyncio.to_thread(worker.stop, self._timeout)
