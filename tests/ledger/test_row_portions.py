"""What reads thousands of rows lets the loop go on meanwhile, where a transaction runs on it: on PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import repeat
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert
from sqlalchemy import Engine as SqlEngine

from gateway.errors import LedgerUnavailable
from gateway.keys.callers import CallerService
from gateway.ledger import audit, callers, key_records, loop_time, refusals, row_portions, usage, watchers
from gateway.ledger.engine import Engine, is_postgres
from gateway.ledger.key_records import key_ids
from gateway.ledger.ledger import Ledger
from gateway.ledger.schema import accounts, blocks, grants, jobs, secrets, usage_by_mode, windows
from gateway.ledger.schema import audit as audit_rows
from gateway.ledger.schema import keys as key_rows
from gateway.ledger.schema import refusals as refusal_rows
from gateway.ledger.schema import usage as usage_rows
from gateway.limits.windows import month_of
from gateway.model.jobs import JobRef
from tests.support.ledgers import NOON, open_engine
from tests.support.turns import Turns

MANY, PORTION = 170, 50
NOW = int(NOON)
ACCOUNTS = [f"key:k{number:03}" for number in range(MANY)]
USED = {"requests": 1, "failed": 0, "pages": 1, "refunded": 0, "spend": 0}


def fill(connection: Connection) -> None:
    """So many rows of each kind."""
    of_job = {
        "upstream": "u", "account": "a", "owner": "o", "shape": "s", "path": "/", "state": 0, "created_at": 1,
        "watcher": "me",
    }  # fmt: skip
    connection.execute(insert(jobs), [{**of_job, "request_id": name, "reservation": name} for name in ACCOUNTS])
    connection.execute(insert(usage_rows), [{**USED, "account": name, "day": 20261123} for name in ACCOUNTS])
    of_mode = {**USED, "day": 20261123, "mode": "fast"}
    connection.execute(insert(usage_by_mode), [{**of_mode, "account": name} for name in ACCOUNTS])
    counts = {"tat": 5, "concurrent": 0, "pages_in_flight": 0, "reset_at": 0}
    connection.execute(insert(accounts), [{**counts, "account": name} for name in ACCOUNTS])
    of_month = {"period": month_of(NOON).period, "requests": 1, "pages": 1, "spend": 0}
    connection.execute(insert(windows), [{**of_month, "account": name} for name in ACCOUNTS])
    of_grant = {"account": "a", "pages": 1, "created_at": 1}
    connection.execute(insert(grants), [{**of_grant, "until": NOW + 1 + number} for number in range(MANY)])
    of_key = {"profile": "p", "owner": "o", "scopes": "[]", "networks": "[]", "limits": "{}", "created_at": 1}
    connection.execute(insert(key_rows), [{**of_key, "id": name[4:], "revision": 1} for name in ACCOUNTS])
    secret = {"generation": 1, "created_at": 1}
    of_keys = [{**secret, "key_id": name[4:], "digest": name.encode().ljust(32)} for name in ACCOUNTS]
    connection.execute(insert(secrets), of_keys)
    entry = {"at": 1, "actor": "a", "action": "key.grant", "detail": "{}"}
    connection.execute(insert(audit_rows), [{**entry, "subject": name} for name in ACCOUNTS])
    refused = {"at": 1, "requests": 1, "status": 401, "reason": "r", "route": "r", "method": "GET", "client": "c"}
    connection.execute(insert(refusal_rows), [{**refused, "request_id": name} for name in ACCOUNTS])
    connection.execute(insert(blocks), [{"account": name, "created_at": 1} for name in ACCOUNTS])


ASKED: dict[str, tuple[Any, str, Callable[[Connection], Any], Callable[[Any], Any]]] = {
    "followed_by": (watchers, "JobRef", lambda c: watchers.followed_by(c, "me"), lambda job: job.request_id),
    "used_since": (usage, "UsedOnDay", lambda c: usage.used_since(c, 0), lambda row: row.account),
    "used_by_mode": (usage, "UsedByMode", lambda c: usage.used_by_mode(c, 0), lambda row: row.account),
    "active_counts": (usage, "_counts_of", lambda c: usage.active_counts(c, NOON, 999), str),
    "windows_now": (usage, "WindowRow", lambda c: usage.windows_now(c, NOON, 999), lambda row: row.account),
    "all_keys": (key_records, "KeyRecord", key_records.all_keys, lambda key: f"key:{key.id}"),
    "generations": (
        key_records,
        "Generation",
        key_records.all_keys,
        lambda key: key.generations[0].digest.decode().strip(),
    ),
    "keys_page": (key_records, "KeyRecord", lambda c: key_records.keys_page(c, 999), lambda key: f"key:{key.id}"),
    "recorded": (audit, "_recorded", lambda c: audit.recorded(c, most=999), lambda found: found.entry.subject),
    "listed": (refusals, "RefusalRow", lambda c: refusals.listed(c, most=999), lambda row: row.request_id),
    "latest": (refusals, "RefusalRow", lambda c: refusals.latest(c, 999), lambda row: row.request_id),
    "callers": (callers, "CallerRow", lambda c: callers.callers(c, 999, blocked=True), lambda row: row.account),
}


@pytest.mark.parametrize("name", list(ASKED))
async def test_rows_become_values_in_portions(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    module, of_row, ask, named = ASKED[name]
    turns, make, counted = Turns(), getattr(module, of_row), list[None]()
    monkeypatch.setattr(row_portions, "PORTION", PORTION)
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    await engine.write(fill)

    def made(*values: Any, **more: Any) -> Any:
        counted.append(None)
        turns.note()
        return make(*values, **more)

    monkeypatch.setattr(module, of_row, made)
    found = await engine.read(ask)
    assert sorted(map(named, found)) == ACCOUNTS
    if await engine.read(is_postgres):  # SQLite has threads
        assert (turns.most(), len(counted)) == (PORTION, MANY)


async def test_grants_come_in_portions_and_in_their_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_portions, "PORTION", PORTION)
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    await engine.write(fill)
    turns, make = Turns(), usage.GrantRow

    def made(*values: Any) -> usage.GrantRow:
        turns.note()
        return make(*values)

    monkeypatch.setattr(usage, "GrantRow", made)
    found = await engine.read(lambda c: usage.grants_of(c, "a", NOON))
    assert [grant.until - NOW for grant in found] == list(range(1, MANY + 1))
    if await engine.read(is_postgres):
        assert turns.most() == PORTION
    assert await engine.read(callers.blocked_accounts) == frozenset(ACCOUNTS)


async def test_cheap_rows_wait_for_no_other_iteration(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that has much to do comes back late, and a transaction has a deadline."""
    monkeypatch.setattr(row_portions, "PORTION", PORTION)
    monkeypatch.setattr(loop_time, "SECONDS", 60.0)
    await engine.write(fill)
    turns = Turns()

    def made(*values: Any) -> JobRef:
        turns.note()
        return JobRef(*values)

    monkeypatch.setattr(watchers, "JobRef", made)
    assert len(await engine.read(lambda c: watchers.followed_by(c, "me"))) == MANY
    if await engine.read(is_postgres):
        assert turns.most() == MANY


