"""Who is near a limit is found in portions, and once for all who ask within some seconds."""

import asyncio
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin import overview_answers
from gateway.admin.context import Call
from gateway.admin.near import near_limits
from gateway.admin.near_accounts import Found, Near, NearAccounts
from gateway.admin.requests import NearQuery
from gateway.ledger import loop_time, row_portions, usage
from gateway.ledger.engine import Engine
from gateway.ledger.ledger import Ledger
from gateway.ledger.usage import read_counts_of_many, windows_now
from gateway.limits.quotas import AccountCounts, Limit, limits_of
from gateway.model.identity import Profile
from tests.admin.filling import use_of_many
from tests.support.iteration import iteration_now
from tests.support.turns import Turns

TEN = Profile("ten", 1000, pages_per_month=10)
PORTION = 60
NAMES = [f"key:{number:04}" for number in range(300)]


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def near_accounts(ledger: Ledger, known: Any = lambda _: TEN, clock: Any = None) -> NearAccounts:
    return NearAccounts(ledger, known, time.time, clock or Clock(), iteration_now())


async def test_no_portion_of_the_look_holds_the_loop(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.write(lambda c: use_of_many(c, NAMES, 9))
    monkeypatch.setattr("gateway.admin.near_accounts.AT_ONCE", PORTION)
    looked, counted = Turns(), Turns()

    def known(_: str) -> Profile:
        looked.note()
        return TEN

    def limits(*of: Any) -> Any:
        counted.note()
        return limits_of(*of)

    monkeypatch.setattr("gateway.admin.near_accounts.limits_of", limits)
    found = await near_accounts(ledger, known).find()
    assert ([near.account for near in found.near], found.unknown, found.is_complete) == (NAMES, 0, True)
    assert (looked.done.total(), looked.most()) == (300, PORTION)
    assert (counted.done.total(), counted.most()) == (300, 50)


async def test_they_are_put_in_order_as_they_are_found(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All limits of two thousand accounts were sorted at once, at the end: eight milliseconds for all others."""
    for pages in (8, 10, 9):
        await engine.write(partial(use_of_many, names=NAMES[pages - 8 :: 3], pages=pages))
    ranked = Turns()

    def noted(near: Near) -> float:
        ranked.note()
        return near.limit.ratio

    monkeypatch.setattr(Near, "share", property(noted))
    found = await near_accounts(ledger).find()
    assert [near.account for near in found.near] == [*NAMES[2::3], *NAMES[1::3], *NAMES[0::3]]
    assert (ranked.done.total(), ranked.most()) == (300, 50)


async def test_the_rows_of_an_answer_are_made_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them took up to nine milliseconds, right after the look and its order."""
    made, row = Turns(), overview_answers.NearLimit

    def noted(**fields: Any) -> overview_answers.NearLimit:
        made.note()
        return row(**fields)

    async def find() -> Found:
        return Found([Near(name, TEN, Limit("pages_per_month", 10, 9)) for name in NAMES], 0, is_complete=True)

    monkeypatch.setattr(overview_answers, "NearLimit", noted)
    context: Any = SimpleNamespace(near=SimpleNamespace(find=find), iteration=iteration_now())
    told = await near_limits(context, Call("admin", "", None, NearQuery(limit=250), None))
    assert ([row.account for row in told.near], told.total) == (NAMES[:250], 300)
    assert (made.done.total(), made.most()) == (250, 50)


async def test_postgresql_reads_rows_and_counts_in_portions(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.write(lambda c: use_of_many(c, NAMES, 9))
    monkeypatch.setattr(usage, "PORTION", PORTION)
    monkeypatch.setattr(row_portions, "PORTION", PORTION)
    monkeypatch.setattr(loop_time, "SECONDS", 0.0)
    rows, counts, of_row, now = Turns(), Turns(), usage.WindowRow, time.time()

    def row(*values: Any) -> usage.WindowRow:
        rows.note()
        return of_row(*values)

    def count(**values: Any) -> AccountCounts:
        counts.note()
        return AccountCounts(**values)

    monkeypatch.setattr(usage, "WindowRow", row)
    monkeypatch.setattr(usage, "AccountCounts", count)
    seen = await ledger.report(lambda c: windows_now(c, now, 250))
    assert len({window.account for window in seen}) == 250
    found = await ledger.report(lambda c: read_counts_of_many(c, NAMES, now))
    assert sorted(found) == NAMES
    if "Postgres" in type(engine).__name__:  # SQLite has threads
        assert (rows.most(), counts.most()) == (PORTION, PORTION)


async def test_one_look_serves_all_who_ask_within_ten_seconds(engine: Engine, ledger: Ledger) -> None:
    clock = Clock()
    near = near_accounts(ledger, clock=clock)
    await engine.write(lambda c: use_of_many(c, NAMES[:1], 9))
    first, same = await asyncio.gather(near.find(), near.find())
    assert first is same
    await engine.write(lambda c: use_of_many(c, NAMES[:2], 9))
    clock.now = 9.9
    assert await near.find() is first
    clock.now = 10.0
    assert len((await near.find()).near) == 2


async def test_after_a_change_who_asks_is_told_of_it(engine: Engine, ledger: Ledger) -> None:
    near = near_accounts(ledger)
    await engine.write(lambda c: use_of_many(c, NAMES[:1], 9))
    assert len((await near.find()).near) == 1
    await engine.write(lambda c: use_of_many(c, NAMES[:2], 9))
    near.forget()
    assert len((await near.find()).near) == 2


async def test_a_look_that_a_change_overtook_is_not_kept(engine: Engine, ledger: Ledger) -> None:
    asked = list[str]()

    def known(account: str) -> Profile:
        asked.append(account)
        if len(asked) == 1:
            near.forget()
        return TEN

    near = near_accounts(ledger, known)
    await engine.write(lambda c: use_of_many(c, NAMES[:1], 9))
    await near.find()
    await near.find()
    await near.find()
    assert len(asked) == 2


async def test_who_is_not_known_takes_no_place_of_those_who_are_counted(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.admin.near_accounts.MOST_CANDIDATES", 2)
    await engine.write(lambda c: use_of_many(c, NAMES[:5], 10))
    known = dict.fromkeys(NAMES[3:5], TEN).get
    found = await near_accounts(ledger, known).find()
    assert ([near.account for near in found.near], found.unknown, found.is_complete) == (NAMES[3:5], 3, True)
    cut = await near_accounts(ledger).find()
    assert (len(cut.near), cut.is_complete) == (2, False)
