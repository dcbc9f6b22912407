"""A SQLite file that is locked, full, gone or replaced: LedgerUnavailable in time, and back by itself."""
# ruff: noqa: ASYNC240 -- on the loop of a test nobody else waits

import asyncio
import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text

from gateway.errors import LedgerUnavailable, OwnerWaited
from gateway.ledger.engine import Engine, OwnTurn
from gateway.ledger.reservations import admit, cancel
from tests.support.ledgers import (
    HOLDS_LOCK,
    NOON,
    ROOT,
    Script,
    assert_sound,
    beat,
    beats,
    make_claim,
    make_profile,
    open_engine,
)
from tests.support.process import eventually

HASTY: Final = 4.0  # seconds, for those that wait for the deadline itself
NO_TURN = "no turn within ledger.turn_timeout"
PATIENT: Final = 30.0  # for those whose fault shows at once: a busy machine makes a ledger anew in seconds
MARGIN: Final = 10.0
NOBODY: Final = 65534
LOOKS: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT value FROM counters WHERE name = 'beat'").fetchone()[0])
connection.close()
"""


class Stuck:
    """A work that says when it has begun, and goes on only when it may."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, connection: Connection) -> None:
        del connection
        self._loop.call_soon_threadsafe(self.begun.set)
        self.go.wait()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.db"


@pytest.fixture
async def fragile(file: Path) -> AsyncIterator[Engine]:
    """A ledger of one beat."""
    engine = open_engine(f"sqlite:///{file}", PATIENT)
    assert await engine.write(beat) == 1
    assert await engine.read(beats) == 1
    yield engine
    await engine.close()


@pytest.fixture
async def hasty(file: Path, fragile: Engine) -> AsyncIterator[Engine]:
    """The same one, with a short deadline."""
    await fragile.close()
    engine = open_engine(f"sqlite:///{file}", HASTY)
    assert await engine.write(beats) == 1
    assert await engine.read(beats) == 1
    yield engine
    await engine.close()


async def refused(work: Awaitable[Any], deadline: float = PATIENT) -> str:
    """Asserts that it is refused within the deadline; in which words."""
    async with asyncio.timeout(deadline + MARGIN):
        with pytest.raises(LedgerUnavailable) as caught:
            await work
    return str(caught.value)


def look(file: Path) -> int:
    """What another process finds, which comes and goes."""
    return int(subprocess.check_output([sys.executable, "-c", LOOKS, str(file)]))  # noqa: S603 -- ours


async def test_a_lock_that_is_held_too_long(file: Path, hasty: Engine) -> None:
    with Script(HOLDS_LOCK, str(file)) as holder:
        assert await asyncio.to_thread(holder.line) == "held"
        words = await asyncio.gather(*(refused(hasty.write(beat), HASTY) for _ in range(20)))
        assert set(words) <= {"no answer within ledger.timeout", "it is locked by somebody else", NO_TURN}
        assert await hasty.read(beats) == 1  # who only reads waits for nobody
        holder.tell()
        assert await asyncio.to_thread(holder.line) == "free"
    assert await hasty.write(beat) == 2  # what was given up was not done later


async def test_another_process_never_thinks_itself_alone(file: Path, hasty: Engine) -> None:
    """Else it takes the log away when it ends, and what is written from then on is nowhere."""
    engine = open_engine(f"sqlite:///{file}", HASTY)
    with Script(HOLDS_LOCK, str(file)) as holder:
        assert await asyncio.to_thread(holder.line) == "held"
        for _ in range(3):  # whichever of the two deadlines is over first, the writer has opened the file anew
            await refused(engine.write(beat), HASTY)
        holder.tell()
        assert await asyncio.to_thread(holder.line) == "free"
    await hasty.write(beat)
    await engine.write(beat)
    assert await asyncio.to_thread(look, file) == 3
    assert file.with_name("ledger.db-wal").exists()
    await engine.write(beat)
    assert await asyncio.to_thread(look, file) == 4
    await engine.close()