async def test_in_a_transaction_others_go_on_too_and_it_stays_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    monkeypatch.setattr(row_portions, "PORTION", 1)
    await engine.write(fill)

    def work(connection: Connection) -> None:
        assert usage.end_grants(connection, "a", None, NOON)
        raise ValueError("not so")

    with pytest.raises(ValueError, match="not so"):
        await engine.write(work)
    assert len(await engine.report(lambda c: usage.grants_of(c, "a", NOON))) == MANY
    assert len(await engine.write(lambda c: usage.end_grants(c, "a", None, NOON))) == MANY
    assert await engine.guarded(lambda c: usage.grants_of(c, "a", NOON)) == []


async def test_more_grants_end_than_a_statement_takes_values(engine: Engine) -> None:
    row = {"account": "a", "pages": 1, "created_at": 1, "until": NOW + 9}
    await engine.write(lambda c: c.execute(insert(grants), [row] * 33_000) and None)
    assert len(await engine.write(lambda c: usage.end_grants(c, "a", None, NOON))) == 33_000
    assert await engine.read(lambda c: usage.grants_of(c, "a", NOON)) == []


async def test_a_thousand_grants_end_by_a_few_statements(ledger: Ledger) -> None:
    """Each is a round trip on PostgreSQL, and there is a deadline."""
    name, statements = "jwt:https://idp.test#ann", list[str]()
    row = {"account": name, "pages": 1, "created_at": 1, "until": NOW + 9}
    await ledger.write(lambda c: c.execute(insert(grants), [row] * 1000) and None)

    def note(*of: Any) -> None:
        statements.append(of[2])

    event.listen(SqlEngine, "before_cursor_execute", note)
    try:
        ended = await CallerService(ledger, lambda: NOON, lambda: False).end_grants("me", name, None)
    finally:
        event.remove(SqlEngine, "before_cursor_execute", note)
    assert (len(ended), len(statements) < 30) == (1000, True)
    told = await ledger.read(lambda c: audit.recorded(c, most=2000))
    assert [found.entry.detail for found in told] == [{"pages": 1, "until": NOW + 9}] * 1000


