"""sqlite_file.py without its thread: one connection, opened when it is needed. Faults have test_sqlite_faults.py."""

import sqlite3
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.ledger.migrate import DEFAULT_UPKEEP
from gateway.ledger.sqlite_file import SqliteFile, unavailable
from tests.support.ledgers import beat, beats


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.db"


def file_at(path: Path, *, writes: bool = True, clearing: Any = None) -> SqliteFile:
    return SqliteFile(path, 30.0, clearing or Lock(), DEFAULT_UPKEEP, writes=writes)


def connection_of(connection: Connection) -> object:
    return connection.connection.driver_connection


def test_it_is_made_by_the_first_transaction_for_its_owner_alone(path: Path) -> None:
    file = file_at(path)
    assert not path.parent.exists()
    assert file.transact(beat, durable=False) == 1
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.close()


def test_who_only_reads_makes_none(path: Path) -> None:
    with pytest.raises(Exception, match="unable to open"):
        file_at(path, writes=False).transact(beats, durable=False)
    assert not path.exists()


def test_a_transaction_is_done_as_a_whole_or_not_at_all(path: Path) -> None:
    def fails(connection: Connection) -> None:
        beat(connection)
        raise KeyError("mine")

    file, reader = file_at(path), file_at(path, writes=False)
    assert file.transact(beat, durable=False) == 1
    with pytest.raises(KeyError, match="mine"):
        file.transact(fails, durable=False)
    assert reader.transact(beats, durable=False) == 1
    assert file.transact(beat, durable=True) == 2
    assert reader.transact(beats, durable=False) == 2
    file.close()
    reader.close()


def test_one_connection_serves_until_it_is_closed_and_then_another(path: Path) -> None:
    file = file_at(path)
    first = file.transact(connection_of, durable=False)
    assert file.transact(connection_of, durable=True) is first
    file.close()
    file.close()
    assert file.transact(connection_of, durable=False) is not first
    file.close()


def test_what_must_survive_a_power_loss_is_written_so_and_what_follows_is_not(path: Path) -> None:
    def level(connection: Connection) -> int:
        raw: Any = connection.connection.driver_connection
        return int(raw.execute("PRAGMA synchronous").fetchone()[0])

    file = file_at(path)
    normal, full = 1, 2
    assert [file.transact(level, durable=durable) for durable in (False, True, True, False)] == [
        normal,
        full,
        full,
        normal,
    ]
    file.transact(level, durable=True)
    file.close()
    assert file.transact(level, durable=True) == full  # another connection has it from its beginning
    file.close()


def test_where_another_file_has_its_name_that_one_is_opened(path: Path) -> None:
    clearing = Lock()
    file, reader = file_at(path, clearing=clearing), file_at(path, writes=False, clearing=clearing)
    for count in (1, 2, 3):
        assert file.transact(beat, durable=False) == count
    assert reader.transact(beats, durable=False) == 3
    path.rename(path.with_name("old.db"))
    assert file.transact(beat, durable=False) == 1
    assert reader.transact(beats, durable=False) == 1
    assert file.transact(beat, durable=False) == 2
    file.close()
    reader.close()


def test_only_the_one_who_writes_bounds_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, reader = file_at(path), file_at(path, writes=False)
    file.bound_log()  # nothing is open
    file.transact(lambda c: c.execute(text("CREATE TABLE large (x)")), durable=False)
    file.transact(lambda c: c.execute(text("INSERT INTO large VALUES (zeroblob(1000000))")), durable=False)
    reader.transact(beats, durable=False)
    log = path.with_name("ledger.db-wal")
    assert log.stat().st_size > 1_000_000
    assert (file.is_log_large, reader.is_log_large) == (False, False)
    monkeypatch.setattr("gateway.ledger.writeahead.MAX_BYTES", 500_000)
    file, writers = file_at(path), file
    file.transact(beats, durable=False)
    assert (file.is_log_large, reader.is_log_large) == (True, False)
    file.bound_log()
    assert log.stat().st_size == 0
    for each in (file, writers, reader):
        each.close()


@pytest.mark.parametrize(("code", "words"), [
    ("SQLITE_BUSY", "it is locked by somebody else"),
    ("SQLITE_IOERR_WRITE", "the disk fails, or is full"),
    ("SQLITE_READONLY_DIRECTORY", "the file or its directory is read-only"),
    ("SQLITE_MISUSE", "SQLite says SQLITE_MISUSE"),
    ("", "SQLite says OperationalError"),
])  # fmt: skip
def test_what_sqlite_says_is_told_in_words(code: str, words: str) -> None:
    fault = sqlite3.OperationalError("with a path that is nobody's business")
    if code:
        fault.sqlite_errorname = code
    assert str(unavailable(fault)) == words


def test_what_the_system_says_of_the_file_is_told() -> None:
    assert str(unavailable(PermissionError(13, "Permission denied", "/a/path"))) == "its file: Permission denied"
    assert str(unavailable(None)) == "SQLite says NoneType"
