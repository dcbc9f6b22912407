"""How the statements find their rows: what runs for each submit never goes through a table, however long it is."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, insert, text

from gateway.ledger import (
    audit,
    checkpoints,
    deliveries,
    delivery_claims,
    inbound_webhooks,
    key_revisions,
    keys,
    schema,
    usage,
)
from gateway.ledger import reservations as steps
from gateway.ledger.engine import Engine
from gateway.ledger.schema import Stage, reservations, windows
from gateway.ledger.schema import usage as usage_table
from gateway.ledger.statement import raw_of
from gateway.limits.submit_decisions import Ask
from gateway.model.audit import Action, Entry
from tests.support.endings import settle
from tests.support.ledgers import NOON, make_claim, make_profile

LONG = {"reservations", "windows", "usage", "keys", "secrets", "accounts"}
MANY = 3000


@contextmanager
def plans(connection: Connection) -> Iterator[list[str]]:
    """The tables that statements go through from one end to the other, as the engine itself says."""
    found: list[str] = []
    asked: set[str] = set()
    raw = raw_of(connection)
    raw.set_trace_callback(asked.add)  # what SQLAlchemy runs, and what the driver runs without it
    try:
        yield found
    finally:
        raw.set_trace_callback(None)
    for statement in asked:
        found.extend(line[5:].split()[0] for line in _plan(raw, statement) if line.startswith("SCAN "))


def _plan(raw: sqlite3.Connection, statement: str) -> list[str]:
    return [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]


def fill(connection: Connection) -> None:
    """Jobs that are settled, and what they left."""
    jobs = [
        {
            "id": f"old-{number}", "account": f"key:{number % 50}", "owner": "o", "stage": Stage.SETTLED, "mode": "",
            "pages": 3, "price": 0, "day": 20261101, "month": 202611, "upstream": "container",
            "request_id": f"old-{number}", "created_at": 1, "expires_at": None, "settled_at": 2,
        }
        for number in range(MANY)
    ]  # fmt: skip
    connection.execute(insert(reservations), jobs)
    used = {"requests": 1, "pages": 3, "spend": 0}
    rows = [{"account": f"key:{n % 50}", "period": 20250101 + n // 50, **used} for n in range(MANY)]
    connection.execute(insert(windows), rows)
    totals = [
        {"account": f"key:{n % 50}", "day": 20250101 + n // 50, **used, "failed": 0, "refunded": 0}
        for n in range(MANY)
    ]
    connection.execute(insert(usage_table), totals)
    for number in range(60):
        keys.create(connection, keys.NewKeyRow(f"k{number}", "p", "o"), b"%032d" % number, NOON)


def live(connection: Connection) -> None:
    """All that is done for submits, and now and then."""
    profile = make_profile(pages_per_day=100, pages_per_month=100, spend_per_month=1000, concurrent_requests=2)
    for name in ("a", "b", "c"):
        claim = make_claim(name, "key:7")
        steps.admit(connection, claim, profile, NOON, NOON + 60)
        if name != "c":
            steps.reserve(connection, claim, profile, Ask(3, 2, ""), NOON, NOON + 60)
    steps.renew(connection, ["a", "b"], NOON + 60)
    steps.accept(connection, make_claim("a", "key:7"), "job", NOON + 60)
    settle(connection, "key:7", "a", 2, NOON, failed=False)
    steps.cancel(connection, make_claim("b", "key:7"), NOON)
    steps.overdue(connection, NOON + 100)
    steps.reclaim(connection, "key:7", NOON + 100)
    usage.used_since(connection, 20990101)
    usage.used_since(connection, 20990101, "key:7")
    usage.active_counts(connection, NOON, 10)
    usage.reset(connection, "key:7", NOON)
    key_revisions.changes_since(connection, 59)
    keys.rotate(connection, "k7", b"new".ljust(32), 1, NOON, "op")
    keys.note_used(connection, {("k7", 1): NOON})


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_sqlite_goes_through_no_table_that_grows(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        with plans(connection) as found:
            live(connection)
            connection.execute(text("SELECT sum(pages) FROM reservations"))
        return found

    assert [table for table in await engine.write(work) if table in LONG] == ["reservations"]  # the last one alone


READS = {
    "reservations": [
        "SELECT * FROM reservations WHERE id = 'old-1'",
        "SELECT id FROM reservations WHERE upstream = 'container' AND request_id = 'old-5'",
        "SELECT account, id FROM reservations WHERE expires_at <= 5 LIMIT 200",
        "SELECT account, id FROM reservations WHERE expires_at <= 5 AND account = 'key:7' LIMIT 200",
        "SELECT id FROM reservations WHERE given_back IS NOT NULL AND account = 'key:7' AND settled_at > 1764000000",
        "SELECT id FROM reservations WHERE stage >= 3 AND stage = 3 AND created_at < 0 ORDER BY created_at LIMIT 200",
    ],
    "windows": ["SELECT * FROM windows WHERE account = 'key:7' AND period IN (20261123, 202611)",
                "SELECT * FROM windows WHERE period = 202611"],
    "usage": ["SELECT * FROM usage WHERE day >= 20990101 ORDER BY day, account"],
}  # fmt: skip


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_postgresql_goes_through_no_table_that_grows(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        for table in READS:
            connection.execute(text(f"ANALYZE {table}"))
        return [
            query
            for queries in READS.values()
            for query in queries
            if "Seq Scan" in json.dumps(connection.execute(text(f"EXPLAIN (FORMAT JSON) {query}")).scalar())
        ]

    assert await engine.write(work) == []


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_what_is_done_to_many_at_once_goes_through_no_table(engine: Engine) -> None:
    names = [f"n{number}" for number in range(50)]
    hook = {"upstream": "u", "owner": "o", "url": "u", "destination": "d", "state": 0, "attempts": 1, "created_at": 1}
    reads = [audit.FirstRead(Entry(1, "o", Action.READ, name, {}), "u", "o") for name in names]

    def work(connection: Connection) -> list[str]:
        old = [{"upstream": "u", "checkpoint": name, "owner": "o", "expires_at": 1} for name in names]
        connection.execute(insert(schema.checkpoints), old)
        came = [{"name": "u", "request_id": name, "handled": 1, "until": 1} for name in names]
        connection.execute(insert(schema.received), came)
        connection.execute(insert(schema.deliveries), [{"id": name, "request_id": name, **hook} for name in names])
        with plans(connection) as found:
            assert checkpoints.purge(connection, 5) == inbound_webhooks.purge(connection, 5) == len(names)
            deliveries.release(connection, [deliveries.DeliveryLease(name, "me", 1) for name in names[:9]], 5)
            deliveries.drop(connection, *(("u", name) for name in names[:9]))
            audit.append(connection, reads)
        return found

    found = set(await engine.write(work))
    assert found & {"checkpoints", "received", "deliveries", "jobs"} == set()


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("failing", [1, 2, 100])
async def test_what_failing_destinations_are_given_up_for_is_found_among_what_waits(
    engine: Engine, failing: int
) -> None:
    """With two of them a million delivered webhooks were gone through each 30 s, and submits got a 503 meanwhile."""
    lines = [(f"https://h{number}:443", "o") for number in range(failing)]

    def work(connection: Connection) -> list[str]:
        asked: list[str] = []
        raw = raw_of(connection)
        raw.set_trace_callback(asked.append)
        try:
            assert deliveries.find_late(connection, deliveries.failing(lines, NOON, NOON)) == []
        finally:
            raw.set_trace_callback(None)
        return [step for statement in asked for step in _plan(raw, statement) if "deliveries" in step]

    (step,) = await engine.write(work)
    assert step in {  # both hold what waits alone
        "SEARCH deliveries USING INDEX ix_deliveries_next_at (next_at>?)",
        "SEARCH deliveries USING INDEX ix_deliveries_turns (owner=? AND next_at>?)",
    }


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("late", [deliveries.failing([("h:443", "o")], NOON, NOON), deliveries.untried(NOON)])
async def test_what_is_given_up_is_looked_up_once_it_was_found(engine: Engine, late: deliveries.Late) -> None:
    """To go through all that waits is left to a report: it kept the only writer for a third of a second."""

    def work(connection: Connection) -> list[str]:
        asked: list[str] = []
        raw = raw_of(connection)
        raw.set_trace_callback(asked.append)
        try:
            assert deliveries.give_up(connection, ["a", "b"], late, NOON) == []
        finally:
            raw.set_trace_callback(None)
        return [step for statement in asked for step in _plan(raw, statement) if "deliveries" in step]

    assert await engine.write(work) == ["SEARCH deliveries USING INDEX sqlite_autoindex_deliveries_1 (id=?)"]


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_what_is_being_sent_is_found_among_what_is_due_soon(engine: Engine) -> None:
    """Each second all that waited was gone through: 300,000 were a fifth of a second of the only writer."""
    bounds = delivery_claims.Bounds(8, 8)

    def work(connection: Connection) -> list[str]:
        asked: list[str] = []
        raw = raw_of(connection)
        raw.set_trace_callback(asked.append)
        try:
            assert delivery_claims.claim_due(connection, "me", NOON, NOON + 60, bounds) == []
        finally:
            raw.set_trace_callback(None)
        return [step for statement in asked for step in _plan(raw, statement) if "deliveries" in step]

    by_time = "SEARCH deliveries USING INDEX ix_deliveries_next_at"
    assert await engine.write(work) == [f"{by_time} (next_at>? AND next_at<?)"] * 2
