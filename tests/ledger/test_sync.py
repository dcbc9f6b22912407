"""Keys followed, uses noted, what the dead left reclaimed; though the ledger is away, or another one."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select
from structlog.testing import capture_logs

from gateway.auth.keyring import Keyring
from gateway.errors import LedgerUnavailable, OwnerWaited
from gateway.ledger.callers import block
from gateway.ledger.closing import Settled
from gateway.ledger.engine import Engine
from gateway.ledger.key_revisions import revision_of
from gateway.ledger.keys import NewKeyRow, change_key, create, one_key, revoke
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import admit, overdue, reclaim, reserve
from gateway.ledger.schema import keys, secrets
from gateway.ledger.sync import LedgerSync, SyncListeners
from gateway.limits.quotas import AccountCounts
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Profile
from gateway.model.keys import KeyRecord
from gateway.model.times import Times
from tests.support.ledgers import NOON, Faulty, assert_sound, beats, make_claim, make_profile, open_engine
from tests.support.waiting import eventually

PROFILES = {"default": Profile("default", 1000)}


class Kept:
    """A ledger sync, and what it told."""

    def __init__(self, engine: Engine) -> None:
        self.now = NOON
        self.engine = engine
        self.faulty = Faulty(engine)
        self.ledger = Ledger(self.faulty)
        self.uses: dict[tuple[str, int], float] = {}
        self.ring = Keyring(PROFILES)
        self.changes: list[list[str]] = []
        self.settled: list[Settled] = []
        self.shown: list[dict[str, AccountCounts]] = []
        self.blocked: list[frozenset[str]] = []
        self.sync = LedgerSync(
            self.ledger,
            Times(lambda: self.now - NOON, lambda: self.now),
            self.uses,
            SyncListeners(self._changed, self.settled.append, self._shown, self.blocked.append),
            self._renewed,
        )
        self.renewals = 0

    async def _shown(self, counts: dict[str, AccountCounts]) -> None:
        self.shown.append(counts)

    async def _renewed(self) -> None:
        self.renewals += 1

    def _changed(self, records: list[KeyRecord]) -> None:
        self.changes.append([record.id for record in records])
        self.ring = self.ring.changed(records)

    async def make(self, key_id: str) -> None:
        digest = key_id.encode().ljust(32)
        await self.engine.write(lambda c: create(c, NewKeyRow(key_id, "default", "o"), digest, NOON))

    @property
    def open_keys(self) -> set[str]:
        return {key.digest.decode().strip() for key in self.ring.live_keys()}


@pytest.fixture
def kept(engine: Engine) -> Kept:
    return Kept(engine)


async def test_a_turn_does_all_that_is_due(kept: Kept) -> None:
    await kept.make("a")
    kept.uses["a", 1] = 7.0
    claim, profile = make_claim(), make_profile()
    engine = kept.engine
    await engine.write(lambda c: admit(c, claim, profile, NOON, NOON + 60))
    await engine.write(lambda c: reserve(c, claim, profile, Ask(3, 1, ""), NOON, NOON + 60))
    kept.now += 60
    await kept.sync.begin()
    await kept.sync.turn(0)
    assert kept.open_keys == {"a"}
    assert kept.settled == [Settled("key:ci", 3, 0)]
    assert kept.uses == {}
    assert (await engine.read(lambda c: one_key(c, "a"))).generations[0].last_used_at == NOON + 7
    assert kept.shown[0]["key:ci"].month.pages == 3
    assert await engine.read(beats) == 2
    await engine.write(assert_sound)


async def test_most_turns_only_look_for_changes(kept: Kept) -> None:
    kept.uses["a", 1] = 7.0
    await kept.sync.turn(0)
    kept.uses["a", 1] = 8.0
    writes = kept.faulty.writes
    for turn in (1, 2, 3, 4, 6):
        await kept.sync.turn(turn)
    assert kept.faulty.writes == writes
    assert kept.uses
    assert kept.changes == []


async def test_a_secrets_first_use_is_noted_in_the_next_turn(kept: Kept) -> None:
    await kept.sync.turn(0)
    kept.uses["a", 2] = 7.0
    await kept.sync.turn(1)
    assert kept.uses == {}


async def test_each_change_is_told_once(kept: Kept) -> None:
    await kept.sync.turn(0)
    for names in (["a"], ["b", "c"]):
        for name in names:
            await kept.make(name)
        await kept.sync.apply_key_changes()
        await kept.sync.apply_key_changes()
    assert kept.changes == [["a"], ["b", "c"]]


async def test_a_key_that_cannot_be_read_holds_up_no_other(kept: Kept) -> None:
    """A newer release beside this one wrote a limit it does not know: a key revoked in the same turn stayed live."""
    for name in ("victim", "newer", "other"):
        await kept.make(name)
    await kept.sync.apply_key_changes()
    await kept.engine.write(lambda c: change_key(c, "newer", limits={"limit_of_the_next_release": 1}))
    await kept.engine.write(lambda c: revoke(c, "victim", None, NOON, force=True))
    with capture_logs() as events:
        for _ in range(2):
            await kept.sync.follow_keys()
    assert kept.open_keys == {"other"}
    closed = kept.ring.closed(b"newer".ljust(32))
    assert closed == ("newer", "This key can't be read by this release of the gateway.")
    told = {"event": "keys of the ledger can't be read and are shut out", "keys": ["newer"], "count": 1}
    assert events == [{**told, "log_level": "error"}]
    await kept.engine.write(lambda c: change_key(c, "newer", limits={"pages_per_day": 1}))
    await kept.sync.follow_keys()
    assert kept.open_keys == {"newer", "other"}


async def test_what_a_listener_could_not_take_comes_again(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision was noted before: after one exception a revoked key stayed live until a restart."""
    await kept.make("a")
    await kept.sync.follow_keys()
    await kept.engine.write(lambda c: revoke(c, "a", None, NOON, force=True))
    ring = kept.ring
    monkeypatch.setattr(kept, "ring", None)
    with pytest.raises(AttributeError):
        await kept.sync.follow_keys()
    monkeypatch.setattr(kept, "ring", ring)
    await kept.sync.follow_keys()
    assert kept.open_keys == set()


