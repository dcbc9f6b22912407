"""Webhooks that came in, on both engines: each is handed on by one at a time, and once."""

import asyncio
import threading
from collections import Counter

from sqlalchemy import Connection, text

from gateway.ledger.engine import Engine
from gateway.ledger.inbound_webhooks import Taken, forget, give_back, handled, take
from gateway.ledger.schema import received
from tests.support.ledgers import NOON, open_engine, rows_of

LEASE = int(NOON + 60)


async def taken(
    engine: Engine, now: float = NOON, until: int = LEASE, name: str = "a", request_id: str = "r1"
) -> Taken:
    return await engine.write(lambda c: take(c, name, request_id, now, until))


async def test_the_first_has_it_until_its_lease_ends(engine: Engine) -> None:
    assert await taken(engine) is Taken.FIRST
    assert await taken(engine) is Taken.BUSY
    assert await taken(engine, name="b") is Taken.FIRST
    assert await taken(engine, request_id="r2") is Taken.FIRST
    assert await taken(engine, NOON + 59.9) is Taken.BUSY
    assert await taken(engine, NOON + 60, LEASE + 60) is Taken.FIRST
    # Whoever had the lease before changes nothing any more.
    await engine.write(lambda c: handled(c, "a", "r1", LEASE, NOON + 1000))
    await engine.write(lambda c: give_back(c, "a", "r1", LEASE))
    assert await taken(engine, NOON + 61) is Taken.BUSY


async def test_what_was_handed_on_is_known_for_a_while(engine: Engine) -> None:
    await taken(engine)
    for _ in range(2):
        await engine.write(lambda c: handled(c, "a", "r1", LEASE, NOON + 1000))
    assert await taken(engine, NOON + 999) is Taken.HANDLED
    await engine.write(lambda c: give_back(c, "a", "r1", LEASE))
    assert await taken(engine, NOON + 999) is Taken.HANDLED
    assert await taken(engine, NOON + 1000, int(NOON + 1060)) is Taken.FIRST


async def test_what_was_given_back_is_a_first_one_again(engine: Engine) -> None:
    await taken(engine)
    await engine.write(lambda c: give_back(c, "a", "r1", LEASE))
    assert await taken(engine) is Taken.FIRST


async def test_what_is_over_is_forgotten(engine: Engine) -> None:
    await taken(engine)
    await taken(engine, request_id="r2")
    await engine.write(lambda c: handled(c, "a", "r2", LEASE, NOON + 1000))
    assert await engine.write(lambda c: forget(c, NOON)) == 0
    assert await engine.write(lambda c: forget(c, NOON + 60)) == 1
    assert [row["request_id"] for row in await engine.read(lambda c: rows_of(c, received))] == ["r2"]
    assert await engine.write(lambda c: forget(c, NOON + 1000)) == 1


async def test_of_fifty_at_once_one_is_first(engine: Engine, ledger_url: str) -> None:
    other = open_engine(ledger_url)
    found = await asyncio.gather(*(taken(one) for _ in range(25) for one in (engine, other)))
    await other.close()
    assert Counter(found) == {Taken.FIRST: 1, Taken.BUSY: 49}


async def test_who_is_first_a_moment_later_waits_and_is_not(engine: Engine, ledger_url: str) -> None:
    """On PostgreSQL both may look before either has written; on SQLite nobody writes beside another."""
    inserted = threading.Event()

    def slowly(connection: Connection) -> Taken:
        found = take(connection, "a", "r1", NOON, LEASE)
        inserted.set()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_sleep(0.3)"))
        return found

    other = open_engine(ledger_url)
    await other.write(lambda _: None)
    first = asyncio.get_running_loop().create_task(engine.write(slowly))
    await asyncio.to_thread(inserted.wait, 10.0)
    assert await taken(other) is Taken.BUSY
    assert await first is Taken.FIRST
    await other.close()
