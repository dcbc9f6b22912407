"""SQLite's log beside a database (-wal): bounded, and its size.

SQLite writes what is committed back into the database by itself and begins the log anew. While anybody reads an older
state it can't, and the log grows; afterwards the file stays as large as it ever was. So one that is too large is
written back whole and cut, as soon as nobody reads in it: asked for once a second, and no reader is waited for long.
"""

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
    """Keeps the log of one database small, on the thread that writes to it. `patience` is its connections' own."""

    def __init__(self, path: Path, patience: float) -> None:
        self._path = log_of(path)
        self._patience = int(patience * 1000)
        self._next = 0.0

    def keep(self, raw: sqlite3.Connection) -> None:
        """Cuts the log when it is too large and that can be; called between two transactions."""
        now = time.monotonic()
        if now < self._next or size_of(self._path) <= MAX_BYTES:
            return
        self._next = now + _EVERY
        raw.execute(f"PRAGMA busy_timeout={_WAIT_MILLISECONDS}")
        try:
            # Somebody who reads, or writes back himself: the next time will tell, and the metric meanwhile.
            with suppress(sqlite3.OperationalError):
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            raw.execute(f"PRAGMA busy_timeout={self._patience}")


def log_of(path: Path) -> Path:
    """Where the log of a database is."""
    return path.with_name(path.name + "-wal")


def size_of(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def log_bytes(url: str) -> int:
    """How large the log of a ledger is; 0 where the ledger is a server's."""
    return size_of(log_of(Path(url.removeprefix(SQLITE)))) if url.startswith(SQLITE) else 0
