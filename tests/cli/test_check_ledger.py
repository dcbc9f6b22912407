"""`gateway check` and the ledger: it is looked at, never made, and its password is never told."""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.run_check import check_settings
from gateway.keys.key_changes import KeyService
from gateway.keys.validation import Wanted
from gateway.ledger.ledger import open_ledger
from gateway.ledger.url import shown_url
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.ledgers import Postgres
from tests.support.pure import document, make_settings, write

KEY = {"id": "ci", "secret": {"sha256": "0" * 64}}


def findings(directory: Path, url: Any, environ: dict[str, str] | None = None, **sections: Any) -> list[str]:
    """What is found, but for certificate and configuration."""
    make_development_certificates(directory, ["gateway.test"])
    sections = {"keys": [KEY], "ledger": {"url": url, "timeout": "10s"}, **sections}
    path = write(directory, document(directory, **sections))
    found = [str(finding) for finding in check_settings(path, environ or {})]
    return [text for text in found if not text.endswith("a valid configuration") and "certificate for" not in text]


def make(directory: Path, url: str, *wanted: Wanted) -> None:
    """Makes keys."""
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    settings = make_settings(elsewhere, profiles={"small": {}}, ledger={"url": url})

    async def work() -> None:
        ledger = open_ledger(url, 30)
        for one in wanted:
            await KeyService(ledger, lambda: settings, lambda: 1.0, os.urandom).create("test", one)
        await ledger.close()

    asyncio.run(work())


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/ledger.db"
    told = f"ok: ledger {tmp_path}/new/ledger.db is not there yet: the gateway makes it when it starts"
    assert findings(tmp_path, url) == [told]
    assert not (tmp_path / "new").exists()


def test_the_keys_of_both_engines_are_looked_at(tmp_path: Path, ledger_url: str) -> None:
    name = shown_url(ledger_url)
    make(tmp_path, ledger_url, Wanted("ci"), Wanted("a", "small"))
    assert findings(tmp_path, ledger_url) == [
        "warning: profiles.small: is not there, so key a of the ledger, which has it, is refused",
        "fault: keys[0].id: ci is in the ledger, too; take one away",
        f"ok: ledger {name} is there, with 2 keys",
    ]
    assert findings(tmp_path, ledger_url, keys=[], profiles={"small": {}}) == [
        f"ok: ledger {name} is there, with 2 keys"
    ]


def test_where_there_is_no_key_at_all_that_is_told(tmp_path: Path, ledger_url: str) -> None:
    make(tmp_path, ledger_url)
    told = findings(tmp_path, ledger_url, keys=[])
    assert told[0].startswith("warning: keys: there is none in the file and none in the ledger")


def test_an_empty_database_is_left_empty(tmp_path: Path, postgres: Postgres) -> None:
    name = postgres.database()
    told = findings(tmp_path, postgres.url_of(name))
    assert told[0].endswith("has no tables yet: the gateway makes them when it starts")
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0\n"
    postgres.drop(name)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_newer_ledger_is_a_fault(tmp_path: Path, engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.db"
        make(tmp_path, url, Wanted("a"))
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.execute("UPDATE counters SET value = 9999 WHERE name = 'least'")
        connection.close()
    else:
        server: Postgres = request.getfixturevalue("postgres")
        name = server.database(request.getfixturevalue("migrated"))
        server.sql("UPDATE alembic_version SET version_num = '9999'", name)
        server.sql("UPDATE counters SET value = 9999 WHERE name = 'least'", name)
        url = server.url_of(name)
    assert findings(tmp_path, url) == [
        f"fault: ledger.url: {shown_url(url)} was made by a newer version of the gateway"
    ]


def test_what_can_not_be_a_ledger_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk" * 100)
    for name, told in (
        ("junk", "can't be read: file is not a database"),
        (".", "is not a file"),
        ("junk/x/ledger.db", f"can't be made: {tmp_path}/junk is not a directory that this user may write to"),
    ):
        (found,) = findings(tmp_path, f"sqlite:///{tmp_path}/{name}")
        assert found == f"fault: ledger.url: {shown_url(f'sqlite:///{tmp_path}/{name}')} {told}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_can_not_be_written_is_a_fault(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/there/ledger.db"
    make(tmp_path, url, Wanted("a"))
    (tmp_path / "there").chmod(0o500)
    try:
        (told,) = findings(tmp_path, url)
    finally:
        (tmp_path / "there").chmod(0o700)
    assert told.endswith("can't be written by this user, or its directory can't")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:canary-pw@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=me&password=canary-pw",
    ],
)
def test_a_password_is_warned_of_and_never_told(tmp_path: Path, url: str) -> None:
    in_file = findings(tmp_path, url)
    in_environment = findings(tmp_path, {"env": "URL"}, {"URL": url})
    overridden = findings(tmp_path, "sqlite:///x", {"GATEWAY__LEDGER__URL": url})
    warning = "warning: ledger.url: has a password in the file; write {env: NAME} or {file: /path} instead"
    assert warning in in_file
    assert warning not in in_environment + overridden
    for told in (in_file, in_environment, overridden):
        assert any(text.startswith("fault: ledger.url: postgresql://127.0.0.1:") for text in told)
        assert "canary" not in "\n".join(told)


def test_a_database_that_refuses_is_a_fault(tmp_path: Path, postgres: Postgres, migrated: str) -> None:
    (told,) = findings(tmp_path, postgres.url_of("none"))
    assert told.endswith("can't be used: there is no such database")
    name = postgres.database(migrated)
    postgres.sql("CREATE ROLE guest LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", name)
    (told,) = findings(tmp_path, postgres.url_of(name).replace("postgres:@", "guest:@"))
    assert told.endswith("this user may not write it")
    postgres.drop(name)
