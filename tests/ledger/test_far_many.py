"""A PostgreSQL that is far away, and much to do there: many cost as many round trips as one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from sqlalchemy import Connection, insert

from gateway.ledger import checkpoints, expiry, inbound_webhooks, schema, watchers
from gateway.ledger.deliveries import release
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.engine import OF_WEBHOOKS, Engine
from gateway.ledger.schema import DeliveryState, JobState, Stage, accounts, deliveries, jobs, reservations
from gateway.limits.job_cost import Known
from tests.support.faraway import FarAway
from tests.support.ledgers import NOON, Postgres, open_engine, rows_of

FAR: Final = 0.01
MANY: Final = 150


@pytest.fixture
async def engine(far: FarAway, postgres: Postgres, migrated: str) -> AsyncIterator[Engine]:
    """The engine of an empty ledger there."""
    made = open_engine(far.url_of(migrated))
    await made.write(lambda _: None)
    yield made
    await made.close()
    await asyncio.to_thread(postgres.empty, migrated)


def add_jobs(connection: Connection, count: int, **changes: Any) -> None:
    """Jobs of some accounts, whose watcher never lived, each with its reservation."""
    named = [(f"job-{number}", f"key:{number % 5}") for number in range(count)]
    job = {
        "upstream": "container", "shape": "default", "path": "/", "state": JobState.RUNNING, "created_at": NOON,
        "watcher": "dead", "known": 0, "expires_at": None, "ended_at": None, "changed_at": NOON * 1000, **changes,
    }  # fmt: skip
    claim = {
        "stage": Stage.ACCEPTED if job["state"] == JobState.RUNNING else Stage.SETTLED, "mode": "", "pages": 3,
        "price": 0, "day": 20261123, "month": 202611, "upstream": "container", "created_at": NOON,
    }  # fmt: skip
    empty = {"tat": 0, "concurrent": 0, "pages_in_flight": 0, "reset_at": 0}
    connection.execute(insert(accounts), [{"account": name, **empty} for name in sorted({of for _, of in named})])
    connection.execute(
        insert(jobs),
        [{"request_id": name, "reservation": f"r-{name}", "account": of, "owner": of, **job} for name, of in named],
    )
    connection.execute(
        insert(reservations),
        [{"id": f"r-{name}", "request_id": name, "account": of, "owner": of, **claim} for name, of in named],
    )


def add_deliveries(connection: Connection, count: int) -> None:
    """Webhooks that are due, of some owners to some destinations."""
    values = {
        "upstream": "container", "url": "https://h.test/", "state": DeliveryState.DUE, "status": "complete",
        "attempts": 0, "next_at": NOON, "created_at": NOON, "ended_at": NOON,
    }  # fmt: skip
    rows = [
        {"id": f"d{n}", "request_id": f"job-{n}", "owner": f"key:{n % 5}", "destination": f"h{n % 9}.test:443"}
        for n in range(count)
    ]
    connection.execute(insert(deliveries), [{**row, **values} for row in rows])


async def trips_of(far: FarAway, engine: Engine, work: Callable[[Connection], Any]) -> tuple[int, Any]:
    before = far.trips
    result = await engine.write(work)
    return far.trips - before, result


async def test_all_jobs_of_a_dead_replica_are_taken_over_in_two_statements(far: FarAway, engine: Engine) -> None:
    await engine.write(lambda c: add_jobs(c, MANY))
    trips, taken = await trips_of(far, engine, lambda c: watchers.take_over(c, "me", NOON + 60))
    assert trips <= 8
    assert len(taken) == MANY
    assert {row["watcher"] for row in await engine.read(lambda c: rows_of(c, jobs))} == {"me"}


async def test_many_old_records_are_purged_in_three_statements(far: FarAway, engine: Engine) -> None:
    await engine.write(lambda c: add_jobs(c, MANY, state=JobState.GONE))
    trips, purged = await trips_of(far, engine, lambda c: expiry.purge(c, NOON + 1))
    assert trips <= 10
    assert purged == MANY
    for table in (jobs, reservations):
        assert await engine.read(lambda c, table=table: rows_of(c, table)) == []  # type: ignore[misc]


async def test_many_webhooks_are_claimed_and_given_back_in_a_few_statements(far: FarAway, engine: Engine) -> None:
    await engine.write(lambda c: add_deliveries(c, MANY))
    for attempt in (1, 2):
        trips, claimed = await trips_of(
            far, engine, lambda c: claim_due(c, "me", NOON, NOON + 60, Bounds(MANY, MANY))
        )
        assert trips <= 12
        assert {due.lease.attempt for due in claimed} == {1}
        assert len(claimed) == MANY
        leases = [due.lease for due in claimed]
        rows = await engine.read(lambda c: rows_of(c, deliveries))
        assert {(row["leased_by"], row["attempts"], row["next_at"]) for row in rows} == {("me", 1, NOON + 60)}
        stale = [lease._replace(attempt=attempt + 1) for lease in leases[:3]]
        trips, _ = await trips_of(far, engine, lambda c: release(c, [*leases[3:], *stale], NOON))  # noqa: B023
        assert trips <= 8
        rows = await engine.read(lambda c: rows_of(c, deliveries))
        assert sum(row["leased_by"] is None for row in rows) == MANY - 3
        await engine.write(lambda c: release(c, leases[:3], NOON))  # noqa: B023


async def test_webhooks_for_many_paused_destinations_keep_no_claim_from_ending_in_time(
    far: FarAway, engine: Engine, migrated: str
) -> None:
    """100 ms away, four owners with a thousand each for closed ports kept all others' from being sent."""
    rooms = {(f"h.test:{port}", f"key:{port % 4}"): 1 for port in range(24)}
    values = {
        "upstream": "container", "url": "https://h.test/", "state": DeliveryState.DUE, "attempts": 6,
        "created_at": NOON, "ended_at": NOON, "request_id": "job",
    }  # fmt: skip
    rows = [
        {"id": f"{place}-{n}", "destination": line[0], "owner": line[1], "next_at": NOON + place, **values}
        for place, line in enumerate(rooms)
        for n in range(201)
    ]
    quiet = {"id": "quiet", "destination": "q.test:443", "owner": "quiet", "next_at": NOON + 90, **values}
    await engine.write(lambda c: c.execute(insert(deliveries), [*rows, quiet]))
    hurried = open_engine(far.url_of(migrated), 2.0)
    await hurried.write(lambda _: None)
    far.seconds, bounds = 0.08, Bounds(32, 4, rooms, 8)
    claimed = await hurried.write(lambda c: claim_due(c, "me", NOON + 99, NOON + 159, bounds), in_turn_of=OF_WEBHOOKS)
    assert "quiet" in {due.lease.id for due in claimed}
    await hurried.close()


