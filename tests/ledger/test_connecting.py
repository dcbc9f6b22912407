"""How connections to PostgreSQL are made: several hosts, and faults of TLS in words."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger.connecting import FAULTS
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.ledgers import Postgres, beat, open_engine

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_PATIENT = 60.0


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server on a port of its own; what it serves ends with it."""
    tasks: list[asyncio.Task[None]] = []

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(_served(serve, reader, writer)))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _served(serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await serve(reader, writer)
    except (OSError, ssl.SSLError):
        pass  # it was the client's to end it
    finally:
        writer.transport.abort()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    while await reader.read(1000):
        pass


async def without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(8)
    writer.write(b"N")
    await reader.read()


def with_tls(certificates: Path) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await writer.start_tls(context)
        await reader.read()

    return serve


async def why(url: str) -> str:
    engine = open_engine(url, _PATIENT)
    with pytest.raises(LedgerUnavailable) as caught:
        await engine.write(beat)
    await engine.close()
    return str(caught.value)


async def test_a_host_that_is_silent_leaves_time_for_the_next(postgres: Postgres, migrated: str) -> None:
    async with listening(silent) as port:
        socket = str(postgres.socket_directory).replace("/", "%2F")
        engine = open_engine(f"postgresql://postgres@127.0.0.1:{port},{socket}/{migrated}", 20.0)
        before = await engine.write(beat)
        async with asyncio.timeout(9):  # the one that answered is asked first: less than the silent one's share
            assert await engine.write(beat) == before + 1
        await engine.close()
    postgres.empty(migrated)


async def test_of_several_hosts_the_one_that_can_be_written_is_found(postgres: Postgres, migrated: str) -> None:
    socket = str(postgres.socket_directory).replace("/", "%2F")
    url = f"postgresql://postgres@127.0.0.1:1,{socket}/{migrated}?target_session_attrs="
    engine = open_engine(url + "read-write")
    assert await engine.write(beat) > 0
    await engine.close()
    assert await why(url + "standby") == "no host is what target_session_attrs asks for"
    postgres.empty(migrated)


async def test_a_standby_that_answers_first_leaves_its_turn_to_the_next(postgres: Postgres, migrated: str) -> None:
    """asyncpg's error for it is of a kind of its own, with which the search ended: after a failover nobody served."""
    with Postgres(default_transaction_read_only="on") as standby:
        for hosts in (
            (standby.socket_directory, postgres.socket_directory),
            (postgres.socket_directory, standby.socket_directory),
        ):
            url = postgres.url_of(migrated, ",".join(map(str, hosts)))
            engine = open_engine(f"{url}&target_session_attrs=read-write")
            assert await engine.write(beat) > 0
            await engine.close()
        alone = f"{standby.url_of('postgres')}&target_session_attrs=read-write"
        assert await why(alone) == "no host is what target_session_attrs asks for"
    postgres.empty(migrated)


async def test_a_server_that_takes_no_more_changes_is_left(postgres: Postgres, migrated: str) -> None:
    """Its connections lived on, and each change was refused, for as long as they did."""
    with Postgres() as former:
        hosts = f"{former.socket_directory},{postgres.socket_directory}"
        former.sql(f"CREATE DATABASE {migrated}")
        engine = open_engine(f"{postgres.url_of(migrated, hosts)}&target_session_attrs=read-write")
        assert await engine.write(beat) > 0
        former.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        former.sql("SELECT pg_reload_conf()")
        told = ""
        while not told:
            try:
                await engine.write(beat)
            except LedgerUnavailable as error:
                told = str(error)
        assert told == "it is read-only"
        assert await engine.write(beat) > 0
        await engine.close()
        engine = open_engine(postgres.url_of(migrated, hosts))  # who asks for none that can be written keeps reading
        reading = asyncio.ensure_future(engine.read(lambda c: c.exec_driver_sql("SELECT pg_sleep(0.5)") and None))
        with pytest.raises(LedgerUnavailable, match="it is read-only"):
            await engine.write(beat)
        await reading
        await engine.close()
    postgres.empty(migrated)


def test_each_error_of_the_driver_is_a_fault_of_the_server_s() -> None:
    exceptions = [getattr(asyncpg.exceptions, name) for name in asyncpg.exceptions.__all__]
    errors = [found for found in exceptions if isinstance(found, type) and issubclass(found, Exception)]
    assert len(errors) > 100
    assert [found for found in errors if not issubclass(found, (*FAULTS, Warning))] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=verify-full", "its URL can't be used: sslmode=verify-full and verify-ca need sslrootcert"),
        ("sslnegotiation=canary", "its URL can't be used: a parameter of it has a value that is not known"),
        ("gsslib=canary", "its URL can't be used: a parameter of it has a value that is not known"),
    ],
)
async def test_what_is_wrong_with_a_url_is_told(query: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    assert await why(f"postgresql://me:canary@127.0.0.1:1/x?{query}") == words


async def test_faults_of_tls_are_told_apart(tmp_path: Path) -> None:
    make_development_certificates(tmp_path / "here", ["127.0.0.1"])
    make_development_certificates(tmp_path / "elsewhere", ["db.test"])
    ca = tmp_path / "here" / "ca.pem"
    asked = f"x?sslmode=verify-full&sslrootcert={ca}"
    async with listening(without_tls) as port:
        assert await why(f"postgresql://me@127.0.0.1:{port}/x?sslmode=require") == (
            "it speaks no TLS, which sslmode asks for"
        )
    async with listening(with_tls(tmp_path / "elsewhere")) as port:
        told = await why(f"postgresql://me@127.0.0.1:{port}/{asked}")
        assert told.startswith("its certificate is not trusted: ")
        asked = asked.replace("here", "elsewhere")
        told = await why(f"postgresql://me@127.0.0.1:{port}/{asked}")
        assert told.startswith("its certificate is not trusted: IP address mismatch")
    told = await why(f"postgresql://me@127.0.0.1:1/x?sslmode=verify-full&sslrootcert={tmp_path}/none.pem")
    assert told == "the file of sslrootcert can't be read: No such file or directory"


async def test_a_host_without_an_address_is_told() -> None:
    assert await why("postgresql://me:canary@db.invalid/x") == "its host has no address"
