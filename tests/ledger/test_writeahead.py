"""SQLite's log: it grows while somebody reads in it, and is cut when he has ended."""

import asyncio
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from gateway.ledger.writeahead import MAX_BYTES, log_bytes, log_of
from tests.support.ledgers import Script, beat, open_engine

READS: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM counters").fetchone()
print("reads")
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
print("ended")
"""


def bulk(connection: Connection) -> None:
    """Writes some megabytes, and again over them the next time."""
    connection.execute(text("CREATE TABLE IF NOT EXISTS bulk (data BLOB)"))
    connection.execute(text("DELETE FROM bulk"))
    connection.execute(text("INSERT INTO bulk VALUES (randomblob(4000000))"))


async def test_the_log_grows_with_a_reader_and_is_cut_without(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    url = f"sqlite:///{file}"
    engine = open_engine(url)
    await engine.write(beat)
    with Script(READS, str(file)) as reader:
        assert await asyncio.to_thread(reader.line) == "reads"
        while log_bytes(url) <= MAX_BYTES * 1.5:
            await engine.write(bulk)
        grown = log_bytes(url)
        assert await engine.write(beat) == 2  # who reads keeps nobody from writing
        assert log_bytes(url) >= grown
        reader.tell()
        assert await asyncio.to_thread(reader.line) == "ended"
    async with asyncio.timeout(30):
        while log_bytes(url) > MAX_BYTES:
            await engine.write(beat)
    assert log_of(file).stat().st_size == log_bytes(url)
    await engine.close()
    assert log_bytes("postgresql://me@db/x") == 0
