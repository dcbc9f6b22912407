"""The trail on a real ledger, on both engines: what is noted is written once and told once, also after an outage."""

import asyncio
import threading
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from gateway.audit.refusals import Refusals
from gateway.audit.trail import AuditTrail
from gateway.config.secrets import Declared, declared_secrets
from gateway.config.settings import Settings
from gateway.errors import LedgerUnavailable
from gateway.jobs.job import Job
from gateway.ledger.audit import record, recorded
from gateway.ledger.engine import Engine
from gateway.ledger.ledger import Ledger, open_ledger
from gateway.model.audit import Action, Entry
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from gateway.observe.log import LogStream, json_line
from tests.jobs.test_job import SHAPE
from tests.support.ledgers import NOON, open_engine
from tests.support.pure import make_settings

ENVIRON = {"TOKEN": "canary-admin-token-0123456789abcdef", "OTHER": "canary-other-token-0123456789abcdef"}


class KeptLog(LogStream):
    """The log, as what it was told."""

    def __init__(self) -> None:
        super().__init__(-1, json_line)
        self.events: list[dict[str, Any]] = []

    def put(self, event: Any) -> None:
        json_line(dict(event))
        self.events.append(dict(event))


class Room:
    """A trail and what it stands on, at a moment that tests set."""

    def __init__(self, ledger: Ledger, settings: Settings, most: int = 100) -> None:
        self.ledger = ledger
        self.settings = settings
        self.now = NOON
        self.log = KeptLog()
        self.refusals = Refusals()
        self.trail = AuditTrail(ledger, lambda: self.settings, self.refusals, self.log, lambda: self.now, most)

    async def entries(self) -> list[Entry]:
        return [found.entry for found in await self.ledger.read(recorded)]

    @property
    def actions(self) -> list[str]:
        return [f"{event['action']} {event['subject']}" for event in self.log.events]


def job(name: str = "j1", owner: str = "key:ci") -> Job:
    return Job(JobRef("default", name, "r1"), owner, SHAPE, "/api/v1/marker", NOON)


@pytest.fixture
def room(engine: Engine, tmp_path: Path) -> Room:
    return Room(Ledger(engine), make_settings(tmp_path, ENVIRON))


@pytest.fixture
def away(tmp_path: Path) -> Room:
    """A trail whose ledger can't be opened: a directory lies in its place."""
    (tmp_path / "taken").mkdir()
    return Room(open_ledger(f"sqlite:///{tmp_path}/taken", 30.0), make_settings(tmp_path, ENVIRON), most=3)


async def test_a_first_read_is_written_and_told_with_who_and_where_from(room: Room) -> None:
    found = job()
    room.trail.read(found, "key:ci", "192.0.2.7")
    room.trail.read(found, "key:other", "192.0.2.8")
    assert found.read_is_noted
    await room.trail.turn(1)
    detail = {"upstream": "default", "owner": "key:ci", "client": "192.0.2.7"}
    assert await room.entries() == [Entry(int(NOON), "key:ci", Action.READ, "j1", detail)]
    (event,) = room.log.events
    assert event == {
        "timestamp": datetime(2026, 11, 23, 12, 0, tzinfo=UTC), "level": "info", "event": "audit",
        "at": "2026-11-23T12:00:00Z", "actor": "key:ci", "action": "job.read", "subject": "j1", "detail": detail,
    }  # fmt: skip
    await room.trail.turn(2)
    assert len(room.log.events) == 1


async def test_refusals_are_written_when_their_minute_is_over_or_at_the_end(room: Room) -> None:
    room.refusals.add(None, Reason.UNAUTHENTICATED, room.now)
    await room.trail.turn(1)
    assert await room.entries() == []
    room.now += 60
    room.refusals.add("ci", Reason.RATE_LIMITED, room.now)
    await room.trail.turn(2)
    assert [entry.actor for entry in await room.entries()] == ["anyone"]
    await room.trail.close(5.0)
    assert [entry.actor for entry in await room.entries()] == ["key:ci", "anyone"]
    assert room.actions == ["request.refused unauthenticated", "request.refused rate_limited"]


