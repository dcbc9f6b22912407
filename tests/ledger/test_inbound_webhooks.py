"""Webhooks that came in, on both engines: each is handed on by one at a time, and once."""

import asyncio
import threading
from collections import Counter

from sqlalchemy import Connection, text

from gateway.ledger.engine import Engine
from gateway.ledger.inbound_webhooks import Message, Taken, give_back, handled, purge, take
from gateway.ledger.schema import received
from tests.support.ledgers import NOON, open_engine, rows_of

LEASE = int(NOON + 60)
R1, R2 = Message("r1"), Message("r2")


async def taken(
    engine: Engine,
    now: float = NOON,
    until: int = LEASE,
    name: str = "a",
    request_id: str = "r1",
    by: str | None = None,
) -> Taken:
    return await engine.write(lambda c: take(c, name, Message(request_id, by), now, until))


async def test_the_first_has_it_until_its_lease_ends(engine: Engine) -> None:
    assert await taken(engine) is Taken.FIRST
    assert await taken(engine) is Taken.BUSY
    assert await taken(engine, name="b") is Taken.FIRST
    assert await taken(engine, request_id="r2") is Taken.FIRST
    assert await taken(engine, NOON + 59.9) is Taken.BUSY
    assert await taken(engine, NOON + 60, LEASE + 60) is Taken.FIRST
    # Whoever had the lease before changes nothing any more.
    await engine.write(lambda c: handled(c, "a", R1, LEASE, NOON + 1000))
    await engine.write(lambda c: give_back(c, "a", R1, LEASE))
    assert await taken(engine, NOON + 61) is Taken.BUSY


async def test_what_was_handed_on_is_known_for_a_while(engine: Engine) -> None:
    await taken(engine)
    for _ in range(2):
        await engine.write(lambda c: handled(c, "a", R1, LEASE, NOON + 1000))
    assert await taken(engine, NOON + 999) is Taken.HANDLED
    await engine.write(lambda c: give_back(c, "a", R1, LEASE))
    assert await taken(engine, NOON + 999) is Taken.HANDLED
    assert await taken(engine, NOON + 1000, int(NOON + 1060)) is Taken.FIRST


async def test_what_was_given_back_is_a_first_one_again(engine: Engine) -> None:
    await taken(engine)
    await engine.write(lambda c: give_back(c, "a", R1, LEASE))
    assert await taken(engine) is Taken.FIRST


async def test_what_is_over_is_forgotten(engine: Engine) -> None:
    await taken(engine)
    await taken(engine, request_id="r2")
    await engine.write(lambda c: handled(c, "a", R2, LEASE, NOON + 1000))
    assert await engine.write(lambda c: purge(c, NOON)) == 0
    assert await engine.write(lambda c: purge(c, NOON + 60)) == 1
    assert [row["request_id"] for row in await engine.read(lambda c: rows_of(c, received))] == ["r2"]
    assert await engine.write(lambda c: purge(c, NOON + 1000)) == 1


async def test_of_fifty_at_once_one_is_first(engine: Engine, ledger_url: str) -> None:
    other = open_engine(ledger_url)
    found = await asyncio.gather(*(taken(one) for _ in range(25) for one in (engine, other)))
    await other.close()
    assert Counter(found) == {Taken.FIRST: 1, Taken.BUSY: 49}


async def test_who_is_first_a_moment_later_waits_and_is_not(engine: Engine, ledger_url: str) -> None:
    """On PostgreSQL both may look before either has written; on SQLite nobody writes beside another."""
    inserted = threading.Event()

    def slowly(connection: Connection) -> Taken:
        found = take(connection, "a", R1, NOON, LEASE)
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


async def test_an_id_given_again_has_a_message_of_its_own(engine: Engine) -> None:
    assert await taken(engine, by="m1") is Taken.FIRST
    assert await taken(engine, by="m2") is Taken.FIRST
    assert [await taken(engine, by=by) for by in ("m1", "m2")] == [Taken.BUSY] * 2
    await engine.write(lambda c: handled(c, "a", Message("r1", "m1"), LEASE, NOON + 1000))
    assert [await taken(engine, by=by) for by in ("m1", "m2")] == [Taken.HANDLED, Taken.BUSY]
    await engine.write(lambda c: give_back(c, "a", Message("r1", "m2"), LEASE))
    assert await taken(engine, by="m2") is Taken.FIRST
    assert await taken(engine, NOON + 1000, int(NOON + 1060), by="m1") is Taken.FIRST