async def test_a_writer_that_failed_opens_the_file_without_freeing_its_locks(file: Path, fragile: Engine) -> None:
    with pytest.raises(LedgerUnavailable):
        await fragile.write(
            lambda c: c.execute(text("SELECT nothing FROM nowhere"))
        )  # the writer drops its connection
    assert await fragile.write(beat) == 2
    assert await asyncio.to_thread(look, file) == 2
    assert file.with_name("ledger.db-wal").exists()
    assert await fragile.write(beat) == 3
    assert await asyncio.to_thread(look, file) == 3


async def test_a_file_that_was_deleted_is_made_anew(file: Path, fragile: Engine) -> None:
    file.unlink()
    assert "file can't be opened" in await refused(fragile.read(beats))
    assert await fragile.write(beat) == 1
    assert await fragile.read(beats) == 1
    assert await fragile.write(beat) == 2
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_directory_that_was_deleted_is_made_anew(file: Path, fragile: Engine) -> None:
    shutil.rmtree(file.parent)
    assert await fragile.write(beat) == 1
    assert await fragile.read(beats) == 1


@pytest.fixture
async def backup(file: Path, fragile: Engine) -> Path:
    """A ledger of five beats, as a backup would be; the one in use goes on to four."""
    await fragile.write(beat)
    copy = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as connection, closing(sqlite3.connect(copy)) as made:
        connection.backup(made)
        made.execute("PRAGMA journal_mode=DELETE")
        made.execute("UPDATE counters SET value = 50 WHERE name = 'beat'")
        made.commit()
    for _ in range(2):
        await fragile.write(beat)
    return copy


async def test_a_file_that_was_replaced_is_used_as_it_is(file: Path, fragile: Engine, backup: Path) -> None:
    backup.replace(file)
    assert await fragile.write(beat) == 51  # the log of the old one is not played into it
    assert await fragile.read(beats) == 51
    assert await asyncio.to_thread(look, file) == 51
    for count in range(52, 60):
        assert await fragile.write(beat) == count
        assert await fragile.read(beats) == count
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_reader_that_sees_first_that_a_file_was_replaced(file: Path, fragile: Engine, backup: Path) -> None:
    await asyncio.to_thread(backup.replace, file)
    assert await fragile.read(beats) == 50
    assert await fragile.write(beat) == 51
    assert await fragile.read(beats) == 51
    assert await asyncio.to_thread(look, file) == 51


async def test_a_file_that_was_replaced_while_a_reader_still_has_the_old_one(
    file: Path, fragile: Engine, backup: Path
) -> None:
    begun, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def reads(connection: Connection) -> tuple[int, int]:
        first = beats(connection)
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        return first, beats(connection)

    patient = open_engine(f"sqlite:///{file}", PATIENT)
    await patient.write(lambda _: None)
    reading = asyncio.ensure_future(patient.read(reads))
    await begun.wait()
    backup.replace(file)
    assert await fragile.write(beat) == 51
    assert await patient.write(beat) == 52
    go.set()
    assert await reading == (4, 4)
    assert await patient.read(beats) == 52
    await patient.close()


@pytest.mark.parametrize("content", [b"this is no database, " * 400, bytes(range(256)) * 64], ids=["text", "bytes"])
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(content)
    engine = open_engine(f"sqlite:///{file}", PATIENT)
    assert await refused(engine.write(beat)) == "the file is not an SQLite database"
    assert await refused(engine.read(beats)) == "the file is not an SQLite database"
    assert file.read_bytes() == content
    file.unlink()
    assert await engine.write(beat) == 1
    await engine.close()


async def test_a_file_that_is_damaged(file: Path, fragile: Engine) -> None:
    await fragile.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    engine = open_engine(f"sqlite:///{file}", PATIENT)
    assert await refused(engine.write(beat)) == "the file is damaged"
    file.write_bytes(whole)
    assert await engine.write(beat) == 2
    await engine.close()


async def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db", PATIENT)
    assert await refused(engine.write(beat)) == "the file can't be opened or made"
    (tmp_path / "ledger.db").rmdir()
    assert await engine.write(beat) == 1
    await engine.close()


async def test_a_file_in_the_place_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    engine = open_engine(f"sqlite:///{tmp_path}/data/ledger.db", PATIENT)
    assert (await refused(engine.write(beat))).startswith("its file: ")
    await engine.close()


