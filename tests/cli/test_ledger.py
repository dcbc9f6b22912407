"""`gateway ledger`: what it saves, fills and copies, on real ledgers of both engines."""

import asyncio
import json
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from click.testing import CliRunner, Result
from sqlalchemy import Column, Connection, LargeBinary, String, Text, insert, select

from gateway.cli.main import cli
from gateway.keys.key_changes import user_name
from gateway.ledger.audit import append, has_untold, recorded
from gateway.ledger.callers import block
from gateway.ledger.keys import NewKeyRow, create, revoke
from gateway.ledger.migrate import HEAD
from gateway.ledger.schema import accounts, audit, counters, keys, metadata, replicas, windows
from gateway.ledger.watchers import beat, has_living, leave
from gateway.model.audit import Action, Entry
from tests.ledger.test_migrate import config_on
from tests.support.ledgers import Postgres, open_engine
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

TABLES = [table for table in metadata.sorted_tables if table is not counters]
MANY = 1500  # more than are copied at once


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where another ledger is to be."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/other/ledger.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.database()
    yield server.url_of(name)
    server.drop(name)


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(url: str, *arguments: str, code: int = 0) -> Result:
        path = write(tmp_path, document(tmp_path, ledger={"url": url}))
        result = CliRunner().invoke(cli, ["ledger", *arguments, "--config", str(path)])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def on(url: str, work: Callable[[Connection], Any]) -> Any:
    async def act() -> Any:
        engine = open_engine(url)
        try:
            return await engine.write(work)
        finally:
            await engine.close()

    return asyncio.run(act())


def value_of(column: "Column[Any]", i: int) -> Any:
    if column.nullable and i % 2:
        return None
    if isinstance(column.type, LargeBinary):
        return i.to_bytes(32)
    return f"{i}" if isinstance(column.type, String | Text) else i


def seed(connection: Connection) -> None:
    for table in TABLES:
        rows = range(1, MANY + 1) if table is audit else range(1, 4)
        connection.execute(insert(table), [{c.name: value_of(c, i) for c in table.columns} for i in rows])
    connection.execute(counters.update().where(counters.c.name == "keys").values(value=3))


def content(connection: Connection) -> dict[str, Any]:
    """All but heartbeats, and the records of having been filled."""
    kept = [table for table in TABLES if table is not replicas]
    found = {table.name: sorted(map(repr, connection.execute(select(table)))) for table in kept}
    found["audit"] = [row for row in found["audit"] if "'ledger." not in row]
    return {
        **found,
        "keys_changed": connection.execute(select(counters.c.value).where(counters.c.name == "keys")).scalar(),
    }


def identity(connection: Connection) -> Any:
    return connection.execute(select(counters.c.value).where(counters.c.name == "ledger")).scalar()


def append_one(connection: Connection) -> None:
    append(connection, [Entry(1, "a", Action.SECRET_SET, "b", {})])


def test_a_backup_is_all_of_it_and_either_engine_takes_it(
    run: Run, ledger_url: str, other_url: str, tmp_path: Path
) -> None:
    on(ledger_url, seed)
    file = tmp_path / "backup.db"
    told = json.loads(run(ledger_url, "backup", str(file), "--json").stdout)
    assert told["tables"]["audit"] == MANY
    assert {told["tables"][table.name] for table in TABLES if table is not audit} == {3}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["backup.db"]
    restored = json.loads(run(other_url, "restore", str(file), "--json").stdout)
    assert restored["tables"] == told["tables"]
    assert on(other_url, content) == on(ledger_url, content)
    on(other_url, append_one)  # ids go on behind the last one
    assert "is there already: name another file" in run(ledger_url, "backup", str(file), code=1).stderr


