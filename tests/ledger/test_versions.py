"""Ledgers of other versions: who looks changes nothing, and two versions share one while an update rolls."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner
from sqlalchemy import Connection

import gateway.ledger
from gateway.cli.main import cli
from gateway.ledger.migrate import HEAD, LEAST, Tables, judge, version_of
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.ledgers import Postgres, Script, open_engine
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

PACKAGE: Final = Path(gateway.ledger.__file__).parent.parent
NEXT: Final = f"{int(HEAD) + 1:04}"
MIGRATION: Final = f'''
"""Of tomorrow: a table more."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{NEXT}", "{HEAD}", None, None


def upgrade() -> None:
    op.create_table("tomorrow", sa.Column("id", sa.Integer, primary_key=True))


def downgrade() -> None:
    op.drop_table("tomorrow")
'''
# A replica: does a submit for each line that it is given, and says how that went.
REPLICA: Final = """
import asyncio, sys
if sys.argv[2]:
    sys.path.insert(0, sys.argv[2])
from gateway.errors import LedgerUnavailable
from gateway.ledger.connecting import Connector
from gateway.ledger.migrate import HEAD
from gateway.ledger.reservations import accept, admit, reserve
from gateway.limits.submit_decisions import Ask
from tests.support.ledgers import NOON, make_claim, make_profile, open_engine

async def submit(engine, name):
    claim, profile = make_claim(name), make_profile()
    await engine.write(lambda c: admit(c, claim, profile, NOON, NOON + 60))
    await engine.write(lambda c: reserve(c, claim, profile, Ask(1, 1, ""), NOON, NOON + 60))
    await engine.write(lambda c: accept(c, claim, name, NOON + 60))

async def main():
    engine = open_engine(sys.argv[1], 60.0)
    print(HEAD)
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        try:
            await submit(engine, name)
            print("done")
        except LedgerUnavailable as error:
            print(error)
    await engine.close()

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where nothing is yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger/ledger.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.database()
    yield server.url_of(name)
    server.drop(name)


@pytest.fixture
def run(tmp_path: Path, url: str) -> Callable[..., Any]:
    """Runs a command on the ledger, in this process."""
    make_development_certificates(tmp_path, ["gateway.test"])
    path = write(tmp_path, document(tmp_path, keys=[], ledger={"url": url, "timeout": "60s"}))

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(cli, [*arguments, "--config", str(path)], prog_name="gateway")

    return invoke


def on(url: str, work: Callable[[Connection], Any]) -> Any:
    async def done() -> Any:
        engine = open_engine(url)
        try:
            return await engine.write(work)
        finally:
            await engine.close()

    return asyncio.run(done())


def make_older(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(PACKAGE / "ledger" / "migrations"))
    config.attributes["connection"] = connection
    command.downgrade(config, "0002")


def version(url: str, tmp_path: Path, postgres: Postgres) -> str:
    if url.startswith("sqlite"):
        import sqlite3  # noqa: PLC0415 -- asked past the code that is tried

        with sqlite3.connect(tmp_path / "ledger" / "ledger.db") as connection:
            return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    return postgres.sql("SELECT version_num FROM alembic_version", url.partition("@/")[2].partition("?")[0]).strip()


def test_what_tables_are_is_judged_by_their_version() -> None:
    older, newer = f"{int(HEAD) - 1:04}", NEXT
    assert judge(None, None) is Tables.NONE
    assert judge(HEAD, None) is Tables.OURS
    assert judge(older, None) is Tables.OLDER
    assert judge(newer, None) is judge(newer, int(newer)) is judge("ae10", None) is Tables.NEWER
    assert judge(newer, int(HEAD)) is judge(newer, 1) is Tables.NEWER_AND_USABLE
    assert int(LEAST) <= int(HEAD)


def test_who_only_looks_changes_no_table_and_who_changes_says_so(
    url: str, run: Callable[..., Any], tmp_path: Path, postgres: Postgres
) -> None:
    on(url, make_older)
    for arguments in (("keys", "list"), ("keys", "audit"), ("usage",), ("jobs", "list"), ("webhooks", "list")):
        looked = run(*arguments)
        assert looked.exit_code == 1, arguments
        assert "its tables are of an older version" in looked.stderr
        assert "newer" not in looked.stderr
    checked = run("check")
    assert "has tables of an older version: the gateway changes them when it starts" in checked.stdout
    assert version(url, tmp_path, postgres) == "0002"
    changed = run("keys", "create", "a", "--json")
    assert changed.exit_code == 0
    assert f"were changed from version 0002 to {HEAD}." in changed.stderr
    assert json.loads(changed.stdout)["id"] == "a"
    assert "of the ledger" not in run("keys", "create", "b").stderr.replace("is in the ledger", "")


def test_who_only_looks_makes_no_table(url: str, run: Callable[..., Any], tmp_path: Path, postgres: Postgres) -> None:
    looked = run("keys", "list", "--json")
    assert (looked.exit_code, json.loads(looked.stdout)) == (0, [])
    assert "There is no ledger" in looked.stderr
    if url.startswith("sqlite"):
        assert not (tmp_path / "ledger").exists()
    else:
        name = url.partition("@/")[2].partition("?")[0]
        assert postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0\n"
    told = run("keys", "create", "a").stderr.splitlines()  # where the tables take long, that comes first
    assert any(line.startswith("The ledger ") for line in told)


def next_version(directory: Path, *, least: str) -> Path:
    """This gateway as it may be tomorrow: one table more, and the oldest version that may go on beside it."""
    shutil.copytree(PACKAGE, directory / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    migrations = directory / "gateway" / "ledger" / "migrations" / "versions"
    (migrations / f"{NEXT}_next.py").write_text(MIGRATION)
    source = directory / "gateway" / "ledger" / "migrate.py"
    text = source.read_text()
    for old, new in ((f'HEAD: Final = "{HEAD}"', NEXT), (f'LEAST: Final = "{LEAST}"', least)):
        assert old in text
        text = text.replace(old, old[:-5] + new + '"')
    source.write_text(text)
    return directory


def do(replica: Script, name: str) -> str:
    replica.tell(name)
    return replica.line()


def test_an_update_with_a_new_table_rolls_while_replicas_of_both_versions_serve(url: str, tmp_path: Path) -> None:
    tomorrow = next_version(tmp_path / "next", least=LEAST)
    with Script(REPLICA, url, "") as old:
        assert old.line() == HEAD
        assert do(old, "a") == "done"
        with Script(REPLICA, url, str(tomorrow), is_forked=False) as new:
            assert new.line() == NEXT
            assert [do(new, "b"), do(old, "c"), do(new, "d")] == ["done"] * 3
            with Script(REPLICA, url, "") as restarted:  # a replica of the old version that comes back meanwhile
                assert restarted.line() == HEAD
                assert [do(restarted, "e"), do(new, "f"), do(old, "g")] == ["done"] * 3
    assert on(url, version_of) == NEXT


def test_tables_that_an_old_version_can_not_use_are_left_alone_by_it(
    url: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    tomorrow = next_version(tmp_path / "next", least=NEXT)
    with Script(REPLICA, url, str(tomorrow), is_forked=False) as new, Script(REPLICA, url, "") as old:
        assert (new.line(), old.line()) == (NEXT, HEAD)
        assert do(new, "a") == "done"
        assert do(old, "b") == "it was made by a newer version of the gateway"
    assert "was made by a newer version of the gateway" in run("check").stdout
