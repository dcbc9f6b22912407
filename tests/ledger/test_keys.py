"""Keys in the ledger: made, rotated, revoked, changed; and no change is ever missed by who follows them."""

import asyncio
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, update

from gateway.errors import LedgerUnavailable
from gateway.ledger import audit
from gateway.ledger.engine import Engine
from gateway.ledger.keys import (
    KeyProblem,
    NewKeyRow,
    RotatedKey,
    all_keys,
    change_key,
    changes_since,
    create,
    key_ids,
    lock_key,
    note_used,
    number_of,
    one_key,
    revision_of,
    revoke,
    rotate,
)
from gateway.ledger.schema import keys, secrets
from gateway.ledger.statement import raw_of
from gateway.model.keys import KeyRecord
from tests.support.ledgers import NOON, open_engine

NOW = int(NOON)
DAY = 86_400


def digest(text: str) -> bytes:
    return text.encode().ljust(32, b".")


def new(key_id: str = "ci", **values: Any) -> NewKeyRow:
    return NewKeyRow(key_id, "default", "owner", **values)


async def make(engine: Engine, key_id: str = "ci", **values: Any) -> KeyRecord:
    return await engine.write(lambda c: create(c, new(key_id, **values), digest(key_id), NOON))


async def turn(
    engine: Engine, text: str, at: float = NOON, overlap: float = DAY, operation: str | None = None
) -> Any:
    return await engine.write(lambda c: rotate(c, "ci", digest(text), overlap, at, operation))


async def lives(engine: Engine, at: float) -> list[int]:
    record = await engine.read(lambda c: one_key(c, "ci"))
    return [found.number for found in record.generations if found.is_live(at)]


async def test_a_key_is_read_as_it_was_made(engine: Engine) -> None:
    limits = {"pages_per_day": 5, "soft_limit": 0.5}
    made = await make(
        engine, scopes=("a", "b"), networks=("10.0.0.0/8", "::1/128"), limits=limits, expires_at=NOW + DAY
    )
    assert made == await engine.read(lambda c: one_key(c, "ci"))
    assert made.scopes == ("a", "b")
    assert made.networks == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (made.limits, made.expires_at, made.disabled_at, made.revision) == (limits, NOW + DAY, None, 1)
    (first,) = made.generations
    assert (first.number, first.digest, first.created_at, first.last_used_at) == (1, digest("ci"), NOW, None)


async def test_an_id_is_there_once(engine: Engine) -> None:
    made = await make(engine)
    with pytest.raises(KeyProblem, match="there is a key ci already") as caught:
        await make(engine)
    assert caught.value.kind == "conflict"
    assert await engine.read(all_keys) == [made]
    assert await engine.read(revision_of) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: one_key(c, "ci"),
        lambda c: rotate(c, "ci", digest("x"), 1, NOON, None),
        lambda c: revoke(c, "ci", None, NOON, force=True),
        lambda c: lock_key(c, "ci"),
        lambda c: change_key(c, "ci", profile="other"),
    ],
    ids=["show", "rotate", "revoke", "lock", "change"],
)
async def test_a_key_that_is_not_there_is_not_changed(engine: Engine, change: Callable[[Connection], Any]) -> None:
    with pytest.raises(KeyProblem, match="no key ci") as caught:
        await engine.write(change)
    assert caught.value.kind == "not_found"
    assert await engine.read(revision_of) == 0


async def test_two_secrets_overlap_and_a_third_ends_the_first(engine: Engine) -> None:
    await make(engine)
    assert await turn(engine, "two") == RotatedKey(2, NOW + DAY, was_done=False)
    assert await lives(engine, NOON + DAY - 1) == [1, 2]
    assert await lives(engine, NOON + DAY) == [2]
    assert await turn(engine, "three", NOON + 10) == RotatedKey(3, NOW + 10 + DAY, was_done=False)
    assert await lives(engine, NOON + 11) == [2, 3]
    assert await turn(engine, "four", NOON + 20, overlap=0) == RotatedKey(4, NOW + 20, was_done=False)
    assert await lives(engine, NOON + 20) == [4]