async def test_secrets_of_the_file_are_compared_and_recorded_in_portions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reload with ten thousand held the loop for up to a tenth of a second."""
    monkeypatch.setattr(row_portions, "PORTION", PORTION)
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    declared = {f"keys[k{number}].secret": f"{number:064x}" for number in range(1000)}
    await engine.read(is_postgres)
    turns = Turns()

    def counted(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*of: Any, **more: Any) -> Any:
            turns.note()
            return make(*of, **more)

        return made

    monkeypatch.setattr(json, "dumps", counted(json.dumps))  # once for each record
    monkeypatch.setattr(json, "loads", counted(json.loads))
    for new in (1000, 0):
        stated = await engine.write(lambda c: audit.state_secrets(c, declared, (), "configuration", NOON))
        assert len(stated) == new
    if await engine.read(is_postgres):
        assert turns.most() <= 200


@pytest.fixture
async def slowed(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """A ledger with a deadline of half a second; others take 20 ms of each iteration of the loop."""
    engine = open_engine(ledger_url, 0.5)
    async with asyncio.timeout(30):
        while True:
            with suppress(LedgerUnavailable):
                await engine.read(key_ids)
                break
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    monkeypatch.setattr(row_portions, "PORTION", 1)

    async def others() -> None:
        while True:
            Event().wait(0.02)
            await asyncio.sleep(0)

    taking = asyncio.ensure_future(others())
    yield engine
    taking.cancel()
    await engine.close()


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_what_it_gives_to_others_is_not_of_its_deadline(slowed: Engine) -> None:
    """A loop of which others take 12 ms of 14 made a read of 0.4 s miss its deadline of 2 s."""
    assert len(await slowed.read(lambda c: list(row_portions.in_portions(c, range(100))))) == 100


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_what_it_gives_to_others_has_a_bound(slowed: Engine) -> None:
    given = list[float]()

    def without_end(connection: Connection) -> None:
        shared = connection.info[row_portions.LOOP_TIME]
        for _ in repeat(None):
            shared.share()
            given.append(shared.given)

    with pytest.raises(LedgerUnavailable, match=r"no answer within ledger\.timeout"):
        await slowed.read(without_end)
    assert given[-1] >= 5 * 0.5


@pytest.mark.parametrize("seconds", [0.001, 0.003])
def test_time_counts_as_given_only_while_others_have_it(seconds: float) -> None:
    now = [0.0]

    class Raw:
        def run_async(self, _: Any) -> None:
            now[0] += 7.0

    shared = loop_time.LoopTime(Raw(), lambda: now[0])
    for _ in range(3):
        now[0] += seconds
        shared.share()
    assert shared.given == {0.001: 7.0, 0.003: 21.0}[seconds]
