"""The embedded engine: one SQLite file in WAL mode, one thread that writes, one that reads, one that makes reports.

Facts this file rests on:
- Transactions queue for one writer anyway; its own thread takes 0.5 ms for five statements, a pool 2 ms (measured).
- Python's sqlite3 guesses from statements when to open a transaction. With isolation_level None it does not, and ours
  start with BEGIN IMMEDIATE: a writer that must wait does so at once, not midway (sqlite.org, "Transaction").
- The driver itself begins and ends transactions, in some microseconds; SQLAlchemy takes longer for that than for a
  statement. What it takes for its own transaction begins with its first statement, and sends nothing.
- In WAL mode synchronous=NORMAL loses no committed transaction to kill -9; a power loss may lose the last ones.
  Changes of keys use FULL, which loses none (sqlite.org/pragma.html#pragma_synchronous).
- A deleted or replaced file lives on for those who have it open, so its name is checked each time. SQLite would play
  the old log (-wal) into the new file, so the log is removed (sqlite.org/howtocorrupt.html, 1.4 and 2.4).
- Closing any descriptor of a file drops all locks that the process holds on it (POSIX). So only SQLite opens the file
  here: another process would think itself alone, and remove the log (likewise, 2.2).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.ledger.engine import REPORT_SECONDS, fault_of_waiting, handed_on
from gateway.ledger.migrate import DEFAULT_UPKEEP, Upkeep
from gateway.ledger.owner_turns import OwnerTurns
from gateway.ledger.statement import raw_of, with_driver
from gateway.ledger.writeahead import MAX_BYTES, LogBound

T = TypeVar("T")
_Identity = tuple[int, int] | None
MAX_WAITING: Final = 10_000
_PAUSE: Final = 0.01
_NO_TURN: Final = "no turn within ledger.turn_timeout"
_WORDS: Final = {
    "SQLITE_BUSY": "it is locked by somebody else",
    "SQLITE_LOCKED": "it is locked by somebody else",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the file or its directory is read-only",
    "SQLITE_CANTOPEN": "the file can't be opened or made",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is not an SQLite database",
    "SQLITE_IOERR": "the disk fails, or is full",
    "SQLITE_PERM": "the file may not be used",
}


@dataclass(slots=True, eq=False)
class _Call:
    work: Callable[[Connection], Any]
    done: "asyncio.Future[Any]"
    in_turn_of: str
    turn: float
    seconds: float
    durable: bool
    abandoned: bool = False
    began: float | None = None
    timer: asyncio.TimerHandle | None = None

    def left(self, now: float) -> float:
        """Seconds until its caller gives up: first on its turn, then, once it has begun, on the transaction."""
        return self.turn - now if self.began is None else self.began + self.seconds - now

    def watch(self) -> None:
        """Lets its caller give up in time."""
        left = self.left(time.monotonic())
        if left > 0:
            self.timer = self.done.get_loop().call_later(min(left, self.seconds), self.watch)
        else:
            _end(self.done, None, _late(self))

    def give_up(self) -> None:
        """Its caller no longer waits. Not begun: it never will; begun: it rolls back before its commit."""
        self.abandoned = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.done.cancel()

    def end(self, result: Any, error: BaseException | None) -> None:
        """Called on its thread: lets its caller know. In the error's calls is this one, which would hold it."""
        error = None if error is None else handed_on(error)
        with suppress(RuntimeError):  # its loop has closed
            self.done.get_loop().call_soon_threadsafe(_end, self.done, result, error)


