"""Fifty clients in three processes at one account: exactly what fits is sold, and nobody waits for ever."""

import asyncio
import json

import pytest
from sqlalchemy import Connection, func, select

from gateway.ledger.engine import Engine
from gateway.ledger.reservations import admit, cancel
from gateway.ledger.schema import Stage, reservations
from tests.support.ledgers import NOON, Script, assert_sound, make_claim, make_profile

CLIENTS = """
import asyncio, json, sys
from collections import Counter
from functools import partial
from gateway.ledger.reservations import accept, admit, cancel, reserve
from gateway.limits.submit_decisions import Ask
from tests.support.endings import settle
from tests.support.ledgers import make_claim, make_profile, open_engine

url, name, clients, turns, now, pages, keeps, limits = json.loads(sys.argv[1])
profile = make_profile(**limits)
told = Counter()
inflight = most = 0

async def client(engine, number):
    for turn in range(turns):
        claim = make_claim(f"{name}-{number}-{turn}")
        outcome = await engine.write(lambda c: admit(c, claim, profile, now, now + 60))
        if outcome.denial is not None:
            told[outcome.denial.reason.value] += 1
            continue
        told["admitted"] += 1
        outcome = await engine.write(lambda c: reserve(c, claim, profile, Ask(pages, 3, "fast"), now, now + 60))
        if outcome.denial is not None:
            told[outcome.denial.reason.value] += 1
            await engine.write(lambda c: cancel(c, claim, now))
            continue
        told["reserved"] += 1
        if keeps:
            continue
        await engine.write(lambda c: accept(c, claim, claim.id, now + 3600))
        await engine.write(lambda c: settle(c, claim.account, claim.id, pages - 1, now, failed=False))

async def main():
    engine = open_engine(url, 60.0)
    await engine.read(lambda c: None)
    print("ready")
    sys.stdin.readline()
    await asyncio.gather(*(client(engine, number) for number in range(clients)))
    await engine.close()
    print(json.dumps(told))

asyncio.run(main())
"""
SHARES = (17, 17, 16)


def race(url: str, turns: int, pages: int, *, keeps: bool, **limits: int) -> dict[str, int]:
    """What fifty clients were told, added up."""
    scripts = [
        Script(CLIENTS, json.dumps([url, f"p{number}", clients, turns, NOON, pages, keeps, limits]))
        for number, clients in enumerate(SHARES)
    ]
    for script in scripts:
        assert script.line() == "ready"
    for script in scripts:
        script.tell()
    total: dict[str, int] = {}
    for script in scripts:
        (line,) = script.rest()
        for word, count in json.loads(line).items():
            total[word] = total.get(word, 0) + count
        script.__exit__(None, None, None)
    return total


def reserved_pages(connection: Connection) -> int:
    live = reservations.c.stage == Stage.RESERVED
    return int(connection.execute(select(func.coalesce(func.sum(reservations.c.pages), 0)).where(live)).scalar_one())


@pytest.mark.parametrize(
    ("limits", "sold"),
    [
        ({"pages_per_day": 100}, 33),
        ({"pages_per_month": 61}, 20),
        ({"pages_in_flight": 50}, 16),
        ({"spend_per_month": 100}, 11),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_no_page_is_sold_twice(engine: Engine, ledger_url: str, limits: dict[str, int], sold: int) -> None:
    told = await asyncio.to_thread(race, ledger_url, 1, 3, keeps=True, **limits)
    assert told["reserved"] == sold
    assert told["reserved"] + sum(told.get(word, 0) for word in told if word not in {"reserved", "admitted"}) == 50
    assert await engine.read(reserved_pages) == sold * 3
    await engine.read(assert_sound)


@pytest.mark.parametrize(
    ("limits", "sold"),
    [({"concurrent_requests": 9}, 9), ({"requests_per_minute": 23}, 23), ({"requests_per_day": 31}, 31)],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_no_place_is_sold_twice(engine: Engine, ledger_url: str, limits: dict[str, int], sold: int) -> None:
    told = await asyncio.to_thread(race, ledger_url, 1, 1, keeps=True, **limits)
    assert told["admitted"] == told["reserved"] == sold
    await engine.read(assert_sound)


async def test_whole_lives_at_once_leave_exact_counts(engine: Engine, ledger_url: str) -> None:
    """Each job reserves 3 and costs 2: the budget is sold in full, and not a page more."""
    limits = {"pages_per_day": 121, "concurrent_requests": 20, "pages_in_flight": 30}
    told = await asyncio.to_thread(race, ledger_url, 4, 3, keeps=False, **limits)
    assert told["reserved"] <= 60
    await engine.read(assert_sound)
    profile = make_profile(pages_per_day=121)
    outcome = await engine.write(lambda c: admit(c, make_claim("last"), profile, NOON + 60, NOON + 120))
    assert outcome.before.day.pages == told["reserved"] * 2
    assert outcome.before.concurrent == outcome.before.pages_in_flight == 0
    await engine.write(lambda c: cancel(c, make_claim("last"), NOON + 60))