async def test_a_secret_of_the_configuration_is_noted_when_it_changes(room: Room, tmp_path: Path) -> None:
    await room.trail.turn(1)
    room.settings = make_settings(tmp_path, ENVIRON, admin={"token": {"env": "TOKEN"}})
    await room.trail.turn(2)
    room.settings = make_settings(tmp_path, ENVIRON, admin={"token": {"env": "OTHER"}})
    await room.trail.turn(3)
    await room.trail.turn(4)
    room.settings = make_settings(tmp_path, ENVIRON)
    await room.trail.turn(5)
    of_token = [action for action in room.actions if "admin.token" in action]
    assert of_token == ["secret.set admin.token", "secret.set admin.token", "secret.removed admin.token"]
    assert "canary" not in str(room.log.events)
    first, second = [event["detail"]["fingerprint"] for event in room.log.events if event["action"] == "secret.set"][
        -2:
    ]
    assert first != second
    assert len(first) == 8


def with_keys(directory: Path, count: int) -> Settings:
    keys = [{"id": f"k{number}", "secret": {"sha256": f"{number:064}"}} for number in range(count)]
    return make_settings(directory, keys=keys)


async def test_thousands_of_secrets_hold_the_loop_for_none_of_it(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 took 30 ms of all requests at the first start: to find them, and to log them."""
    room.settings = with_keys(tmp_path, 500)
    finders: list[threading.Thread] = []

    def found(settings: Settings) -> dict[str, Declared]:
        finders.append(threading.current_thread())
        return declared_secrets(settings)

    monkeypatch.setattr("gateway.audit.trail.declared_secrets", found)
    told: list[int] = []
    turn = asyncio.ensure_future(room.trail.turn(1))
    while not turn.done():
        told.append(len(room.log.events))
        await asyncio.sleep(0)
    await turn
    assert len(room.log.events) == 500
    assert max(after - before for before, after in pairwise(told)) <= 200
    assert threading.main_thread() not in finders


async def test_secrets_that_are_in_the_ledger_are_told_also_when_the_trail_ends(room: Room, tmp_path: Path) -> None:
    room.settings = with_keys(tmp_path, 500)
    turn = asyncio.ensure_future(room.trail.turn(1))
    while not room.log.events:  # noqa: ASYNC110 -- the very turn is what is tested
        await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert len(room.log.events) == len(await room.entries()) == 500


async def test_what_the_command_line_changes_is_told_by_one_replica(
    room: Room, engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    another_engine = open_engine(ledger_url)
    another = Room(Ledger(another_engine), make_settings(tmp_path, ENVIRON))
    await engine.write(lambda c: record(c, NOON, "cli:op", "key.create", "ci", {"profile": "default"}))
    await room.trail.turn(1)
    await another.trail.turn(1)
    await room.trail.turn(2)
    assert room.actions == ["key.create ci"]
    assert another.actions == []
    await another_engine.close()


async def test_a_record_that_the_ledger_cant_keep_stops_no_other(room: Room) -> None:
    for name, actor in (("j1", "key:ci"), ("j2", "key:\0\ud800"), ("j3", "key:ci")):
        room.trail.read(job(name), actor, "192.0.2.7")
    await room.trail.turn(1)
    assert [entry.subject for entry in await room.entries()] == ["j3", "j1"]
    assert room.trail.dropped == 1


async def test_while_the_ledger_is_away_it_waits_up_to_a_bound_and_the_log_has_the_rest(away: Room) -> None:
    for number in range(5):
        away.trail.read(job(f"j{number}"), "key:ci", "192.0.2.7")
    with pytest.raises(LedgerUnavailable):
        await away.trail.turn(1)
    assert away.actions == ["job.read j0", "job.read j1"]
    assert away.trail.dropped == 2
    await away.trail.close(5.0)
    assert away.actions == [f"job.read j{number}" for number in range(5)]
    (metric,) = away.trail.collect()
    assert (metric.name, metric.samples[0].value) == ("gateway_audit_records_dropped", 5)


async def test_what_waited_is_written_once_the_ledger_is_back(away: Room, tmp_path: Path) -> None:
    away.trail.read(job(), "key:ci", "192.0.2.7")
    with pytest.raises(LedgerUnavailable):
        await away.trail.turn(1)
    (tmp_path / "taken").rmdir()
    await away.trail.turn(2)
    assert [entry.subject for entry in await away.entries()] == ["j1"]
    assert (away.actions, away.trail.dropped) == (["job.read j1"], 0)
    await away.ledger.close()


async def test_what_comes_while_some_are_written_pushes_out_none_of_these(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came were then taken for written: neither the ledger nor the log had them, and nobody counted."""
    room = Room(room.ledger, room.settings, most=3)
    write, is_first = room.ledger.write, iter([True])

    async def write_while_more_come(work: Any) -> Any:
        written = await write(work)
        if next(is_first, False):
            for number in range(3, 7):
                room.trail.read(job(f"j{number}"), "key:ci", "192.0.2.7")
        return written

    for number in range(3):
        room.trail.read(job(f"j{number}"), "key:ci", "192.0.2.7")
    monkeypatch.setattr(room.ledger, "write", write_while_more_come)
    await room.trail.turn(1)
    assert sorted(entry.subject for entry in await room.entries()) == ["j0", "j1", "j2"]
    assert sorted(room.actions) == [f"job.read j{number}" for number in range(7)]
    assert room.trail.dropped == 4


async def test_more_than_fits_one_transaction_is_written_whole(room: Room, tmp_path: Path) -> None:
    room = Room(room.ledger, make_settings(tmp_path, ENVIRON), most=1000)
    for number in range(450):
        room.trail.read(job(f"j{number}"), "key:ci", "192.0.2.7")
    await room.trail.turn(1)
    assert len(await room.entries()) == 450
    assert len(room.log.events) == 450


async def test_the_end_waits_for_no_ledger_for_ever(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    room.trail.read(job(), "key:ci", "192.0.2.7")
    monkeypatch.setattr(room.ledger, "write", hangs)
    await room.trail.close(0.01)
    assert room.actions == ["job.read j1"]
    assert room.trail.dropped == 1


async def test_a_short_secret_is_noted_when_a_reload_replaces_it_and_its_fingerprint_is_not_told(
    room: Room, tmp_path: Path
) -> None:
    for secret in ("canary-short-1", "canary-short-2", "canary-short-2"):
        room.settings = make_settings(tmp_path, {"TOKEN": secret}, admin={"token": {"env": "TOKEN"}})
        await room.trail.turn(1)
    of_token = [event for event in room.log.events if event["subject"] == "admin.token"]
    assert [(event["action"], event["detail"]) for event in of_token] == [("secret.set", {}), ("secret.set", {})]


async def test_changes_that_another_replica_is_taking_are_left_to_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.ledger.write(lambda c: record(c, NOON, "cli:op", "key.create", "ci", {}))
    monkeypatch.setattr("gateway.ledger.audit.take_untold", lambda _: [])  # as PostgreSQL skips rows that are locked
    await asyncio.wait_for(room.trail.turn(1), 30)
    assert room.actions == []


async def test_old_records_go(room: Room, tmp_path: Path) -> None:
    await room.ledger.write(lambda c: record(c, NOON - 7200, "cli:op", "key.create", "old", {}))
    room.settings = make_settings(tmp_path, ENVIRON, audit={"keep": "1h"})
    await room.trail.turn(1)
    assert [entry.subject for entry in await room.entries()] == ["old"]
    await room.trail.turn(0)
    async with asyncio.timeout(10):
        while await room.entries():  # noqa: ASYNC110 -- the ledger has no event for it
            await asyncio.sleep(0.01)
    await room.trail.close(1.0)


async def test_records_are_written_though_searches_have_the_turn_of_reports(room: Room) -> None:
    """The purge waits for that turn, and may for a minute."""
    go, asked = asyncio.Event(), asyncio.Event()

    async def slowly(_: Any) -> Any:
        asked.set()
        await go.wait()

    with patch.object(room.ledger, "report", slowly):
        await asyncio.wait_for(room.trail.turn(0), 10)
        await asyncio.wait_for(asked.wait(), 10)
        await asyncio.wait_for(room.trail.turn(1), 10)
        await room.trail.close(1.0)