async def test_the_secret_that_was_used_last_overlaps_though_it_is_not_the_newest(engine: Engine) -> None:
    """The secret of a rotation that got lost is made good by another rotation."""
    await make(engine)
    await turn(engine, "lost")
    await engine.write(lambda c: note_used(c, {("ci", 1): NOON + 5}))
    assert await turn(engine, "three", NOON + 10, overlap=50) == RotatedKey(3, NOW + 60, was_done=False)
    assert await lives(engine, NOON + 59) == [1, 3]
    assert await lives(engine, NOON + 60) == [3]


async def test_what_was_revoked_does_not_come_back(engine: Engine) -> None:
    await make(engine)
    await turn(engine, "two", overlap=100)
    await engine.write(lambda c: note_used(c, {("ci", 2): NOON + 5}))
    await engine.write(lambda c: revoke(c, "ci", 2, NOON, force=True))
    await turn(engine, "three", NOON + 200, overlap=DAY)  # the first is over, too
    assert await lives(engine, NOON + 201) == [3]


async def test_an_operation_is_done_once(engine: Engine) -> None:
    await make(engine)
    first = await turn(engine, "two", operation="op")
    again = await turn(engine, "other", NOON + 60, operation="op")
    assert again == first._replace(was_done=True)
    assert (await turn(engine, "three", NOON + 70, operation="op2")).generation == 3
    assert await engine.read(lambda c: len(one_key(c, "ci").generations)) == 3


async def test_an_operation_is_done_once_by_who_race_for_it(engine: Engine, ledger_url: str) -> None:
    await make(engine)
    other = open_engine(ledger_url)
    await other.write(lambda _: None)
    told = await asyncio.gather(*(turn((engine, other)[n % 2], f"secret-{n}", operation="op") for n in range(8)))
    await other.close()
    assert sorted(found.was_done for found in told) == [False] + [True] * 7
    assert {found.generation for found in told} == {2}
    assert await engine.read(lambda c: len(one_key(c, "ci").generations)) == 2


async def test_revocation_is_at_once_and_the_last_secret_asks_for_force(engine: Engine) -> None:
    await make(engine)
    await turn(engine, "two")
    assert await engine.write(lambda c: revoke(c, "ci", 1, NOON, force=False)) == ([1], None)
    revision = await engine.read(revision_of)
    assert await engine.write(lambda c: revoke(c, "ci", 1, NOON + 60, force=False)) == ([1], NOON)
    assert await engine.read(lambda c: one_key(c, "ci").generations[0].revoked_at) == NOON
    assert await engine.read(revision_of) == revision
    assert await lives(engine, NOON) == [2]
    for generation in (2, None):
        with pytest.raises(KeyProblem, match="last live secret"):
            await engine.write(partial(revoke, key_id="ci", generation=generation, now=NOON, force=False))
    with pytest.raises(KeyProblem, match="no generation 9"):
        await engine.write(lambda c: revoke(c, "ci", 9, NOON, force=True))
    assert await engine.write(lambda c: revoke(c, "ci", None, NOON, force=True)) == ([2], None)
    assert await engine.write(lambda c: revoke(c, "ci", None, NOON, force=True)) == ([], None)
    assert await lives(engine, NOON) == []


async def test_a_key_is_changed_in_part(engine: Engine) -> None:
    made = await make(engine, scopes=("a",), limits={"pages_per_day": 5})
    changed = await engine.write(lambda c: change_key(c, "ci", disabled_at=NOW, scopes=("b",), networks=("::/0",)))
    assert (changed.disabled_at, changed.scopes, changed.networks) == (NOW, ("b",), (ip_network("::/0"),))
    assert (changed.limits, changed.owner, changed.revision) == (made.limits, made.owner, 2)
    changed = await engine.write(lambda c: change_key(c, "ci", disabled_at=None, limits={}))
    assert (changed.disabled_at, changed.limits) == (None, {})
    assert await engine.write(lambda c: lock_key(c, "ci")) == changed
    assert await engine.read(revision_of) == changed.revision == 3


async def test_a_later_use_is_never_replaced_by_an_earlier_one(engine: Engine) -> None:
    await make(engine)
    await turn(engine, "two")
    await engine.write(lambda c: note_used(c, {("ci", 1): NOON + 50.9, ("ci", 2): NOON + 7}))
    await engine.write(lambda c: note_used(c, {("ci", 1): NOON + 40, ("gone", 1): NOON}))
    record = await engine.read(lambda c: one_key(c, "ci"))
    assert [found.last_used_at for found in record.generations] == [NOW + 50, NOW + 7]
    assert record.revision == 2  # a use is no change


