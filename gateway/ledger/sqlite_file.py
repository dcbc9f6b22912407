"""The file of a SQLite ledger in WAL mode: how it is made, opened, found replaced, and what its faults mean.

Facts this file rests on:
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

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from gateway.errors import LedgerUnavailable
from gateway.ledger.migrate import Upkeep
from gateway.ledger.statement import raw_of, with_driver
from gateway.ledger.writeahead import MAX_BYTES, LogBound

T = TypeVar("T")
_Identity = tuple[int, int] | None
_PAUSE: Final = 0.01
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


class SqliteFile:
    """One connection to the file, for one thread: opened on demand, and again after each failure.

    `clearing` is shared by all who have the file open; `timeout` is how long to wait for a lock, in seconds.
    """

    def __init__(self, path: Path, timeout: float, clearing: Lock, upkeep: Upkeep, *, writes: bool) -> None:
        self.writes = writes
        self._path = path
        self._name = str(path)
        self._upkeep = upkeep
        self._clearing = clearing
        self._engine = _make_engine(path, timeout, writes=writes)
        self._log_bound = LogBound(path, timeout)
        self._connection: Connection | None = None
        self._is_durable = False
        self._file: _Identity = None
        self._log: _Identity = None

    def transact(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        """Does work all or nothing; `durable` if it must survive a power loss, too."""
        connection = self._open()
        if self._is_durable is not durable:
            raw_of(connection).execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        return _in_transaction(connection, work, writes=self.writes)

    @property
    def is_log_large(self) -> bool:
        """Whether the log is too large: a matter for the one who writes."""
        return self.writes and self._log_bound.is_passed()

    def bound_log(self) -> None:
        """Makes it small again, as soon as nobody reads from it."""
        if self._connection is None:
            return
        try:
            self._log_bound.keep(raw_of(self._connection))
        except (sqlite3.Error, SQLAlchemyError):
            self.close()  # that transaction was reported; the next one reopens, and reports what is wrong

    def close(self) -> None:
        """Closes the connection; the next transaction opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # whatever is wrong with it, the next one is new
                connection.close()

    def _open(self) -> Connection:
        found = _identity(self._name)
        if self._connection is not None and found is not None and found == self._file:
            return self._connection
        self.close()
        if self._file is not None and found != self._file:
            self._clear()
        if self.writes:
            _make_file(self._path)
        self._file = _identity(self._name)  # before opening: the next check then sees a replacement
        connection = self._connection = with_driver(self._engine.connect())
        self._is_durable = False
        try:
            tend = partial(self._upkeep.tend, may_write=self.writes)
            before = _in_transaction(connection, tend, writes=self.writes)
        except BaseException:
            self.close()
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


def unavailable(error: BaseException | None) -> LedgerUnavailable:
    """What to tell of a fault of the file, or of what SQLite says of it."""
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, OSError) and error.strerror:
        return LedgerUnavailable(f"its file: {error.strerror}")
    known = next((words for code, words in _WORDS.items() if name.startswith(code)), None)
    return LedgerUnavailable(known or f"SQLite says {name or type(error).__name__}")