async def test_a_file_that_may_not_grow(file: Path, fragile: Engine) -> None:
    """SQLite's own bound for a disk that is full."""

    def bound(connection: Connection) -> None:
        raw: Any = connection.connection.driver_connection
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count={pages}")

    def fills(connection: Connection) -> None:
        beat(connection)
        row = "INSERT INTO audit (at, actor, action, subject, detail) VALUES (1, 'a', 'b', 'c', :text)"
        connection.execute(text(row), {"text": "x" * 1_000_000})

    await fragile.write(bound)
    assert await refused(fragile.write(fills)) == "the disk is full"
    assert await fragile.write(beat) == 2
    assert file.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "disk"
    place.mkdir()
    if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip("only root may mount a small file system")
    yield place
    libc.umount2(str(place).encode(), 2)


async def test_a_disk_that_is_full(small_disk: Path) -> None:
    engine = open_engine(f"sqlite:///{small_disk}/ledger.db", PATIENT)
    await engine.write(beat)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 4096):
                pass
        except OSError:
            pass
    words = []
    for number in range(100):
        try:
            claim = make_claim(f"r{number}")
            await engine.write(partial(admit, claim=claim, profile=make_profile(), now=NOON, until=NOON + 60))
        except LedgerUnavailable as failure:
            words.append(str(failure))
            break
    assert words
    assert words[0] in {"the disk is full", "the disk fails, or is full"}
    await refused(engine.write(lambda c: admit(c, make_claim("more"), make_profile(), NOON, NOON + 60)))
    await engine.read(assert_sound)
    filler.unlink()
    assert await engine.write(beat) >= 2
    await engine.write(assert_sound)
    await engine.close()


