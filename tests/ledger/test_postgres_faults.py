"""A PostgreSQL that is away, hangs or says no: LedgerUnavailable in time, exact counts, and back by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final, Self

import asyncpg
import pytest
from sqlalchemy import Connection, text

from gateway.errors import LedgerUnavailable, OwnerWaited, ValueNotKept
from gateway.ledger.engine import Engine, OwnTurn
from gateway.ledger.jobs import find
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import accept, admit, cancel, reserve
from gateway.limits.submit_decisions import Ask
from tests.support.faraway import close_all
from tests.support.ledgers import (
    NOON,
    Postgres,
    assert_sound,
    beat,
    beats,
    make_claim,
    make_profile,
    open_engine,
)
from tests.support.process import eventually

TIMEOUT: Final = 4.0
LATE: Final = {"no answer within ledger.timeout", "no connection within ledger.turn_timeout"}
MARGIN: Final = 10.0
BACK: Final = 40.0
PROFILE = make_profile(pages_per_day=100)


@pytest.fixture(scope="module")
def frail() -> Iterator[Postgres]:
    """A server that tests here stop and kill; they leave it running."""
    with Postgres(max_connections="12", superuser_reserved_connections="3") as server:
        server.sql("CREATE ROLE clerk LOGIN PASSWORD 'right'")
        yield server


@pytest.fixture
async def url(frail: Postgres) -> AsyncIterator[str]:
    name = frail.database()
    yield frail.url_of(name)
    await asyncio.to_thread(frail.drop, name)


@pytest.fixture
async def fragile(url: str) -> AsyncIterator[Engine]:
    """A ledger on it with a short deadline."""
    engine = open_engine(url, TIMEOUT)
    await back(engine)
    yield engine
    await engine.close()


async def refused(work: Awaitable[Any]) -> str:
    """Asserts that it is refused within the deadline; in which words."""
    async with asyncio.timeout(TIMEOUT + MARGIN):
        with pytest.raises(LedgerUnavailable) as caught:
            await work
    return str(caught.value)


async def until_refused(engine: Engine, words: str) -> int:
    """Writes until it is refused in these words; how many writes were done before."""
    done = 0
    async with asyncio.timeout(BACK):
        while True:
            try:
                await engine.write(beat)
                done += 1
            except LedgerUnavailable as error:
                if str(error) == words:
                    return done


async def back(engine: Engine, work: Callable[[Connection], Any] = beat) -> Any:
    """Tries until it works; nobody restarts anything."""
    async with asyncio.timeout(BACK):
        while True:
            with suppress(LedgerUnavailable):
                return await engine.write(work)
            await asyncio.sleep(0.02)


async def test_a_server_that_hangs_is_given_up_in_time_and_used_again(frail: Postgres, fragile: Engine) -> None:
    frail.signal(signal.SIGSTOP)
    try:
        words = await asyncio.gather(*(refused(fragile.write(beat)) for _ in range(20)))
        assert set(words) <= LATE
        assert await refused(fragile.read(beats)) in LATE
    finally:
        frail.signal(signal.SIGCONT)
    count = await back(fragile)
    assert 2 <= count <= 22  # each of the others was done or not, and none twice
    assert await fragile.write(beat) == count + 1


class Cut:
    """A relay of a server's socket that can stop relaying, as a network does that loses a path: nothing is closed."""

    def __init__(self, directory: Path, server: Path) -> None:
        self._path = directory / ".s.PGSQL.5432"
        self._server = server / ".s.PGSQL.5432"
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: asyncio.Server | None = None
        self.flows = asyncio.Event()
        self.count = 0
        self._lost: set[int] = set()

    async def __aenter__(self) -> Self:
        self.flows.set()
        self._listening = await asyncio.start_unix_server(self._accepted, self._path)
        return self

    async def __aexit__(self, *args: object) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await close_all(self._writers)

    def lose(self) -> None:
        """Loses all connections that there are, without telling anybody."""
        self._lost = set(range(self.count))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.count = self.count, self.count + 1
        there, to_there = await asyncio.open_unix_connection(self._server)
        self._writers += [writer, to_there]
        loop = asyncio.get_running_loop()
        self._tasks += [
            loop.create_task(self._relay(number, reader, to_there)),
            loop.create_task(self._relay(number, there, writer)),
        ]

    async def _relay(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                if number not in self._lost:
                    writer.write(data)
            writer.close()


@pytest.mark.parametrize("is_all_cut", [False, True], ids=["lost", "cut"])
async def test_connections_that_the_network_lost_are_replaced(
    frail: Postgres, url: str, tmp_path: Path, is_all_cut: bool
) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    async with Cut(tmp_path, frail.socket_directory) as cut:
        engine = open_engine(frail.url_of(name, tmp_path), TIMEOUT)
        await back(engine)
        await asyncio.gather(*(back(engine) for _ in range(16)))  # all connections that it may have
        cut.lose()
        if is_all_cut:
            cut.flows.clear()
        await asyncio.gather(*(refused(engine.write(beat)) for _ in range(8)))
        if is_all_cut:
            await asyncio.gather(*(refused(engine.write(beat)) for _ in range(8)))
            cut.lose()
            cut.flows.set()
        await asyncio.gather(*(back(engine) for _ in range(8)))
        await engine.close()


async def test_a_server_that_hangs_gets_no_storm_of_connections(frail: Postgres, url: str, tmp_path: Path) -> None:
    """Whoever had his turn in his last milliseconds began one, and gave it up: 130 a second, as long as it hung."""
    name = url.partition("@/")[2].partition("?")[0]
    async with Cut(tmp_path, frail.socket_directory) as cut:
        engine = open_engine(frail.url_of(name, tmp_path), 1.0)
        await back(engine)
        cut.flows.clear()
        before, asked = cut.count, list[asyncio.Future[str]]()
        for number in range(300):
            asked.append(asyncio.ensure_future(refused(engine.read(beats, in_turn_of=f"key:{number % 50}"))))
            await asyncio.sleep(0.01)
        assert set(await asyncio.gather(*asked)) <= LATE
        assert cut.count - before < 150
        cut.flows.set()
        await back(engine)
        await engine.close()


async def test_a_server_that_was_killed_and_started_again_has_all_that_was_told(
    frail: Postgres, fragile: Engine
) -> None:
    before = await fragile.write(beat)
    await asyncio.to_thread(frail.kill)
    gone = {"no connection to PostgreSQL", "PostgreSQL says InterfaceError", "its connection ended"}
    assert await refused(fragile.write(beat)) in gone
    assert await refused(fragile.read(beats)) == "no connection to PostgreSQL"
    await asyncio.to_thread(frail.start)
    assert await back(fragile) == before + 1


async def test_a_backend_that_was_ended_costs_one_transaction_at_the_most(frail: Postgres, fragile: Engine) -> None:
    held, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> int:
        count = beat(connection)
        loop.call_soon_threadsafe(held.set)
        connection.execute(text("SELECT pg_sleep(30)"))
        return count

    writing = asyncio.ensure_future(refused(fragile.write(slow)))
    await held.wait()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'document-gateway'"
    await asyncio.to_thread(frail.sql, end)
    # Its last words, or, where they were not read before its end, that.
    assert await writing in {"PostgreSQL says AdminShutdownError", "no connection to PostgreSQL"}
    assert await back(fragile) == 2  # what it wrote is not there
    assert not go.is_set()


async def test_a_lock_that_another_session_holds_is_told_and_nothing_is_left(url: str, fragile: Engine) -> None:
    other = await asyncpg.connect(url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE counters SET value = 100 WHERE name = 'beat'")
    words = await refused(fragile.write(beat))
    assert words in {"it is locked by somebody else", "no answer within ledger.timeout"}
    await transaction.rollback()
    await other.close()
    assert await back(fragile) == 2


async def test_who_waits_for_a_lock_or_a_turn_of_his_own_says_nothing_of_the_ledger(
    url: str, fragile: Engine
) -> None:
    other = await asyncpg.connect(url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE counters SET value = 100 WHERE name = 'beat'")
    waiting = (fragile.write(beat, in_turn_of=of) for of in ("key:ci", "", OwnTurn.KEYS))
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in told] == [OwnerWaited, LedgerUnavailable, LedgerUnavailable]
    await transaction.rollback()
    await other.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server_too(frail: Postgres, fragile: Engine) -> None:
    def sleeps(connection: Connection) -> None:
        beat(connection)
        connection.execute(text("SELECT pg_sleep(60)"))

    await refused(fragile.write(sleeps))
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    running = f"SELECT count(*) {others} AND query LIKE '%pg_sleep%' AND state = 'active'"
    await asyncio.to_thread(eventually, lambda: frail.sql(running) == "0\n")
    assert await back(fragile) == 2


async def test_a_report_may_take_longer(fragile: Engine) -> None:
    def sleeps(connection: Connection) -> int:
        connection.execute(text(f"SELECT pg_sleep({TIMEOUT + 0.5})"))
        return beats(connection)

    assert await fragile.report(sleeps) == 1


async def test_a_server_that_has_too_many_connections_says_so(url: str) -> None:
    others = []
    with suppress(asyncpg.TooManyConnectionsError):
        for _ in range(40):
            others.append(await asyncpg.connect(url))  # noqa: PERF401 -- as many as there may be
    engine = open_engine(url, TIMEOUT)
    assert await refused(engine.write(beat)) == "it has too many connections"
    for other in others:
        await other.close()
    assert await back(engine) == 1
    await engine.close()


async def test_a_wrong_password_is_told_without_the_password(frail: Postgres) -> None:
    rules = frail.data / "pg_hba.conf"
    trusting = rules.read_text()
    rules.write_text("local all clerk scram-sha-256\n" + trusting)
    frail.sql("SELECT pg_reload_conf()")
    try:
        wrong = f"postgresql://clerk:wrong@/postgres?host={frail.socket_directory}"
        engine = open_engine(wrong, TIMEOUT)

        async def is_asked() -> bool:
            return await refused(engine.write(beat)) == "the password is wrong"

        while not await is_asked():  # noqa: ASYNC110 -- the server reads its rules when it does
            await asyncio.sleep(0.01)
        await engine.close()
    finally:
        rules.write_text(trusting)
        frail.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres@127.0.0.1:1/postgres", "no connection to PostgreSQL"),
        ("postgresql://postgres@/postgres?host=/nowhere", "no connection to PostgreSQL"),
    ],
)
async def test_where_nobody_listens_there_is_no_ledger(url: str, words: str) -> None:
    engine = open_engine(url, TIMEOUT)
    assert await refused(engine.write(beat)) == words
    assert await refused(engine.read(beats)) == words
    await engine.close()