async def test_who_follows_gets_each_change_once(engine: Engine) -> None:
    assert await engine.read(lambda c: changes_since(c, -1)) == (0, [])
    for key_id in ("a", "ci", "z"):
        await make(engine, key_id)
    revision, found = await engine.read(lambda c: changes_since(c, 0))
    assert (revision, [record.id for record in found]) == (3, ["a", "ci", "z"])
    assert await engine.read(lambda c: changes_since(c, 3)) == (3, [])
    await turn(engine, "two")
    revision, (changed,) = await engine.read(lambda c: changes_since(c, 3))
    assert (revision, changed.id, len(changed.generations)) == (4, "ci", 2)
    assert await engine.read(lambda c: changes_since(c, -1)) == (4, await engine.read(all_keys))


async def test_a_change_that_is_committed_later_is_not_missed(engine: Engine, ledger_url: str) -> None:
    """Whoever began first has the lower revision, and nobody is past it before it is there."""
    other, reader = open_engine(ledger_url), open_engine(ledger_url)
    await other.write(lambda _: None)
    begun, go = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> int:
        made = create(connection, new("slow"), digest("slow"), NOON)
        loop.call_soon_threadsafe(begun.set)
        if connection.dialect.name == "sqlite":
            go.wait()
        else:
            connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        return made.revision

    first = asyncio.ensure_future(engine.write(slow))
    await begun.wait()
    second = asyncio.ensure_future(make(other, "fast"))
    seen, revision = [], 0
    for is_over in (False, True):
        if is_over:
            go.set()
            await asyncio.gather(first, second)
        revision, records = await reader.read(partial(changes_since, revision=revision))
        seen += [record.id for record in records]
    assert sorted(seen) == ["fast", "slow"]
    assert (await first, (await second).revision, revision) == (1, 2, 2)
    await other.close()
    await reader.close()


async def test_who_follows_many_who_change_misses_nothing(engine: Engine, ledger_url: str) -> None:
    others = [open_engine(ledger_url) for _ in range(3)]
    for other in others:
        await other.write(lambda _: None)
    is_over = False

    async def follow() -> set[str]:
        seen: set[str] = set()
        revision, last = 0, False
        while not last:
            last = is_over
            revision, records = await engine.read(partial(changes_since, revision=revision))
            seen |= {record.id for record in records}
        assert revision == 30
        return seen

    following = asyncio.ensure_future(follow())
    await asyncio.gather(*(make(others[n % 3], f"k{n}") for n in range(30)))
    is_over = True
    assert await following == {f"k{n}" for n in range(30)}
    for other in others:
        await other.close()


def many(names: list[str], newest: int, revision: int | None = None) -> Callable[[Connection], None]:
    """Makes keys whose newest secret has this number, as after so many rotations."""

    def work(connection: Connection) -> None:
        for name in names:
            create(connection, new(name), digest(name), NOON)
        row = {"created_at": NOW, "generation": newest}
        connection.execute(insert(secrets), [{**row, "key_id": name, "digest": digest("2" + name)} for name in names])
        if revision is not None:
            connection.execute(update(keys).values(revision=revision))

    return work


async def test_thousands_of_changes_come_some_at_a_time_with_what_changes_meanwhile(engine: Engine) -> None:
    """The read of all of them missed its deadline while the loop was busy, and the next one began anew."""
    await engine.write(many(["a", "ci", "d", "e", "f", "g"], 2400))
    told, revision = list[tuple[int, list[str]]](), 0
    while not told or told[-1][1]:
        revision, records = await engine.read(partial(changes_since, revision=revision))
        told.append((revision, [record.id for record in records]))
        assert all(len(record.generations) >= 2 for record in records)
        if len(told) == 1:
            await turn(engine, "next")
            await engine.write(lambda c: revoke(c, "d", None, NOON, force=True))
    assert told == [(3, ["a", "ci", "d"]), (6, ["e", "f", "g"]), (8, ["ci", "d"]), (8, [])]
    assert await engine.read(key_ids) == {"a", "ci", "d", "e", "f", "g"}