async def test_many_old_checkpoints_and_received_webhooks_are_forgotten_in_two_statements(
    far: FarAway, engine: Engine
) -> None:
    names = [f"n{number}" for number in range(MANY)]
    seen = [{"upstream": "container", "checkpoint": name, "owner": "key:ci", "expires_at": NOON} for name in names]
    came = [{"name": "in", "request_id": name, "handled": 1, "until": NOON} for name in names]
    await engine.write(lambda c: c.execute(insert(schema.checkpoints), seen))
    await engine.write(lambda c: c.execute(insert(schema.received), came))
    for room in (checkpoints, inbound_webhooks):
        trips, forgotten = await trips_of(far, engine, lambda c, room=room: room.purge(c, NOON))  # type: ignore[misc]
        assert trips <= 8
        assert forgotten == MANY


async def test_many_expired_jobs_are_forgotten_and_deleted_in_a_few_statements(far: FarAway, engine: Engine) -> None:
    over = {"state": JobState.COMPLETE, "known": Known.COMPLETE, "ended_at": NOON, "expires_at": NOON}
    await engine.write(lambda c: add_jobs(c, MANY, **over))
    rows = await engine.read(lambda c: expiry.expired(c, NOON))
    trips, left = await trips_of(far, engine, lambda c: expiry.forget_expired(c, rows, NOON))
    assert trips <= 14
    assert left == []
    free = {"container": MANY, **{f"other-{number}": MANY for number in range(9)}}
    trips, due = await trips_of(far, engine, lambda c: expiry.due_gone(c, free, NOON))
    assert trips <= 6
    trips, claimed = await trips_of(far, engine, lambda c: expiry.claim_gone(c, due, NOON))
    assert trips <= 8
    assert len(claimed) == len(rows) == MANY
    trips, _ = await trips_of(far, engine, lambda c: expiry.mark_deleted(c, claimed, NOON))
    assert trips <= 8
    found = await engine.read(lambda c: rows_of(c, jobs))
    assert {(row["state"], row["expires_at"]) for row in found} == {(JobState.GONE, None)}
    found = await engine.read(lambda c: rows_of(c, reservations))
    assert {row["request_id"] for row in found} == {None}