READ_ONLY: Final = """
import asyncio, sys
from gateway.errors import LedgerUnavailable, OwnerWaited
from tests.support.ledgers import beat, beats, open_engine

async def main():
    engine = open_engine(sys.argv[1], 30.0)
    for _ in range(4):
        sys.stdin.readline()
        try:
            print(await engine.write(beat))
        except LedgerUnavailable as failure:
            print(failure)
    await engine.close()

asyncio.run(main())
"""


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that anybody can come to, which tmp_path is not."""
    del tmp_path_factory
    place = Path(f"/tmp/ledger-{os.getpid()}")  # noqa: S108 -- made for this test alone
    place.mkdir(mode=0o755)
    yield place
    for directory in place.glob("*/"):
        directory.chmod(0o700)
    shutil.rmtree(place)


def test_a_file_or_a_directory_that_is_read_only(shared: Path) -> None:
    """As root, who may write everything, it is tried by another user."""
    user = NOBODY if os.geteuid() == 0 else None
    place = shared / "data"
    place.mkdir()
    if user is not None:
        if not os.access(ROOT, os.X_OK):
            pytest.skip("another user can't come to the project")
        os.chown(place, user, user)
    file = place / "ledger.db"
    with Script(READ_ONLY, f"sqlite:///{file}", user=user) as script:

        def tried() -> str:
            script.tell()
            return script.line()

        assert tried() == "1"
        file.chmod(0o400)
        assert tried() == "2"  # it is open already: what was granted stays granted
        file.unlink()
        place.chmod(0o500)
        assert tried() == "its file: Permission denied"
        place.chmod(0o700)
        assert tried() == "1"


def test_a_file_that_was_read_only_from_the_start(shared: Path) -> None:
    user = NOBODY if os.geteuid() == 0 else None
    file = shared / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE other (x)")
    file.chmod(0o444)
    with Script(READ_ONLY, f"sqlite:///{file}", user=user) as script:
        script.tell()
        assert script.line() in {"the file or its directory is read-only", "the file can't be opened or made"}


async def test_a_thread_that_is_stuck_is_waited_for_until_the_deadline(hasty: Engine) -> None:
    begun, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()
    ran: list[int] = []

    def stuck(connection: Connection) -> None:
        beat(connection)
        loop.call_soon_threadsafe(begun.set)
        go.wait()

    def late(connection: Connection, number: int) -> None:
        ran.append(number)
        beat(connection)

    first = asyncio.ensure_future(refused(hasty.write(stuck), HASTY))
    await begun.wait()
    others = [asyncio.ensure_future(refused(hasty.write(partial(late, number=n)), HASTY)) for n in range(5)]
    assert await first == "no answer within ledger.timeout"
    assert set(await asyncio.gather(*others)) == {NO_TURN}
    assert await hasty.read(beats) == 1
    go.set()
    assert await hasty.write(beat) == 2  # neither what was stuck nor what was given up was done
    assert ran == []


async def test_who_waits_for_a_turn_of_his_own_says_nothing_of_the_ledger(hasty: Engine) -> None:
    stuck = Stuck()
    first = asyncio.ensure_future(hasty.write(stuck, in_turn_of="key:ci"))
    await stuck.begun.wait()
    waiting = [hasty.write(beat, in_turn_of=of) for of in ("key:ci", "", OwnTurn.KEYS)]
    told = await asyncio.gather(first, *waiting, return_exceptions=True)
    stuck.go.set()
    assert [type(error) for error in told] == [LedgerUnavailable, OwnerWaited, LedgerUnavailable, LedgerUnavailable]
    assert await hasty.write(beat, in_turn_of="key:ci") == 2


async def test_a_report_may_take_longer_and_nobody_waits_for_it(hasty: Engine) -> None:
    begun, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> int:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        return beats(connection)

    reporting = asyncio.ensure_future(hasty.report(slow))
    await begun.wait()
    assert await hasty.write(beat) == 2
    assert await hasty.read(beats) == 2
    await asyncio.wait([reporting], timeout=HASTY * 1.5)
    assert not reporting.done()
    go.set()
    assert await reporting == 2


async def test_who_is_interrupted_leaves_nothing_behind(fragile: Engine) -> None:
    begun, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        beat(connection)
        loop.call_soon_threadsafe(begun.set)
        go.wait()

    task = asyncio.ensure_future(fragile.write(slow))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await fragile.write(beat) == 2


async def test_too_many_that_wait_are_refused_at_once(hasty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    first = asyncio.ensure_future(refused(hasty.write(stuck), HASTY))
    await stuck.begun.wait()
    monkeypatch.setattr("gateway.ledger.sqlite_thread.MAX_WAITING", 2)
    waiting = [asyncio.ensure_future(refused(hasty.write(beat), HASTY)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await refused(hasty.write(beat), HASTY) == "too many transactions wait for it"
    await first
    await asyncio.gather(*waiting)
    stuck.go.set()
    await asyncio.to_thread(eventually, lambda: "to_write=0 " in repr(hasty))
    assert await hasty.write(beat) == 2


async def test_what_the_work_itself_raises_is_its_callers_and_rolls_back(fragile: Engine) -> None:
    def fails(connection: Connection) -> None:
        beat(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fragile.write(fails)
    assert await fragile.write(beat) == 2


async def test_durable_is_for_the_one_transaction_that_asks_for_it(fragile: Engine) -> None:
    def level(connection: Connection) -> int:
        raw: Any = connection.connection.driver_connection
        return int(raw.execute("PRAGMA synchronous").fetchone()[0])

    def fails(connection: Connection) -> None:
        del connection
        raise KeyError("refused")

    normal, full = 1, 2
    assert await fragile.write(level) == normal
    assert await fragile.write(level, durable=True) == full
    assert await fragile.write(level) == normal
    with pytest.raises(KeyError):
        await fragile.write(fails, durable=True)
    assert await fragile.write(level) == normal


async def test_an_outcome_that_nobody_was_told_is_mended_by_ending_it_again(fragile: Engine) -> None:
    claim, profile = make_claim(), make_profile(concurrent_requests=1)
    await fragile.write(lambda c: admit(c, claim, profile, NOON, NOON + 60))
    for _ in range(2):
        await fragile.write(lambda c: cancel(c, claim, NOON))
    assert (await fragile.write(lambda c: admit(c, make_claim("r2"), profile, NOON, NOON + 60))).denial is None
    await fragile.write(assert_sound)