async def test_there_is_no_such_database(frail: Postgres) -> None:
    engine = open_engine(frail.url_of("nothing"), TIMEOUT)
    assert await refused(engine.write(beat)) == "there is no such database"
    await engine.close()


async def test_a_read_only_server_says_so(frail: Postgres, url: str, fragile: Engine) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    frail.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    frail.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'document-gateway'")
    beaten = await until_refused(fragile, "it is read-only")  # who is told to end may serve once more before
    assert await fragile.read(beats) == 1 + beaten
    frail.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    frail.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'document-gateway'")
    assert await back(fragile) == 2 + beaten


async def test_counts_are_exact_through_a_server_that_hangs_now_and_then(frail: Postgres, fragile: Engine) -> None:
    """Steps whose outcome nobody was told are ended again, as a lease does: nothing is oversold, nothing lost."""
    for turn in range(4):
        claims = [make_claim(f"{turn}-{number}") for number in range(6)]
        working = asyncio.gather(*(live(fragile, claim) for claim in claims))
        frail.signal(signal.SIGSTOP)
        await asyncio.sleep(0.05 * turn)
        frail.signal(signal.SIGCONT)
        done = await working
        for claim, is_known in zip(claims, done, strict=True):
            if not is_known:
                await back(fragile, partial(cancel, claim=claim, now=NOON))
        await fragile.read(assert_sound)


async def live(engine: Engine, claim: Any) -> bool:
    try:
        await engine.write(lambda c: admit(c, claim, PROFILE, NOON, NOON + 60))
        await engine.write(lambda c: reserve(c, claim, PROFILE, Ask(1, 1, ""), NOON, NOON + 60))
        await engine.write(lambda c: accept(c, claim, claim.id, NOON + 60))
    except LedgerUnavailable:
        return False
    return True


def test_the_servers_of_tests_run_as_nobody_in_particular(postgres: Postgres) -> None:
    assert Path(f"/proc/{postgres.pid}").stat().st_uid == (os.geteuid() or 65534)


async def test_a_value_that_it_can_not_keep_says_nothing_of_the_ledger(fragile: Engine) -> None:
    """One request's NUL would else be everybody's outage."""
    ledger = Ledger(fragile)
    await ledger.write(beat)
    for ask in (ledger.read, ledger.write, ledger.guarded):
        with pytest.raises(ValueNotKept):
            await ask(lambda c: find(c, "default", "a\x00b"))
        assert ledger.problem is None
