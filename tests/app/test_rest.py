"""What is asked while nobody is there: one number a second; and what changes or becomes due is seen all the same."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.refusals import Refusals
from gateway.audit.trail import AuditTrail
from gateway.config.settings.webhooks import WebhooksOut
from gateway.ledger.audit import record
from gateway.ledger.deliveries import Planned, make_due, plan
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import forget
from gateway.ledger.keys import NewKeyRow, create
from gateway.ledger.schema import JobState
from gateway.ledger.sync import LedgerSync, SyncListeners
from gateway.ledger.watchers import beat
from gateway.model.keys import KeyRecord
from gateway.model.times import Times
from gateway.observe.log import LogStream, json_line
from gateway.webhooks.outbound.dispatcher import Chance, Dispatcher
from tests.support.backend import Backend
from tests.support.endings import end, job_of
from tests.support.iteration import iteration_now
from tests.support.ledgers import open_engine
from tests.support.pure import make_settings
from tests.support.room import Room
from tests.support.waiting import eventually

OUT = WebhooksOut.model_validate({"secret": {"env": "S"}}, context={"environ": {"S": "0123456789abcdef" * 2}})


class Idle(Room):
    """Whatever asks the ledger each second, before a container that nobody asks."""

    def __init__(self, engine: Engine, port: int, directory: Path) -> None:
        super().__init__(engine, port, directory)
        self.keys: list[str] = []
        self.log: list[Any] = []
        times, settings = Times(self.clock, self.wall), make_settings(directory)
        stream = LogStream(-1, json_line)
        stream.put = self.log.append  # type: ignore[method-assign, assignment]
        listeners = SyncListeners(self._changed, _ignore, lambda _: _nothing(), _ignore)
        self.sync = LedgerSync(self.ledger, times, {}, listeners, _nothing)
        self.trail = AuditTrail(self.ledger, lambda: settings, Refusals(), stream, self.wall)
        chance = Chance(times, lambda: 0.5)
        self.dispatcher = Dispatcher(self.ledger, lambda: OUT, _nowhere, "me", iteration_now(), chance)

    def _changed(self, found: list[KeyRecord]) -> None:
        self.keys.extend(key.id for key in found)

    async def second(self, turn: int = 1) -> None:
        """What is done each second, but for what comes every few."""
        self.seconds += 1.0
        await asyncio.gather(
            self.sync.follow_keys(), self.sync.turn(turn), self.hear(), self.housekeeping.beat(turn),
            self.housekeeping.turn(turn), self.housekeeping.purge(turn), self.trail.turn(turn),
            self.dispatcher.turn(),
        )  # fmt: skip


def _ignore(_: Any) -> None:
    """Nobody asks."""


async def _nothing() -> None:
    """Nobody submits."""


async def _nowhere(owner: str, host: str, port: int) -> Any:
    raise AssertionError((owner, host, port))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of connections that are made from now on."""
    statements: list[str] = []
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = real(*arguments, **options)
        made.set_trace_callback(statements.append)
        return made

    monkeypatch.setattr(sqlite3, "connect", connect)
    return statements


@pytest.fixture
async def idle(asked: list[str], ledger_url: str, backend: Backend, tmp_path: Path) -> AsyncIterator[Idle]:
    del asked
    engine = open_engine(ledger_url)
    made = Idle(engine, backend.port, tmp_path)
    await made.sync.begin()
    for turn in (0, 1, 2):
        await made.second(turn)
    yield made
    await made.close()
    await engine.close()


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_in_a_second_without_news_one_number_is_asked(idle: Idle, asked: list[str]) -> None:
    """Seven statements a second, of which SQLAlchemy took half a millisecond each, were half of an idle gateway."""
    await eventually(lambda: any("audit.at <" in text for text in asked))  # what the first turn purges, apart from it
    asked.clear()
    for turn in (1, 2, 3, 4):
        await idle.second(turn)
    told = [text for text in asked if text not in {"BEGIN", "COMMIT"}]
    assert set(told) == {"PRAGMA data_version"}
    assert len(told) <= 2 * 4


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_a_minute_costs_a_few_statements(idle: Idle, asked: list[str]) -> None:
    asked.clear()
    for turn in range(61, 121):
        await idle.second(turn)
    told = [text.split()[0] for text in asked]
    assert told.count("PRAGMA") <= 3 * 60
    assert told.count("SELECT") + told.count("UPDATE") + told.count("DELETE") < 4 * 60


NEWS: dict[str, Callable[[Idle], Callable[[Any], Any]]] = {
    "a key": lambda idle: lambda c: create(c, NewKeyRow("k", "default", "o"), b"k".ljust(32), idle.wall()),
    "an audit record": lambda idle: lambda c: record(c, idle.wall(), "cli:me", "key.create", "k", {}),
    "a job": lambda idle: lambda c: forget(c, job_of(c, ("default", "job")), idle.wall()),
    "another replica": lambda idle: lambda c: beat(c, "other", idle.wall(), idle.wall() + 15),
}


@pytest.mark.parametrize("news", NEWS)
async def test_what_another_process_changes_is_known_a_second_later(idle: Idle, ledger_url: str, news: str) -> None:
    job = await idle.begin_job()
    await idle.second()
    await idle.second()
    other = open_engine(ledger_url)
    await other.write(NEWS[news](idle))
    await other.close()
    await idle.second()
    known = {
        "a key": "k" in idle.keys,
        "an audit record": any(event["event"] == "audit" and event["subject"] == "k" for event in idle.log),
        "a job": job.is_gone,
        "another replica": not idle.registry.is_alone,
    }
    assert [name for name, is_known in known.items() if is_known] == [news]


async def test_a_replica_that_hears_that_nothing_is_new_serves_what_it_knows(idle: Idle, ledger_url: str) -> None:
    """Others may have deleted a job: who has not heard for two seconds looks it up first."""
    idle.configure(shapes={"default": {"delete": {"method": "POST", "path": "/clear/{id}"}}})
    job = await idle.begin_job()
    other = open_engine(ledger_url)
    await other.write(lambda c: beat(c, "other", idle.wall(), idle.wall() + 15))
    await other.close()
    for _ in range(5):
        await idle.second()
        assert idle.registry.is_sure(job)
    idle.seconds += 1.9
    assert idle.registry.is_sure(job)
    idle.seconds += 0.2
    assert not idle.registry.is_sure(job)


async def test_a_result_expires_by_time_alone(idle: Idle) -> None:
    await idle.begin_job()
    await idle.engine.write(lambda c: end(c, ("default", "job"), 1, idle.wall(), 100, failed=False))
    await idle.second()
    idle.seconds += 97.0
    await idle.second()
    assert await idle.state_of() == JobState.COMPLETE
    await idle.second()
    assert await idle.state_of() == JobState.GONE


async def test_a_webhook_is_due_by_time_alone(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: list[float] = []

    async def parts_now() -> None:
        claimed.append(idle.seconds)

    monkeypatch.setattr(idle.dispatcher, "_parts_now", parts_now)
    at = idle.seconds + 10
    later = idle.wall() + 10
    wanted = Planned("d1", "default", "job-d1", "o", "https://hooks.test/", "hooks.test:443", None)
    await idle.engine.write(lambda c: plan(c, wanted, idle.wall()))
    await idle.engine.write(lambda c: make_due(c, "default", "job-d1", "complete", later))
    for _ in range(12):
        await idle.second()
    assert claimed == [at, at + 1, at + 2]  # and again, until it is claimed