async def test_keys_that_a_ledger_lacks_are_shut_out_after_a_fault_too(
    files: tuple[Path, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = files
    await other_ledger(file, "b")
    ring = kept.ring
    monkeypatch.setattr(kept, "ring", None)
    with pytest.raises(AttributeError):
        await kept.sync.apply_key_changes()
    monkeypatch.setattr(kept, "ring", ring)
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {"b"}


async def test_a_block_that_comes_between_two_statements_is_heard(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL each has a snapshot of its own: its revision was noted, and the block was never read."""
    await kept.sync.begin()
    before = await kept.engine.read(revision_of)
    await kept.engine.write(lambda c: block(c, "jwt:i#eve", NOON))
    monkeypatch.setattr("gateway.ledger.sync.revision_of", lambda _: before)  # as it was a moment ago
    await kept.sync.apply_key_changes()
    monkeypatch.undo()
    await kept.sync.apply_key_changes()
    assert kept.blocked == [frozenset(), frozenset({"jwt:i#eve"})]


async def test_keys_are_followed_though_nothing_can_be_written(kept: Kept) -> None:
    await kept.make("a")
    await kept.sync.begin()
    await kept.engine.write(lambda c: revoke(c, "a", None, NOON, force=True))
    for turn in (5, 6):
        kept.faulty.faults = ["before"]
        with pytest.raises(LedgerUnavailable):
            await kept.sync.turn(turn)
        kept.faulty.faults = ["before"]
        with pytest.raises(LedgerUnavailable):
            await kept.sync.begin()
        assert kept.open_keys == set()
        assert kept.ledger.problem is not None
    await kept.sync.turn(7)  # while there is a problem, each turn tries to write
    assert kept.ledger.problem is None


async def test_a_doubt_is_settled_by_the_next_turn(kept: Kept) -> None:
    await kept.sync.turn(0)
    before = await kept.engine.read(beats)
    for fault, problem in (("", None), ("before", "as it was told")):
        kept.ledger.is_in_doubt = True
        kept.faulty.faults = [fault]
        with suppress(LedgerUnavailable):
            await kept.sync.turn(1)
        assert (kept.ledger.problem, kept.ledger.is_in_doubt) == (problem, False)
    assert await kept.engine.read(beats) == before + 1


async def test_an_account_that_is_locked_keeps_no_other_from_being_reclaimed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for account in ("key:a", "key:b"):
        claim = make_claim(f"of-{account}", account)
        await kept.engine.write(lambda c, claim=claim: admit(c, claim, make_profile(), NOON, NOON + 60))  # type: ignore[misc]
    kept.now += 100

    def reclaimed(connection: Any, account: str, now: float) -> int | None:
        if account == "key:a":
            kept.now += 1
            raise OwnerWaited("it is locked by somebody else")
        return reclaim(connection, account, now)

    monkeypatch.setattr("gateway.ledger.sync.reclaim", reclaimed)
    await kept.sync.turn(0)
    assert await kept.engine.read(lambda c: overdue(c, kept.now)) == ["key:a"]


async def test_nothing_delays_what_is_heard_of_keys(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled key worked on for 46 seconds, while 200 expired reservations were reclaimed one by one."""
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.001)
    await kept.make("a")
    hanging: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def write(work: Any, *, durable: bool = False, in_turn_of: str = "") -> Any:
        del work, durable, in_turn_of
        await hanging

    kept.faulty.write = write  # type: ignore[method-assign]
    running = asyncio.gather(kept.sync.run(), kept.sync.run_keys())
    await eventually(lambda: kept.open_keys == {"a"})
    await kept.engine.write(lambda c: revoke(c, "a", None, NOON, force=True))
    await eventually(lambda: kept.open_keys == set())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_was_read_of_keys_earlier_never_counts_later(kept: Kept) -> None:
    """The admin API asks beside the sync: an older answer that came later opened a disabled key again."""
    await kept.make("a")
    read, slow = kept.faulty.read, asyncio.Event()

    async def reading(work: Any, *, in_turn_of: str = "") -> Any:
        found = await read(work, in_turn_of=in_turn_of)
        if not slow.is_set():
            slow.set()
            await asyncio.sleep(0.1)
        return found

    kept.faulty.read = reading  # type: ignore[method-assign]
    earlier = asyncio.ensure_future(kept.sync.apply_key_changes())
    await slow.wait()
    await kept.engine.write(lambda c: revoke(c, "a", None, NOON, force=True))
    await kept.sync.apply_key_changes()
    await earlier
    assert kept.open_keys == set()


async def test_it_reclaims_for_some_seconds_and_goes_on_in_the_next_turn(kept: Kept) -> None:
    for number in range(3):
        claim = make_claim(f"r{number}", f"key:{number}")
        await kept.engine.write(lambda c, claim=claim: admit(c, claim, make_profile(), NOON, NOON + 60))  # type: ignore[misc]
        ask = Ask(3, 1, "")
        await kept.engine.write(
            lambda c, claim=claim, ask=ask: reserve(c, claim, make_profile(), ask, NOON, NOON + 60)  # type: ignore[misc]
        )
    kept.now += 60
    write = kept.faulty.write

    async def writing(work: Any, *, durable: bool = False, in_turn_of: str = "") -> Any:
        kept.now += 1.5 if in_turn_of else 0.0
        return await write(work, durable=durable, in_turn_of=in_turn_of)

    kept.faulty.write = writing  # type: ignore[method-assign]
    await kept.sync.turn(0)
    assert len(kept.settled) == 2
    await kept.sync.turn(5)
    assert {settled.account for settled in kept.settled} == {"key:0", "key:1", "key:2"}


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_uses_are_kept_until_they_are_noted(kept: Kept, fault: str) -> None:
    await kept.make("a")
    kept.uses["a", 1] = 7.0
    kept.faulty.faults = [fault]
    with pytest.raises(LedgerUnavailable):
        await kept.sync.note_uses()
    assert kept.uses == {("a", 1): 7.0}
    await kept.sync.note_uses()
    assert kept.uses == {}


async def test_a_use_that_comes_while_others_are_noted_is_not_forgotten(kept: Kept) -> None:
    kept.uses |= {("a", 1): 7.0, ("b", 1): 7.0}
    noting = asyncio.ensure_future(kept.sync.note_uses())
    await asyncio.sleep(0)
    kept.uses["a", 1] = 8.0
    await noting
    assert kept.uses == {("a", 1): 8.0}


async def test_it_goes_on_whatever_happens(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.001)
    kept.faulty.is_away = True
    await kept.make("a")
    running = asyncio.gather(kept.sync.run(), kept.sync.run_keys())
    await eventually(lambda: kept.ledger.problem is not None)
    kept.faulty.is_away = False
    await eventually(lambda: kept.changes == [["a"]])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[tuple[Path, Kept]]:
    """A ledger sync of a file that tests take away."""
    file = tmp_path / "ledger.db"
    engine = open_engine(f"sqlite:///{file}", 5.0)
    made = Kept(engine)
    for name in ("a", "b"):
        await made.make(name)
    await made.sync.begin()
    assert made.open_keys == {"a", "b"}
    yield file, made
    await engine.close()


async def other_ledger(file: Path, *names: str) -> None:
    """Puts a ledger with these keys where one is."""
    beside = file.with_name("other.db")
    engine = open_engine(f"sqlite:///{beside}", 5.0)
    made = Kept(engine)
    for name in names:
        await made.make(name)
    await engine.close()
    await asyncio.to_thread(beside.replace, file)


async def test_keys_of_a_file_that_was_deleted_open_nothing(files: tuple[Path, Kept]) -> None:
    file, kept = files
    file.unlink()
    with pytest.raises(LedgerUnavailable):
        await kept.sync.apply_key_changes()  # it is not there to be read, so nothing is known yet
    assert kept.open_keys == {"a", "b"}
    await kept.sync.turn(2)  # it is made anew, as after any problem
    await kept.sync.apply_key_changes()
    assert kept.open_keys == set()
    await kept.make("c")
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {"c"}


@pytest.mark.parametrize("names", [("b",), ("b", "c"), ("b", "c", "d", "e")], ids=len)
async def test_keys_are_those_of_the_ledger_that_is_there(files: tuple[Path, Kept], names: Any) -> None:
    """Whatever its revision is: lower, the same as that of the one before, or higher."""
    file, kept = files
    await other_ledger(file, *names)
    await kept.sync.apply_key_changes()
    assert kept.open_keys == set(names)
    await kept.make("z")
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {*names, "z"}


async def test_an_older_state_of_the_same_ledger_is_noticed(files: tuple[Path, Kept]) -> None:
    file, kept = files
    backup = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as there, closing(sqlite3.connect(backup)) as copy:
        there.backup(copy)
    await kept.make("c")
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {"a", "b", "c"}
    await asyncio.to_thread(backup.replace, file)
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {"a", "b"}


async def test_an_older_state_that_has_got_as_many_changes_as_it_lacks_is_noticed(files: tuple[Path, Kept]) -> None:
    """A standby that took over without the last change: the next one had its revision, and was never seen."""
    file, kept = files
    backup = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as there, closing(sqlite3.connect(backup)) as copy:
        there.backup(copy)
    await kept.make("c")
    await kept.sync.apply_key_changes()
    engine = open_engine(f"sqlite:///{backup}", 5.0)
    await engine.write(lambda c: revoke(c, "a", None, NOON, force=True))
    await engine.close()
    await asyncio.to_thread(backup.replace, file)
    await kept.sync.apply_key_changes()
    assert kept.open_keys == {"b"}


async def test_thousands_of_keys_that_change_at_once_are_applied_in_portions(kept: Kept) -> None:
    """A restored ledger with 10,000 held the loop for a tenth of a second."""

    def make_all(connection: Connection) -> None:
        create(connection, NewKeyRow("k0", "default", "o"), b"k0".ljust(32), NOON)
        row = dict(connection.execute(select(keys)).mappings().one())
        secret = dict(connection.execute(select(secrets)).mappings().one())
        names = [f"k{number}" for number in range(1, 1001)]
        connection.execute(insert(keys), [{**row, "id": name} for name in names])
        connection.execute(
            insert(secrets), [{**secret, "key_id": name, "digest": name.encode().ljust(32)} for name in names]
        )

    await kept.engine.write(make_all)
    await kept.sync.follow_keys()
    assert [len(portion) for portion in kept.changes if portion] == [500, 500, 1]
    assert len(kept.open_keys) == 1001


async def make_rotated(kept: Kept, names: list[str], secrets_each: int, newest: int) -> None:
    """Makes keys with so many secrets, of which the newest has this number."""
    for name in names:
        await kept.make(name)
    numbers = range(newest - secrets_each + 2, newest + 1)
    rows = [
        {"key_id": name, "generation": number, "digest": f"{name}-{number}".encode().ljust(32), "created_at": 1}
        for name in names
        for number in numbers
    ]
    await kept.engine.write(lambda c: c.execute(insert(secrets), rows) and None)


def fails_each_second_read(kept: Kept) -> None:
    read, reads = kept.faulty.read, list[None]()

    async def reading(work: Any, *, in_turn_of: str = "") -> Any:
        reads.append(None)
        if len(reads) % 2 == 0:
            raise LedgerUnavailable("no answer within ledger.timeout")
        return await read(work, in_turn_of=in_turn_of)

    kept.faulty.read = reading  # type: ignore[method-assign]


async def test_each_read_of_keys_goes_on_where_the_last_one_ended(kept: Kept) -> None:
    """A busy loop made the read of thousands miss its deadline; nothing was kept, and a revocation waited."""
    await make_rotated(kept, ["k0", "k1", "k2", "k3", "k4"], 2, 3000)
    fails_each_second_read(kept)
    for told in (["k0", "k1"], ["k2", "k3"]):
        with pytest.raises(LedgerUnavailable):
            await kept.sync.apply_key_changes()
        assert kept.changes.pop() == told
        assert kept.blocked == [frozenset()]
    await kept.engine.write(lambda c: revoke(c, "k0", None, NOON, force=True))
    await kept.sync.apply_key_changes()
    assert kept.changes == [["k0", "k4"]]
    assert {name.split("-")[0] for name in kept.open_keys} == {"k1", "k2", "k3", "k4"}


async def test_two_servers_that_answer_in_turn_are_told_and_not_read_for_ever(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_rotated(kept, ["k0", "k1", "k2", "k3", "k4"], 2, 3000)
    answering = cycle([("one",), ("other",)])
    monkeypatch.setattr("gateway.ledger.sync.identity_of", lambda _: next(answering))
    with pytest.raises(LedgerUnavailable, match="several servers answer in turn"):
        await kept.sync.apply_key_changes()


async def test_several_portions_are_read_in_one_turn(kept: Kept) -> None:
    await make_rotated(kept, ["k0", "k1", "k2", "k3", "k4"], 2, 3000)
    await kept.sync.follow_keys()
    assert kept.changes == [["k0", "k1"], ["k2", "k3"], ["k4"]]


async def test_keys_that_another_ledger_lacks_are_shut_out_before_all_of_it_is_read(
    files: tuple[Path, Kept],
) -> None:
    file, kept = files
    await other_ledger(file, "b")
    await make_rotated(kept, ["k0", "k1", "k2", "k3"], 2, 3000)
    fails_each_second_read(kept)
    with pytest.raises(LedgerUnavailable):
        await kept.sync.apply_key_changes()
    assert {name.split("-")[0] for name in kept.open_keys} == {"b", "k0", "k1"}
    await kept.sync.apply_key_changes()
    assert {name.split("-")[0] for name in kept.open_keys} == {"b", "k0", "k1", "k2", "k3"}


async def test_secrets_that_go_count_as_those_that_come(files: tuple[Path, Kept]) -> None:
    """A thousand keys with a year of daily rotations that another ledger lacks held the loop for 0.4 s."""
    file, kept = files
    await make_rotated(kept, ["k0", "k1", "k2"], 1100, 1100)
    await kept.sync.apply_key_changes()
    kept.changes.clear()
    await other_ledger(file, "a", "b")
    await kept.sync.apply_key_changes()
    gone = [[name for name in portion if name.startswith("k")] for portion in kept.changes]
    assert (max(map(len, gone)), sum(map(len, gone)), kept.open_keys) == (1, 3, {"a", "b"})
