"""What is remembered of checkpoints, and whose turn a question to the ledger takes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from gateway.errors import Refused
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.job import Job
from gateway.jobs.shape import JobShape
from gateway.ledger.engine import Engine
from gateway.ledger.ledger import Ledger
from tests.support.ledgers import NOON, Faulty

T = TypeVar("T")


class Heard(Faulty):
    """An engine that tells whose turns were taken."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.turns: list[str] = []

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, of: str = "") -> T:
        self.turns.append(of)
        return await super().write(work, durable=durable, of=of)

    async def read(self, work: Callable[[Connection], T], *, of: str = "") -> T:
        self.turns.append(of)
        return await super().read(work, of=of)


async def test_an_owner_s_checkpoints_take_his_own_turns_and_not_those_of_the_gateway_s_upkeep(
    engine: Engine,
) -> None:
    """Else whoever submits with many would keep everybody's reservations from being renewed."""
    heard = Heard(engine)
    tasks: list[asyncio.Task[None]] = []
    known = Checkpoints(
        Ledger(heard), lambda: NOON, lambda: 10.0, lambda work: tasks.append(asyncio.ensure_future(work))
    )
    no: frozenset[str] = frozenset()
    shape = JobShape("default", "request_id", None, None, "{path}/{id}", "status", no, no, no, None, None, None)
    with pytest.raises(Refused):
        await known.check("default", "cp", "key:ci")
    known.saw(Job("default", "job-1", "key:ci", shape, "/api/v1/marker", NOON), "cp")
    await asyncio.gather(*tasks)
    assert heard.turns == ["key:ci", "key:ci"]
