"""The ledger behind a real PgBouncer, in session and in transaction mode."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text

from gateway.errors import LedgerUnavailable
from gateway.ledger.reservations import accept, admit, reserve
from gateway.ledger.schema import reservations
from gateway.limits.submit_decisions import Ask
from tests.support.ledgers import (
    NOON,
    Postgres,
    assert_sound,
    beat,
    beats,
    make_claim,
    make_profile,
    open_engine,
    rows_of,
)
from tests.support.process import eventually

PROGRAM: Final = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
NOBODY: Final = 65534
CONFIGURATION: Final = """
[databases]
ledger = host={server} dbname={database} user=postgres pool_size={size}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {directory}/users
pool_mode = {mode}
logfile =
"""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, postgres: Postgres, migrated: str) -> Iterator[str]:
    """The URL of an empty ledger behind PgBouncer.

    In session mode it needs as many connections to the server as the gateway has to it, in transaction mode fewer do.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory = Path("/tmp") / f"bouncer-{os.getpid()}-{port}"  # noqa: S108 -- nobody must get there
    directory.mkdir(mode=0o755)
    database = postgres.database(migrated)
    (directory / "users").write_text('"clerk" "right"\n')
    (directory / "ini").write_text(
        CONFIGURATION.format(
            server=postgres.socket_directory,
            database=database,
            port=port,
            directory=directory,
            mode=request.param,
            size={"session": 8, "transaction": 2}[request.param],
        )
    )
    assert PROGRAM is not None
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    bouncer = subprocess.Popen(  # noqa: S603 -- a program of the system
        [PROGRAM, str(directory / "ini")],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,  # type: ignore[call-overload] # it knows them by name
    )
    try:
        eventually(lambda: _answers(port))
        yield f"postgresql://clerk:right@127.0.0.1:{port}/ledger"
    finally:
        bouncer.kill()
        bouncer.wait()
        shutil.rmtree(directory)
        postgres.drop(database)


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


async def test_many_submits_at_once_are_counted_exactly(pooled: str) -> None:
    engine = open_engine(pooled, 60.0, behind_pooler=True)
    profile = make_profile(pages_per_day=20)

    async def submit(number: int) -> None:
        claim = make_claim(f"r{number}")
        await engine.write(lambda c: admit(c, claim, profile, NOON, NOON + 60))
        await engine.write(lambda c: reserve(c, claim, profile, Ask(1, 1, ""), NOON, NOON + 60))
        await engine.write(lambda c: accept(c, claim, claim.id, NOON + 60))

    await asyncio.gather(*(submit(number) for number in range(16)))
    await engine.read(assert_sound)
    assert len(await engine.read(lambda c: rows_of(c, reservations))) == 16
    await asyncio.gather(*(engine.read(beats) for _ in range(16)))
    await engine.close()


async def test_the_deadline_is_told_to_the_server(pooled: str) -> None:
    engine = open_engine(pooled, 3.0, behind_pooler=True)
    await engine.write(beat)
    shown = await engine.read(lambda c: c.execute(text("SHOW statement_timeout")).scalar())
    assert shown == "3s"
    await engine.close()


async def test_without_the_setting_the_pooler_is_named(pooled: str) -> None:
    engine = open_engine(pooled, 30.0)
    with pytest.raises(LedgerUnavailable, match=r"a pooler stands before it: set ledger\.pooler"):
        await engine.write(beat)
    await engine.close()


async def test_what_the_pooler_refuses_is_told_in_the_words_of_a_server(pooled: str) -> None:
    for url, told in (
        (pooled.replace("right", "wrong"), "the password is wrong"),
        (pooled.replace("/ledger", "/other"), "there is no such database"),
    ):
        engine = open_engine(url, 30.0, behind_pooler=True)
        with pytest.raises(LedgerUnavailable, match=told):
            await engine.write(beat)
        await engine.close()
