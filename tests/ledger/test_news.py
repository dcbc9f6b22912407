"""news.py: whoever asks each second is told that nothing has changed, and never that when something has."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.errors import LedgerUnavailable
from gateway.ledger import news
from gateway.ledger.engine import Engine
from gateway.ledger.keys import NewKeyRow, create
from gateway.ledger.ledger import Ledger
from gateway.ledger.news import Question
from tests.support.ledgers import DEADLINE, NOON, Faulty, open_engine

PAIRS = 50  # on a server of others something may change at any moment


async def state(ledger: Ledger) -> object:
    return (await ledger.version()).state


async def make(engine: Engine, name: str) -> None:
    await engine.write(lambda c: create(c, NewKeyRow(name, "p", "o"), name.encode().ljust(32), NOON))


async def test_the_version_stays_while_nothing_changes(ledger: Ledger) -> None:
    assert any([await state(ledger) == await state(ledger) for _ in range(PAIRS)])


async def test_it_differs_after_each_change_whoever_makes_it(engine: Engine, ledger_url: str) -> None:
    ledger, other = Ledger(engine), open_engine(ledger_url)
    seen = [await state(ledger)]
    for number, by in enumerate((engine, other, engine, other)):
        await make(by, f"k{number}")
        seen.append(await state(ledger))
    assert len(set(seen)) == len(seen)
    await other.close()


async def test_what_is_not_committed_yet_changes_it_when_it_is(engine: Engine) -> None:
    ledger, under_way, go_on = Ledger(engine), asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        create(connection, NewKeyRow("slow", "p", "o"), b"slow".ljust(32), NOON)
        loop.call_soon_threadsafe(under_way.set)
        if connection.dialect.name == "sqlite":
            go_on.wait(DEADLINE)
        else:  # the loop itself runs it
            connection.execute(text("SELECT pg_sleep(0.5)"))

    writing = loop.create_task(engine.write(work))
    await under_way.wait()
    before = await state(ledger)
    assert not writing.done()
    go_on.set()
    await writing
    assert await state(ledger) != before


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_another_file_in_its_place_is_another_version(ledger_url: str, engine: Engine, tmp_path: Path) -> None:
    ledger, path = Ledger(engine), Path(ledger_url.removeprefix("sqlite:///"))
    before = await state(ledger)
    with closing(sqlite3.connect(path)) as there, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        there.backup(copy)
    await asyncio.to_thread((tmp_path / "copy").replace, path)
    assert await state(ledger) != before


async def test_who_asks_at_the_same_moment_asks_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "TOGETHER", 60.0)
    faulty, reads = Faulty(engine), 0
    read = faulty.read

    async def counted(work: Any, *, in_turn_of: str = "") -> Any:
        nonlocal reads
        reads += 1
        return await read(work, in_turn_of=in_turn_of)

    faulty.read = counted  # type: ignore[method-assign]
    ledger = Ledger(faulty)
    found = await asyncio.gather(*(ledger.version() for _ in range(10)))
    assert (reads, len({version.state for version in found})) == (1, 1)
    await ledger.version()
    assert reads == 2


async def test_a_question_that_waits_answers_nobody_who_comes_later(engine: Engine) -> None:
    """It may have been answered before what the second one wants to know."""
    faulty, goes_on = Faulty(engine), asyncio.Event()
    read = faulty.read

    async def slow(work: Any, *, in_turn_of: str = "") -> Any:
        found = await read(work, in_turn_of=in_turn_of)
        await goes_on.wait()
        return found

    faulty.read = slow  # type: ignore[method-assign]
    ledger = Ledger(faulty)
    early = asyncio.ensure_future(ledger.version())
    await asyncio.sleep(0.1)
    await make(engine, "k")
    late = asyncio.ensure_future(ledger.version())
    await asyncio.sleep(0.1)
    goes_on.set()
    assert (await early).state != (await late).state


async def test_the_age_is_that_of_who_asked_first(ledger: Ledger) -> None:
    first = asyncio.ensure_future(ledger.version())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(ledger.version())
    assert (await first).age == 0.0
    assert 0.0 <= (await second).age <= 0.02


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_an_answer_holds_until_something_changes_or_its_time_comes(engine: Engine) -> None:
    ledger = Ledger(engine)
    question = Question(ledger.version)
    assert await question.is_open(5.0)
    assert await question.is_open(5.0)  # nobody has answered it
    question.mark_answered(until=7.0)
    assert not await question.is_open(6.9)
    assert await question.is_open(7.0)
    question.mark_answered()
    assert not await question.is_open(1e12)
    await make(engine, "k")
    assert await question.is_open(5.0)
    question.mark_answered()
    question.reopen()
    assert await question.is_open(5.0)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_what_changes_while_the_answer_is_read_opens_it_again(engine: Engine) -> None:
    question = Question(Ledger(engine).version)
    assert await question.is_open()
    await make(engine, "k")
    question.mark_answered()
    assert await question.is_open()


async def test_nobody_is_told_that_nothing_is_new_while_the_ledger_is_away(engine: Engine) -> None:
    faulty = Faulty(engine)
    ledger = Ledger(faulty)
    question = Question(ledger.version)
    await question.is_open()
    question.mark_answered()
    faulty.is_away = True
    found = await asyncio.gather(*(question.is_open() for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in found] == [LedgerUnavailable] * 3
    assert ledger.problem is not None
