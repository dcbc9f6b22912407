"""Keys in the ledger: made, rotated, revoked, changed."""

import asyncio
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.errors import LedgerUnavailable
from gateway.ledger import audit
from gateway.ledger.engine import Engine
from gateway.ledger.key_records import all_keys
from gateway.ledger.key_revisions import revision_of
from gateway.ledger.keys import (
    KeyProblem,
    RotatedKey,
    change_key,
    create,
    lock_key,
    note_used,
    one_key,
    revoke,
    rotate,
)
from tests.support.ledgerkeys import DAY, NOW, digest, make, new, turn
from tests.support.ledgers import NOON, open_engine


async def lives(engine: Engine, at: float) -> list[int]:
    record = await engine.read(lambda c: one_key(c, "ci"))
    return [found.number for found in record.generations if found.is_live(at)]


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