async def test_what_changed_last_comes_with_the_first_of_many(engine: Engine) -> None:
    """A revocation behind a hundred thousand changes waited for all of them."""
    await engine.write(many(["a", "b", "d", "e"], 2400))
    for name in ("late", "later"):
        await make(engine, name)
    await engine.write(lambda c: revoke(c, "late", None, NOON, force=True))
    told, revision = list[list[str]](), 0
    while not told or told[-1]:
        revision, records = await engine.read(partial(changes_since, revision=revision))
        told.append([record.id for record in records])
        if len(told) == 1:
            assert not records[0].generations[0].is_live(NOON)
    assert told == [["late", "later", "a", "b", "d"], ["e", "late", "later"], []]


async def test_one_key_with_many_secrets_keeps_no_other_from_coming_early(engine: Engine) -> None:
    await engine.write(many(["a", "b", "d", "e"], 2400))
    await make(engine, "late")
    await engine.write(many(["rotated"], 1001))
    _, records = await engine.read(lambda c: changes_since(c, 0))
    assert [record.id for record in records] == ["late", "a", "b", "d"]


async def test_keys_of_one_revision_come_together(engine: Engine) -> None:
    """Each change has a revision of its own; but whoever fills the tables by hand may give one to many."""
    await engine.write(many(["a", "b", "c", "d"], 2400, revision=3))
    assert [record.id for record in (await engine.read(lambda c: changes_since(c, 0)))[1]] == ["a", "b", "c", "d"]


async def test_each_ledger_has_a_number_of_its_own(engine: Engine, tmp_path: Any) -> None:
    other = open_engine(f"sqlite:///{tmp_path}/other.db")
    assert await other.write(number_of) != await engine.read(number_of)
    await other.close()


async def test_to_look_for_changes_costs_one_query_when_there_are_none(engine: Engine) -> None:
    for number in range(20):
        await make(engine, f"k{number}")
    statements: list[str] = []

    def follow(connection: Connection) -> Any:
        if connection.dialect.name == "sqlite":  # some bypass SQLAlchemy there
            raw_of(connection).set_trace_callback(statements.append)
        else:
            event.listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2]))
        return changes_since(connection, 20), changes_since(connection, 19)

    nothing, (_, one) = await engine.read(follow)
    assert nothing == (20, [])
    assert [record.id for record in one] == ["k19"]
    assert len([text for text in statements if text.startswith("SELECT")]) == 1 + 4


async def test_a_change_and_its_record_are_there_together_or_not_at_all(engine: Engine) -> None:
    def fails(connection: Connection) -> None:
        create(connection, new(), digest("ci"), NOON)
        audit.record(connection, NOON, "alice", "create", "ci", {"profile": "default"})
        raise LedgerUnavailable("midway")

    with pytest.raises(LedgerUnavailable):
        await engine.write(fails)
    assert await engine.read(all_keys) == []
    assert await engine.read(audit.recorded) == []

    def does(connection: Connection) -> None:
        for number in range(3):
            audit.record(connection, NOON + number, "alice", "key.create", f"k{number}", {"n": number})

    await engine.write(does)
    latest = await engine.read(lambda c: audit.recorded(c, most=2))
    assert [found.entry.detail for found in latest] == [{"n": 2}, {"n": 1}]
    (only,) = await engine.read(lambda c: audit.recorded(c, of="k1"))
    assert (only.entry.actor, only.entry.at, only.entry.action) == ("alice", NOW + 1, "key.create")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("limits", '{"limit_of_the_next_release": 1}'),
        ("limits", '{"pages_per_day": "5"}'),
        ("limits", '{"requests_per_minute": null}'),
        ("limits", '{"needs_page_range": 1}'),
        ("limits", '{"name": "x"}'),
        ("limits", "[1]"),
        ("limits", "{"),
        ("networks", '["nowhere"]'),
        ("networks", "{}"),
        ("scopes", "[[]]"),
        ("scopes", "null"),
    ],
)
async def test_what_can_not_be_read_of_a_key_is_named_and_leaves_the_others(
    engine: Engine, column: str, text: str
) -> None:
    for name in ("a", "b"):
        await engine.write(lambda c, name=name: create(c, new(name), digest(name), NOON))  # type: ignore[misc]
    await engine.write(lambda c: c.execute(update(keys).where(keys.c.id == "a").values({column: text})))
    broken, sound = await engine.read(all_keys)
    assert (broken.id, broken.unreadable, bool(getattr(broken, column))) == ("a", (column,), False)
    assert (sound.id, sound.unreadable) == ("b", ())
    assert [found.number for found in broken.generations] == [1]
