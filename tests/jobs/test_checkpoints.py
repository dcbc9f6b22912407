"""What is remembered of checkpoints, and whose turn a question to the ledger takes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from gateway.aio.background import Background
from gateway.errors import OwnerWaited, Refused
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.job import Job
from gateway.ledger.engine import Engine
from gateway.ledger.ledger import Ledger
from gateway.ledger.replica import Replica
from gateway.model.jobs import JobRef
from gateway.upstream.job_api import JobShape
from tests.support.ledgers import NOON, Faulty
from tests.support.waiting import eventually

T = TypeVar("T")
LONG = 30.0


class Heard(Faulty):
    """An engine that tells whose turns were taken."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.turns: list[str] = []

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        self.turns.append(in_turn_of)
        return await super().write(work, durable=durable, in_turn_of=in_turn_of)

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        self.turns.append(in_turn_of)
        return await super().read(work, in_turn_of=in_turn_of)


class Late(Faulty):
    """An engine at which an owner's turns do not come for a while."""

    late_owner = ""

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        if in_turn_of == self.late_owner:
            raise OwnerWaited("no turn within ledger.turn_timeout")
        return await super().write(work, durable=durable, in_turn_of=in_turn_of)


class Busy(Faulty):
    """An engine at which some owners wait for their turns, twice until all of them do, and always in vain."""

    def __init__(self, engine: Engine, owners: frozenset[str]) -> None:
        super().__init__(engine)
        self.owners = owners
        self.rounds = 0
        self._all_wait = asyncio.Barrier(len(owners))

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        if in_turn_of not in self.owners:
            return await super().write(work, durable=durable, in_turn_of=in_turn_of)
        if self.rounds < 2:
            place = await self._all_wait.wait()
            self.rounds += place == 0
        raise OwnerWaited("no turn within ledger.turn_timeout")


def made(engine: Faulty, background: Background, wall: Callable[[], float] = lambda: NOON) -> Checkpoints:
    return Checkpoints(Replica("me", Ledger(engine), wall, background), lambda: 10.0)


def job(owner: str = "key:ci") -> Job:
    no: frozenset[str] = frozenset()
    shape = JobShape("default", "request_id", None, None, "{path}/{id}", "status", no, no, no, None, None, None)
    return Job(JobRef("default", "job-1", "r1"), owner, shape, "/api/v1/marker", NOON)


async def test_what_could_not_be_written_down_is_once_the_ledger_is_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    faulty, background = Faulty(engine), Background()
    faulty.is_away = True
    known = made(faulty, background)
    for name in ("a", "b", "c"):
        known.record(job(), name)
    await eventually(lambda: faulty.writes > 5)  # each once, and the first of them again
    await known.check("default", "a", "key:ci")  # whom it was shown may use it meanwhile
    faulty.is_away = False
    await background.close(LONG)
    other = made(Faulty(engine), Background())
    for name in ("a", "b", "c"):
        await other.check("default", name, "key:ci")
    with pytest.raises(Refused):
        await other.check("default", "a", "key:other")


async def test_what_waits_to_be_written_down_is_bounded_and_what_is_over_is_not_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    monkeypatch.setattr("gateway.jobs.checkpoints.MAX", 2)
    faulty, background, now = Faulty(engine), Background(), [NOON]
    faulty.is_away = True
    known = made(faulty, background, lambda: now[0])
    with capture_logs() as logs:
        for name in ("a", "b", "c"):
            known.record(job(), name)
        await eventually(lambda: faulty.writes > 3)
    assert sum(log["event"].startswith("a checkpoint could not") for log in logs) == 1
    now[0] += 11
    faulty.is_away = False
    writes = faulty.writes
    await background.close(LONG)
    assert faulty.writes - writes <= 1


async def test_an_owner_that_fills_what_may_wait_leaves_others_their_part(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    monkeypatch.setattr("gateway.jobs.checkpoints.MAX", 2)
    faulty, background = Faulty(engine), Background()
    faulty.is_away = True
    known, other = made(faulty, background), made(Faulty(engine), Background())
    for name in ("a", "b", "c"):
        known.record(job(owner="key:many"), name)
    known.record(job(), "d")
    await eventually(lambda: faulty.writes > 4)
    faulty.is_away = False
    await background.close(LONG)
    await other.check("default", "b", "key:many")
    await other.check("default", "d", "key:ci")
    with pytest.raises(Refused):
        await other.check("default", "c", "key:many")


async def test_one_that_can_not_be_written_at_all_stops_no_later_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    faulty, background = Faulty(engine), Background()
    faulty.faults = ["before", "odd"]
    known = made(faulty, background)
    with capture_logs() as logs:
        known.record(job(), "a")
        await eventually(lambda: "running=0" in repr(background))
    assert logs[-1]["event"] == "a checkpoint could not be written down"
    faulty.faults = ["before"]
    known.record(job(), "b")
    await background.close(LONG)
    await made(Faulty(engine), Background()).check("default", "b", "key:ci")


async def test_an_owner_whose_turns_do_not_come_holds_up_no_other_s(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest was tried again and again, for as long as its owner's transactions waited in vain."""

    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    late, background = Late(engine), Background()
    late.faults, late.late_owner = ["before"], "key:many"
    known, other = made(late, background), made(Faulty(engine), Background())
    for name in ("a", "b"):
        known.record(job(owner="key:many"), name)
    known.record(job(), "c")
    await eventually(lambda: late.writes > 1)
    late.late_owner = ""
    await background.close(LONG)
    for name, owner in (("a", "key:many"), ("b", "key:many"), ("c", "key:ci")):
        await other.check("default", name, owner)


async def test_owners_whose_turns_do_not_come_are_waited_for_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was waited for in its turn, some seconds: of hundreds the last one's waited for a quarter of an hour."""
    monkeypatch.setattr("gateway.jobs.checkpoints.PAUSE", 0.01)
    owners = frozenset(f"key:{number}" for number in range(5))
    busy, background = Busy(engine, owners), Background()
    known, other = made(busy, background), made(Faulty(engine), Background())
    for owner in sorted(owners):
        known.record(job(owner=owner), "cp")
    await eventually(lambda: busy.rounds == 2)
    busy.owners = frozenset()
    await background.close(LONG)
    for owner in sorted(owners):
        await other.check("default", "cp", owner)


async def test_an_owner_s_checkpoints_take_his_own_turns_and_not_those_of_the_gateway_s_upkeep(
    engine: Engine,
) -> None:
    """Else whoever submits with many would keep everybody's reservations from being renewed."""
    heard = Heard(engine)
    background = Background()
    known = made(heard, background)
    with pytest.raises(Refused):
        await known.check("default", "cp", "key:ci")
    known.record(job(), "cp")
    await background.close(LONG)
    assert heard.turns == ["key:ci"] * 3


async def test_a_checkpoint_that_another_replica_writes_down_meanwhile_is_its_owners(engine: Engine) -> None:
    """It is named to its owner before that, so its owner may be faster."""
    background, heard = Background(), Heard(engine)
    here, there = made(heard, Background()), made(Faulty(engine), background)
    check = asyncio.ensure_future(here.check("default", "cp", "key:ci"))
    await eventually(lambda: len(heard.turns) == 1)
    there.record(job(), "cp")
    await background.close(LONG)
    await check
