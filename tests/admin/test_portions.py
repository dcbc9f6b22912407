"""A long answer is made in several iterations of the loop."""

import asyncio
import time
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.admin import callers, keys, views, watching
from gateway.admin.context import Call, Context
from gateway.admin.portions import convert_all
from gateway.aio.iteration import Iteration
from gateway.keys.callers import ShownCaller
from gateway.keys.key_changes import KeysPage
from gateway.ledger.callers import CallerRow
from gateway.ledger.usage import GrantRow
from gateway.limits.quotas import AccountCounts
from gateway.model.keys import KeyRecord
from tests.support.turns import Turns


def iteration_of(clock: Callable[[], float]) -> Iteration:
    return Iteration(clock, asyncio.get_running_loop().call_soon)


async def test_a_long_answer_lets_others_go_on() -> None:
    loop, converted, seen = asyncio.get_running_loop(), list[int](), list[int]()

    def look() -> None:
        seen.append(len(converted))
        loop.call_soon(look)

    def convert(row: int) -> str:
        converted.append(row)
        return str(row)

    loop.call_soon(look)
    found = await convert_all(range(170), convert, iteration_of(lambda: 0.0))
    look = lambda: None  # noqa: E731 -- it calls itself no more
    assert found == [str(row) for row in range(170)]
    assert list(dict.fromkeys(seen))[:3] == [50, 100, 150]


async def test_nothing_is_converted_to_nothing() -> None:
    assert await convert_all([], str, iteration_of(lambda: 0.0)) == []


async def test_a_portion_of_costly_rows_ends_by_time_and_has_one_row_at_least() -> None:
    loop, converted, seen, now = asyncio.get_running_loop(), list[float](), list[int](), 0.0

    def look() -> None:
        seen.append(len(converted))
        loop.call_soon(look)

    def convert(seconds: float) -> None:
        nonlocal now
        now += seconds
        converted.append(seconds)

    loop.call_soon(look)
    await convert_all([0.0005] * 8 + [1.0] * 3 + [0.0] * 60, convert, iteration_of(lambda: now))
    look = lambda: None  # noqa: E731 -- it calls itself no more
    assert list(dict.fromkeys(seen))[:6] == [4, 8, 9, 10, 11, 61]


async def test_lists_that_are_made_at_once_share_an_iteration() -> None:
    """Sixty took two milliseconds each, in each iteration."""
    passed, turns = count(), Turns()
    iteration = iteration_of(lambda: next(passed) * 0.0005)

    def convert(row: int) -> int:
        turns.note()
        return row

    lists = [convert_all(range(20), convert, iteration) for _ in range(60)]
    found = await asyncio.wait_for(asyncio.gather(*lists), 10)
    assert found == [list(range(20))] * 60
    assert turns.most() <= 12  # 240 when each had its own time


class Counted(list[Any]):
    """Counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Any:
        self.times += 1
        return super().__iter__()


async def test_the_keys_of_the_file_are_gone_through_once_for_a_list() -> None:
    in_file = Counted(SimpleNamespace(id=f"k{number}") for number in range(0, 100, 2))
    settings = SimpleNamespace(keys=in_file, profiles={})
    page = KeysPage([KeyRecord(f"k{number}", "p", "o", 1, 1) for number in range(100)], {}, {})

    async def found(*_: Any, **__: Any) -> KeysPage:
        return page

    context = SimpleNamespace(
        keys=SimpleNamespace(page=found),
        live=SimpleNamespace(state=SimpleNamespace(settings=settings, profiles={})),
        wall=time.time,
        iteration=iteration_of(time.perf_counter),
    )
    query = SimpleNamespace(limit=100, after=None, q=None, near=False, standing=False)
    answer = await keys.list_keys(cast("Context", context), cast("Call", SimpleNamespace(query=query)))
    assert [key.state for key in answer.keys] == ["in the file, too", "without a profile"] * 50
    assert in_file.times == 1


async def test_refusals_are_searched_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()

    class Words(str):
        """Notes when it is searched."""

        __slots__ = ()

        def __contains__(self, text: object) -> bool:
            turns.note()
            return str(text) in str(self)

    monkeypatch.setattr(watching, "_words", lambda row: Words(row.who))
    rows = [SimpleNamespace(who=f"who {number}", last_at=number) for number in range(170)]
    seen = SimpleNamespace(refusals=lambda: rows, dropped=0)
    watch = SimpleNamespace(seen=seen, started_at=0.0)
    context = SimpleNamespace(watch=watch, iteration=iteration_of(time.perf_counter))
    query = SimpleNamespace(q="nobody", limit=10)
    answer = await watching.refusals(cast("Context", context), cast("Call", SimpleNamespace(query=query)))
    assert (answer.refusals, answer.is_complete, turns.done.total()) == ([], True, 170)
    assert turns.most() <= 50


async def _given(value: Any) -> Any:
    return value


@pytest.mark.parametrize("of", [keys, callers])
@pytest.mark.parametrize("what", ["show", "end_grants"])
async def test_thousands_of_grants_are_told_in_portions(of: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, granted, rows = Turns(), views.granted, [GrantRow(1, 2**31 + number, number) for number in range(170)]

    def told(row: GrantRow) -> Any:
        turns.note()
        return granted(row)

    monkeypatch.setattr(views, "granted", told)
    record = KeyRecord("a", "p", "o", 1, 1)
    of_key = SimpleNamespace(
        show=lambda _: _given((record, AccountCounts(), rows)), end_grants=lambda *_: _given(rows)
    )
    of_caller = SimpleNamespace(
        name_of=str,
        show=lambda _: _given(ShownCaller(CallerRow("jwt:x#y", None, is_known=True), AccountCounts(), rows)),
        end_grants=lambda *_: _given(rows),
    )
    context = SimpleNamespace(
        keys=of_key,
        callers=of_caller,
        live=SimpleNamespace(state=SimpleNamespace(settings=SimpleNamespace(keys=[], profiles={}), profiles={})),
        watch=SimpleNamespace(seen=SimpleNamespace(sighting=lambda _: None)),
        apply_changes=lambda: _given(None),
        wall=time.time,
        iteration=iteration_of(time.perf_counter),
    )
    call = SimpleNamespace(subject="a", actor="me", body=SimpleNamespace(grant=None))
    answer = await getattr(of, what)(context, call)
    assert [grant.id for grant in answer.grants] == list(range(170))
    assert turns.most() <= 50
