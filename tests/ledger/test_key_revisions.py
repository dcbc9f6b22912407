"""No change of a key is ever missed by who follows them, however many there are."""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

from sqlalchemy import Connection, event, insert, update

from gateway.ledger.engine import Engine
from gateway.ledger.key_records import all_keys, key_ids
from gateway.ledger.key_revisions import changes_since
from gateway.ledger.keys import create, revoke
from gateway.ledger.schema import keys, secrets
from gateway.ledger.statement import raw_of
from tests.support.ledgerkeys import NOW, digest, make, new, turn
from tests.support.ledgers import NOON, open_engine


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
