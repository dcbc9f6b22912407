"""SQLite's write-ahead log beside a database (-wal): its bound and its size.

SQLite itself writes committed changes back into the database and restarts the log. It can't while a reader uses an
older state, so the log grows, and its file never shrinks by itself. So a log that is too large is written back whole
and truncated as soon as no one reads from it: tried once a second, with only a short wait for readers.
"""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.ledger.url import SQLITE

MAX_BYTES: Final = 16 * 1024 * 1024
_EVERY: Final = 1.0
_WAIT_MILLISECONDS: Final = 50


class LogBound:
    """Keeps a database's log small, on the writer thread. `patience` is the connections' busy timeout in seconds."""

    def __init__(self, path: Path, patience: float) -> None:
        self._name = str(log_of(path))
        self._patience = int(patience * 1000)
        self._next = 0.0

    def is_passed(self) -> bool:
        """Whether the log is too large, and is to be truncated now; asked after each transaction."""
        return time.monotonic() >= self._next and size_of(self._name) > MAX_BYTES

    def keep(self, raw: sqlite3.Connection) -> None:
        """Truncates the log if SQLite can do so; called between two transactions."""
        self._next = time.monotonic() + _EVERY
        raw.execute(f"PRAGMA busy_timeout={_WAIT_MILLISECONDS}")
        try:
            # On a reader, or another writer-back: the next try may succeed, and the metric shows the size meanwhile.
            with suppress(sqlite3.OperationalError):
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            raw.execute(f"PRAGMA busy_timeout={self._patience}")


def log_of(path: Path) -> Path:
    """Path of a database's log."""
    return path.with_name(path.name + "-wal")


def size_of(path: Path | str) -> int:
    """Size of a file in bytes; 0 if it does not exist."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 -- Path.stat takes half as long again, for each transaction
    except OSError:
        return 0


def log_bytes(url: str) -> int:
    """Size of a ledger's log in bytes; 0 for a server."""
    return size_of(log_of(Path(url.removeprefix(SQLITE)))) if url.startswith(SQLITE) else 0