def _end(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def _late(call: _Call) -> LedgerUnavailable:
    if call.began is None:  # others of its owner's may have been ahead; the one that runs says what is wrong
        return fault_of_waiting(call.in_turn_of)(_NO_TURN)
    return LedgerUnavailable("no answer within ledger.timeout")


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
        clearing = Lock()
        self._writer = LedgerThread(path, timeout, clearing, upkeep, writes=True)
        self._reader = LedgerThread(path, timeout, clearing, upkeep, writes=False)
        self._reporter: LedgerThread | None = None
        self._make_reporter = partial(LedgerThread, path, timeout, clearing, upkeep, writes=False)

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
            self._reporter = self._make_reporter()
        return await self._run(self._reporter, work, "", within=REPORT_SECONDS)

    async def _run(
        self,
        worker: "LedgerThread",
        work: Callable[[Connection], T],
        in_turn_of: str,
        *,
        durable: bool = False,
        within: float | None = None,
    ) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        turn = time.monotonic() + (within or self._turn)
        call = _Call(work, done, in_turn_of, turn, within or self._timeout, durable)
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


class LedgerThread:
    """A thread with its own connection, which it opens on demand, and again after each failure."""

    def __init__(self, path: Path, timeout: float, clearing: Lock, upkeep: Upkeep, *, writes: bool) -> None:
        self._path = path
        self._name = str(path)
        self._upkeep = upkeep
        self._clearing = clearing
        self._writes = writes
        self._engine = _make_engine(path, timeout, writes=writes)
        self._log_bound = LogBound(path, timeout)
        self._connection: Connection | None = None
        self._is_durable = False
        self._file: _Identity = None
        self._log: _Identity = None
        self._calls: OwnerTurns[_Call] = OwnerTurns(1)
        self._queue = Lock()
        self._signals: SimpleQueue[None] = SimpleQueue()  # one for each queued call, and one for the end
        name = "ledger-writer" if writes else "ledger-reader"
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls it has not begun."""
        return len(self._calls)

    def put(self, call: _Call) -> None:
        """Queues a call.

        Raises:
            LedgerUnavailable: too many calls wait.
        """
        with self._queue:
            if len(self._calls) >= MAX_WAITING:
                raise fault_of_waiting(call.in_turn_of)("too many transactions wait for it")
            self._calls.put(call.in_turn_of, call)
        self._signals.put(None)

    def stop(self, timeout: float) -> None:
        """Ends the thread after its queued calls; blocks for at most `timeout` seconds."""
        self._signals.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            if not call.abandoned:  # else its transaction never begins
                self._serve(call)
        self._drop()

    def _next(self) -> _Call | None:
        """Waits for the next call, taking owners in turn; None when the thread is to end."""
        self._signals.get()
        with self._queue:
            found = self._calls.take()
            if found is None:
                return None
            self._calls.finish(found[0])  # the share is one, and this thread runs one at a time
            return found[1]

    def _serve(self, call: _Call) -> None:
        try:
            call.began = time.monotonic()
            if call.began > call.turn:
                raise fault_of_waiting(call.in_turn_of)(_NO_TURN)
            result = self._transact(call)
        except IntegrityError as error:
            call.end(None, error)
        except DBAPIError as error:
            self._drop()
            call.end(None, _unavailable(handed_on(error).orig))
        except UnicodeEncodeError:  # the driver's, of a value: SQLite stores UTF-8, which has no lone surrogate
            call.end(None, ValueNotKept("it can't store a value"))
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            self._drop()
            call.end(None, _unavailable(error))
        except BaseException as error:  # noqa: BLE001 -- the caller gets whatever the work raises
            call.end(None, error)
        else:
            is_log_large = self._writes and self._log_bound.is_passed()
            call.end(result, None)  # wakes the loop: what asks the system after this would wait for Python's lock
            if is_log_large:
                self._bound()

    def _transact(self, call: _Call) -> Any:
        connection = self._open()
        if self._is_durable is not call.durable:
            raw_of(connection).execute(f"PRAGMA synchronous={'FULL' if call.durable else 'NORMAL'}")
            self._is_durable = call.durable

        def work(connection: Connection) -> Any:
            result = call.work(connection)
            if call.abandoned:
                raise LedgerUnavailable("nobody waits for it any more")
            return result

        return _in_transaction(connection, work, writes=self._writes)

    def _bound(self) -> None:
        if self._connection is None:
            return
        try:
            self._log_bound.keep(raw_of(self._connection))
        except (sqlite3.Error, SQLAlchemyError):
            self._drop()  # that transaction was reported; the next one reopens, and reports what is wrong

    def _open(self) -> Connection:
        found = _identity(self._name)
        if self._connection is not None and found is not None and found == self._file:
            return self._connection
        self._drop()
        if self._file is not None and found != self._file:
            self._clear()
        if self._writes:
            _make_file(self._path)
        self._file = _identity(self._name)  # before opening: the next check then sees a replacement
        connection = self._connection = with_driver(self._engine.connect())
        self._is_durable = False
        try:
            tend = partial(self._upkeep.tend, may_write=self._writes)
            before = _in_transaction(connection, tend, writes=self._writes)
        except BaseException:
            self._drop()
            raise
        if before is not None:
            self._upkeep.changed(before)
        self._log = _identity(_beside(self._path, "-wal"))
        return connection

    def _clear(self) -> None:
        """Removes the log of the former file. All threads had it open; the first to notice removes it."""
        with self._clearing:
            if self._log is not None and self._log == _identity(_beside(self._path, "-wal")):
                for end in ("-wal", "-shm"):
                    _beside(self._path, end).unlink(missing_ok=True)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # whatever is wrong with it, the next one is new
                connection.close()


def _make_engine(path: Path, timeout: float, *, writes: bool) -> SqlEngine:
    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            raw.execute("PRAGMA trusted_schema=OFF")
            raw.execute("PRAGMA synchronous=NORMAL")
            if writes:
                _use_log(raw, timeout)
                raw.execute(f"PRAGMA journal_size_limit={MAX_BYTES}")
        except BaseException:
            raw.close()
            raise
        return raw

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _in_transaction(connection: Connection, work: Callable[[Connection], T], *, writes: bool) -> T:
    """Does work all or nothing."""
    raw = raw_of(connection)
    raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        result = work(connection)
        (connection if connection.in_transaction() else raw).commit()
    except BaseException:
        (connection if connection.in_transaction() else raw).rollback()
        raise
    return result


def _use_log(raw: sqlite3.Connection, timeout: float) -> None:
    """Switches the file to WAL mode. SQLite does not wait for locks here, not even for another that does the same."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            (mode,) = raw.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            Event().wait(_PAUSE)
        else:
            break
    if mode != "wal":
        raise LedgerUnavailable("its file system can't do WAL")


def _make_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _identity(path: Path | str) -> _Identity:
    try:
        found = os.stat(path)  # noqa: PTH116 -- Path.stat takes half as long again, for each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unavailable(error: BaseException | None) -> LedgerUnavailable:
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, OSError) and error.strerror:
        return LedgerUnavailable(f"its file: {error.strerror}")
    known = next((words for code, words in _WORDS.items() if name.startswith(code)), None)
    return LedgerUnavailable(known or f"SQLite says {name or type(error).__name__}")
