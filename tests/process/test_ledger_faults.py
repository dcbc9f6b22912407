"""kill -9 at any moment: what was committed is there, the counts hold, and what a dead process left is reclaimed.

GATEWAY_TEST_KILLS is how many times as often it is done as by default.
"""

import asyncio
import os
import random
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.ledger.engine import Engine
from gateway.ledger.reservations import overdue
from gateway.ledger.reservations import reclaim as reclaim_of
from gateway.ledger.schema import Stage, accounts, keys, reservations
from tests.support.ledgers import NOON, Script, assert_sound, open_engine

TIMES = int(os.environ.get("GATEWAY_TEST_KILLS", "1"))
KILLS = {"sqlite": 12, "postgresql": 4}
_LEAST = 6  # steps that a process tells of before it is killed
LIVES = """
import asyncio, sys
from gateway.ledger.keys import NewKeyRow, create
from gateway.ledger.reservations import accept, admit, cancel, reserve
from gateway.limits.submit_decisions import Ask
from tests.support.endings import settle
from tests.support.ledgers import NOON, make_claim, make_profile, open_engine

url, name = sys.argv[1:]
profile = make_profile(concurrent_requests=10_000, pages_in_flight=10_000)

async def client(engine, number):
    turn = 0
    while True:
        turn += 1
        claim = make_claim(f"{name}-{number}-{turn}", f"key:{number}")
        ask = Ask(3, 2, "fast")
        if turn % 2:
            await engine.write(lambda c: admit(c, claim, profile, NOON, NOON + 60))
            print("admitted", claim.id)
            await engine.write(lambda c: reserve(c, claim, profile, ask, NOON, NOON + 60))
        else:  # a small one, with its place
            await engine.write(lambda c: admit(c, claim, profile, NOON, NOON + 60, ask))
        print("reserved", claim.id)
        if turn % 5 == 0:
            await engine.write(lambda c: cancel(c, claim, NOON))
            print("refunded", claim.id)
            continue
        await engine.write(lambda c: accept(c, claim, claim.id, NOON + 3600))
        print("accepted", claim.id)
        await engine.write(lambda c: settle(c, claim.account, claim.id, 2, NOON, failed=turn % 3 == 0))
        print("settled", claim.id)
        key = NewKeyRow(claim.id, "p", "o")
        await engine.write(lambda c: create(c, key, claim.id.encode().ljust(32), NOON), durable=True)
        print("key", claim.id)

async def main():
    engine = open_engine(url, 30.0)
    await engine.write(lambda c: None)
    print("ready")
    await asyncio.gather(*(client(engine, number) for number in range(3)))

asyncio.run(main())
"""
STAGES = {
    "admitted": Stage.ADMITTED,
    "reserved": Stage.RESERVED,
    "accepted": Stage.ACCEPTED,
    "settled": Stage.SETTLED,
    "refunded": Stage.REFUNDED,
}


def lives_and_dies(url: str, name: str, seconds: float) -> list[list[str]]:
    """What a process had said when it was killed."""
    with Script(LIVES, url, name) as script:
        assert script.line() == "ready"
        said = [script.line() for _ in range(_LEAST)]
        Event().wait(seconds)
        script.kill()
        while line := script.line():
            said.append(line)
        return [line.split(" ") for line in said if line.count(" ") == 1]


def compare(connection: Connection, said: list[list[str]]) -> None:
    """Each step that was told is there; one that was not told may be."""
    assert_sound(connection)
    stages = {row.id: row.stage for row in connection.execute(select(reservations.c.id, reservations.c.stage))}
    known = set(connection.execute(select(keys.c.id)).scalars())
    for step, name in said:
        if step == "key":
            assert name in known
        else:
            assert stages[name] >= STAGES[step], (step, name)


async def reclaim(engine: Engine) -> None:
    """What the ledger sync of any process does once their time is over."""
    later = NOON + 4000
    while over := await engine.read(lambda c: overdue(c, later)):
        for account in over:
            await engine.write(partial(reclaim_of, account=account, now=later))
    await engine.write(assert_sound)
    rows: list[Any] = await engine.read(lambda c: list(c.execute(select(accounts))))
    assert [(row.concurrent, row.pages_in_flight) for row in rows] == [(0, 0)] * len(rows)


@pytest.mark.timeout(60 + 60 * TIMES)
async def test_no_kill_loses_what_was_committed(ledger_url: str, tmp_path: Path) -> None:
    del tmp_path
    moments = random.Random(ledger_url.partition(":")[0])  # noqa: S311 -- moments, not secrets
    engine = open_engine(ledger_url)
    said: list[list[str]] = []
    for turn in range(KILLS[ledger_url.partition(":")[0]] * TIMES):
        told = await asyncio.to_thread(lives_and_dies, ledger_url, f"p{turn}", moments.uniform(0.0, 0.25))
        assert len(told) >= _LEAST
        said += told
        await engine.write(partial(compare, said=said))
        if turn % 4 == 3:
            await reclaim(engine)  # places that were never used leave no trace
            said = [entry for entry in said if entry[0] != "admitted"]
    await reclaim(engine)
    await engine.close()