async def test_a_signed_message_is_no_other_one_without_its_id(engine: Engine) -> None:
    """Anybody on the way can strip the headers of its signature, and leave X-Webhook-Signature."""
    await taken(engine, by="m1")
    assert await taken(engine) is Taken.BUSY
    await taken(engine, by="m2")
    await engine.write(lambda c: give_back(c, "a", Message("r1", "m2"), LEASE))
    await engine.write(lambda c: handled(c, "a", Message("r1", "m1"), LEASE, NOON + 1000))
    assert await taken(engine, NOON + 999) is Taken.HANDLED
    assert await taken(engine, NOON + 1000, int(NOON + 1060)) is Taken.FIRST


async def test_a_signed_message_that_was_given_back_is_not_over_without_its_id(engine: Engine) -> None:
    """A retry whose headers were stripped was told that it had been handed on, while that was tried, and failed."""
    await taken(engine, by="m1")
    assert await taken(engine) is Taken.BUSY
    await engine.write(lambda c: give_back(c, "a", Message("r1", "m1"), LEASE))
    assert await taken(engine) is Taken.FIRST


async def test_what_a_version_before_noted_by_its_job_alone_is_known_when_it_is_signed(engine: Engine) -> None:
    row = {"name": "a", "request_id": "r1", "handled": 1, "until": int(NOON + 1000)}
    await engine.write(lambda c: c.execute(received.insert().values(row)))
    assert await taken(engine, by="m1") is Taken.HANDLED
    assert await taken(engine) is Taken.HANDLED
    assert await taken(engine, NOON + 1000, int(NOON + 1060), by="m1") is Taken.FIRST


async def test_what_was_stripped_and_sent_again_is_no_signed_message_of_a_later_job(engine: Engine) -> None:
    """Its job's id may have been given again; what was said of that job was lost."""
    await taken(engine)
    assert await taken(engine, by="m1") is Taken.BUSY  # it may be this one, or fail
    await engine.write(lambda c: handled(c, "a", R1, LEASE, NOON + 1000))
    assert await taken(engine, by="m1") is Taken.FIRST
    assert await taken(engine) is Taken.HANDLED
    await engine.write(lambda c: give_back(c, "a", Message("r1", "m1"), LEASE))
    assert await taken(engine) is Taken.HANDLED
    assert await taken(engine, by="m1") is Taken.FIRST
    await engine.write(lambda c: handled(c, "a", Message("r1", "m1"), LEASE, NOON + 2000))
    assert [await taken(engine, NOON + 1999, by=by) for by in (None, "m1")] == [Taken.HANDLED] * 2
    assert await taken(engine, NOON + 2000, int(NOON + 2060)) is Taken.FIRST


async def test_an_id_of_any_length_fits(engine: Engine) -> None:
    assert await taken(engine, request_id="r" * 256, by="m" * 256) is Taken.FIRST
    assert await taken(engine, request_id="r" * 256, by="m" * 255) is Taken.FIRST
    assert await taken(engine, request_id="m" * 256) is Taken.FIRST


async def test_of_fifty_signed_ones_at_once_each_is_first_once(engine: Engine, ledger_url: str) -> None:
    other = open_engine(ledger_url)

    async def until_first(one: Engine, by: str) -> Taken:
        while (found := await taken(one, by=by)) is Taken.BUSY:
            await asyncio.sleep(0.05)
            await one.write(lambda c: handled(c, "a", Message("r1", by), LEASE, NOON + 1000))
        return found

    found = await asyncio.gather(*(until_first(one, f"m{n}") for n in range(25) for one in (engine, other)))
    await other.close()
    assert Counter(found) == {Taken.FIRST: 25, Taken.HANDLED: 25}