def test_a_copy_is_all_of_it(run: Run, ledger_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(ledger_url, seed)
    monkeypatch.setenv("OTHER", f"{other_url}\n")
    result = run(ledger_url, "copy", "--to", "env:OTHER")
    assert re.search(rf"^audit +{MANY}$", result.stdout, re.MULTILINE)
    assert "has all of that; every table was counted" in result.stderr
    assert on(other_url, content) == on(ledger_url, content)
    on(other_url, append_one)


def test_what_is_not_empty_is_given_up_only_when_asked(run: Run, ledger_url: str, other_url: str) -> None:
    on(ledger_url, seed)
    on(other_url, append_one)
    before, number = on(other_url, content), on(other_url, identity)
    told = run(ledger_url, "copy", "--to", other_url, code=1).stderr
    assert "it is not empty (1 audit); --replace gives that up" in told
    assert on(other_url, content) == before
    run(ledger_url, "copy", "--to", other_url, "--replace")
    assert on(other_url, content) == on(ledger_url, content)
    assert on(other_url, identity) != number  # so that a gateway that runs on it reads its keys anew


def test_a_copy_is_renewed_as_often_as_one_likes(run: Run, ledger_url: str, other_url: str) -> None:
    on(ledger_url, seed)
    for _ in range(2):
        run(ledger_url, "copy", "--to", other_url, "--replace")
    assert on(other_url, content) == on(ledger_url, content)
    run(other_url, "copy", "--to", ledger_url, "--replace")


def test_the_ledger_itself_by_another_name_is_left_alone(
    run: Run, ledger_url: str, tmp_path: Path, postgres: Postgres
) -> None:
    on(ledger_url, append_one)
    for url in names_of(ledger_url, tmp_path, postgres):
        before = on(ledger_url, content), on(ledger_url, identity)
        for replaces in ((), ("--replace",)):
            assert "is the ledger itself" in run(ledger_url, "copy", "--to", url, *replaces, code=1).stderr
        assert (on(ledger_url, content), on(ledger_url, identity)) == before
        assert [row.entry.action for row in on(ledger_url, recorded)] == [Action.SECRET_SET]


def test_a_ledger_is_not_restored_from_itself(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a gateway writes to it: what is written after the file was read would be lost."""
    ledger = tmp_path / "ledger.db"
    url = f"sqlite:///{ledger}"
    on(url, append_one)
    for name, make in (("hard", Path.hardlink_to), ("symbolic", Path.symlink_to)):
        make(tmp_path / name, ledger)
    monkeypatch.chdir(tmp_path)
    before = on(url, content), on(url, identity)
    for name in (str(ledger), "ledger.db", "./ledger.db", "hard", "symbolic"):
        for replaces in ((), ("--replace",)):
            told = run(url, "restore", name, *replaces, code=1).stderr
            assert f"{Path(name)} is the ledger itself" in told
    assert (on(url, content), on(url, identity)) == before
    assert [row.entry.action for row in on(url, recorded)] == [Action.SECRET_SET]


def names_of(url: str, tmp_path: Path, postgres: Postgres) -> list[str]:
    """Other names of a ledger: its file through a link, its server through another socket's path."""
    names = [tmp_path / name for name in ("symbolic", "hard", "directory")]
    if not url.startswith("sqlite"):
        names[0].symlink_to(postgres.socket_directory)
        database = url.partition("@/")[2].partition("?")[0]
        return [postgres.url_of(database, names[0]), f"{url}&application_name=other"]
    file = Path(url.removeprefix("sqlite:///"))
    names[0].symlink_to(file)
    names[1].hardlink_to(file)
    names[2].symlink_to(file.parent)
    return [f"sqlite:///{name}" for name in (*names[:2], names[2] / file.name)]


def test_a_backup_in_use_as_a_ledger_is_another_one(run: Run, tmp_path: Path) -> None:
    url, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("ledger", "other"))
    on(url, append_one)
    run(url, "backup", "other.db")  # it has the ledger's identity
    run(url, "copy", "--to", other, "--replace")
    assert on(other, content) == on(url, content)


def test_what_is_live_again_is_told_and_recorded(run: Run, ledger_url: str, tmp_path: Path) -> None:
    on(ledger_url, lambda c: create(c, NewKeyRow("ci", "default", "ci"), b"1" * 32, 1))
    on(ledger_url, lambda c: create(c, NewKeyRow("off", "default", "off"), b"2" * 32, 1))
    on(ledger_url, lambda c: block(c, "jwt:i#already", 1))
    run(ledger_url, "backup", "backup.db")
    on(ledger_url, lambda c: revoke(c, "ci", None, 2, force=True))
    on(ledger_url, lambda c: c.execute(keys.update().where(keys.c.id == "off").values(disabled_at=2)))
    on(ledger_url, lambda c: (block(c, "jwt:i#bad", 2), block(c, "cert:worse", 2)))
    on(ledger_url, lambda c: create(c, NewKeyRow("late", "default", "late"), b"3" * 32, 2))
    on(ledger_url, lambda c: revoke(c, "late", None, 3, force=True))  # it is gone, not live again
    told = run(ledger_url, "restore", "backup.db", "--replace").stderr
    assert "live again" in told
    assert "1 secret, 1 key that was disabled, 2 callers that were blocked\n" in told
    assert "\n  secret 1 of ci (revoked 1970-01-01T00:00:02Z)\n  key off (disabled 1970-01-01T00:00:02Z)\n" in told
    assert "  caller jwt:i#bad (blocked 1970-01-01T00:00:02Z)\n" in told
    (kept,) = (row.entry for row in on(ledger_url, recorded) if row.entry.action == "ledger.restore")
    assert kept.actor == f"cli:{user_name()}"
    assert kept.subject == str(tmp_path / "backup.db")
    lives = kept.detail["live_again"]
    assert (lives["secrets"], lives["keys"], lives["callers"]) == (1, 1, 2)
    at = "1970-01-01T00:00:02Z"
    assert lives["which"][:2] == [
        {"kind": "secret", "name": "ci", "generation": 1, "how": "revoked", "at": at},
        {"kind": "key", "name": "off", "generation": None, "how": "disabled", "at": at},
    ]
    assert [(one["kind"], one["name"]) for one in lives["which"][2:]] == [
        ("caller", "cert:worse"),
        ("caller", "jwt:i#bad"),
    ]
    assert kept.detail["tables"]["keys"] == 2
    assert on(ledger_url, has_untold)  # a gateway logs it
    again = json.loads(run(ledger_url, "restore", "backup.db", "--replace", "--json").stdout)
    assert again["live_again"] == {"secrets": 0, "keys": 0, "callers": 0, "which": []}


def test_a_ledger_that_is_in_use_is_not_filled(run: Run, ledger_url: str, other_url: str) -> None:
    on(ledger_url, append_one)
    on(ledger_url, lambda c: beat(c, "living", time.time(), time.time() + 15))
    run(ledger_url, "backup", "backup.db")
    on(other_url, append_one)
    on(other_url, lambda c: beat(c, "serving", time.time(), time.time() + 600))
    for words in (("restore", "backup.db"), ("copy", "--to", other_url)):
        url = other_url if words[0] == "restore" else ledger_url
        for replaces in ((), ("--replace",)):
            told = run(url, *words, *replaces, code=1).stderr
            assert "a gateway serves from it" in told
            assert "stop all gateways first. --while-serving" in told
    rehearsed = run(ledger_url, "copy", "--to", other_url, "--replace", "--while-serving")
    assert "what it writes from now on is not in the copy" in rehearsed.stderr
    assert json.loads(run(ledger_url, "copy", "--to", other_url, "--replace", "--json").stdout)["is_rehearsal"]
    on(ledger_url, lambda c: leave(c, "living"))
    copied = run(ledger_url, "copy", "--to", other_url, "--replace")
    assert "warning" not in copied.stderr
    assert not on(other_url, lambda c: has_living(c, time.time()))  # the source's heartbeat says nothing of a copy
    run(ledger_url, "copy", "--to", other_url, "--replace")
    run(other_url, "restore", "backup.db", "--replace")
    on(other_url, lambda c: beat(c, "dead", time.time() - 30, time.time() - 15))
    run(other_url, "restore", "backup.db", "--replace")


def test_a_copy_is_recorded_where_it_is(run: Run, ledger_url: str, other_url: str) -> None:
    on(ledger_url, append_one)
    run(ledger_url, "copy", "--to", other_url)
    assert [row.entry.action for row in on(other_url, recorded)] == ["ledger.copy", Action.SECRET_SET]
    assert [row.entry.action for row in on(ledger_url, recorded)] == [Action.SECRET_SET]


def test_a_backup_while_it_is_written_is_of_one_moment(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """Each transaction of the writer changes two tables by one, of which the first is read long before the second."""
    on(ledger_url, seed)
    seen, end = set(), threading.Event()

    def write(connection: Connection) -> None:
        connection.execute(accounts.update().where(accounts.c.account == "1").values(tat=accounts.c.tat + 1))
        connection.execute(windows.update().where(windows.c.account == "1").values(pages=windows.c.pages + 1))

    async def keep_writing() -> None:
        engine = open_engine(ledger_url)
        while not end.is_set():
            await engine.write(write)
        await engine.close()

    writer = threading.Thread(target=lambda: asyncio.run(keep_writing()))
    writer.start()
    try:
        for i in range(5):
            run(ledger_url, "backup", f"b{i}.db")
            with closing(sqlite3.connect(tmp_path / f"b{i}.db")) as connection:
                (tat,) = connection.execute("SELECT tat FROM accounts WHERE account = '1'").fetchone()
                (pages,) = connection.execute("SELECT pages FROM windows WHERE account = '1'").fetchone()
            assert tat == pages
            seen.add(tat)
    finally:
        end.set()
        writer.join()
    assert len(seen) > 1  # it was written meanwhile


def test_a_backup_of_an_older_version_is_brought_up(run: Run, ledger_url: str, tmp_path: Path) -> None:
    old = f"sqlite:///{tmp_path}/old.db"
    on(old, append_one)
    on(old, lambda connection: command.downgrade(config_on(connection), "0004"))
    run(old, "backup", "backup.db")
    told = json.loads(run(ledger_url, "restore", "backup.db", "--json").stdout)
    assert told["version"] == "0004"
    assert on(ledger_url, content)["audit"]
    with closing(sqlite3.connect(tmp_path / "backup.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0004",)


def test_an_upgrade_says_what_it_did(run: Run, ledger_url: str) -> None:
    on(ledger_url, append_one)
    assert f"has the tables of version {HEAD} already" in run(ledger_url, "upgrade").stdout
    on(ledger_url, lambda connection: command.downgrade(config_on(connection), "0004"))
    assert f"had the tables of version 0004, and has those of version {HEAD} now" in run(ledger_url, "upgrade").stdout
    assert json.loads(run(ledger_url, "upgrade", "--json").stdout)["before"] == HEAD


def test_what_can_not_be_done_is_said(run: Run, tmp_path: Path, postgres: Postgres) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    assert f"the ledger {tmp_path}/ledger.db: it is not there" in run(url, "backup", "b.db", code=1).stderr
    assert not (tmp_path / "ledger.db").exists()
    assert not (tmp_path / "b.db").exists()
    (tmp_path / "text").write_text("no ledger at all, and longer than the head of one")
    with closing(sqlite3.connect(tmp_path / "sql.db")) as connection:
        connection.execute("CREATE TABLE x (y)")
    assert "none is not there" in run(url, "restore", "none", code=1).stderr
    assert "it can't be copied: file is not a database" in run(url, "restore", "text", code=1).stderr
    assert "is neither a ledger nor a backup of one" in run(url, "restore", "sql.db", code=1).stderr
    on(url, seed)
    assert "can't be written: No such file or directory" in run(url, "backup", "no/where.db", code=1).stderr
    assert "is the ledger itself" in run(url, "copy", "--to", url, code=1).stderr
    for wrong in ("env:NOT_SET", "http://canary@h", "file:/no/where", "sqlite:///"):
        told = run(url, "copy", "--to", wrong, code=1).stderr
        assert told.startswith("gateway: --to: ")
        assert "canary" not in told
    assert "the ledger " in run(url, "copy", "--to", "postgresql://127.0.0.1:1/d", code=1).stderr
    name = postgres.database()
    assert "it has no tables yet" in run(postgres.url_of(name), "backup", "b.db", code=1).stderr
    postgres.drop(name)


def test_an_unencoded_password_is_told_of_and_not_repeated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "postgresql://gateway:canary/word@db.test/ledger")
    told = run(f"sqlite:///{tmp_path}/ledger.db", "copy", "--to", "env:OTHER", code=1).stderr
    assert "percent-encoded (/ is %2F)" in told
    assert "canary" not in told
    told = run(f"sqlite:///{tmp_path}/ledger.db", "copy", "--to", "env:MISSING", code=1).stderr
    assert "--to: the variable MISSING is empty or not there" in told
    told = run(f"sqlite:///{tmp_path}/ledger.db", "copy", "--to", "OTHER", code=1).stderr
    assert "--to: OTHER is no URL of a ledger; did you mean env:OTHER?" in told
    assert "canary" not in told
    told = run(f"sqlite:///{tmp_path}/ledger.db", "copy", "--to", "MISSING", code=1).stderr
    assert "did you mean" not in told
    told = run(f"sqlite:///{tmp_path}/ledger.db", "copy", "--to", "env:postgresql://a:canary@b/c", code=1).stderr
    assert "canary" not in told
