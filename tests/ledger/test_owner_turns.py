"""Owners in turn: nobody waits behind another's queue, and none runs more than its share."""

import asyncio
from pathlib import Path

from sqlalchemy import Connection

from gateway.ledger.owner_turns import OwnerTurns
from gateway.ledger.sqlite import SqliteEngine
from tests.support.ledgers import beat
from tests.support.waiting import eventually


def test_owners_are_served_in_turn_each_in_its_order() -> None:
    turns: OwnerTurns[int] = OwnerTurns(9)
    for number in range(4):
        turns.put("loud", number)
    turns.put("quiet", 10)
    assert len(turns) == 5
    found = [turns.take() for _ in range(6)]
    assert found == [("loud", 0), ("quiet", 10), ("loud", 1), ("loud", 2), ("loud", 3), None]


def test_none_runs_more_than_its_share() -> None:
    turns: OwnerTurns[int] = OwnerTurns(2)
    for number in range(3):
        turns.put("a", number)
    assert [turns.take() for _ in range(3)] == [("a", 0), ("a", 1), None]
    turns.finish("a")
    assert turns.take() == ("a", 2)
    for _ in range(2):
        turns.finish("a")
    assert repr(turns) == "<OwnerTurns waiting=0 owners_running=0>"


async def test_the_writer_of_sqlite_serves_a_quiet_account_before_the_rest_of_a_loud_ones(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "ledger.db", 30)
    await engine.write(lambda _: None)
    order: list[str] = []
    begun, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(connection: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)
        beat(connection)

    waiting = [asyncio.ensure_future(engine.write(first, in_turn_of="loud"))]
    await asyncio.wait_for(begun.wait(), 30)
    waiting += [
        asyncio.ensure_future(engine.write(lambda _, name=f"{of}": order.append(name), in_turn_of=of))  # type: ignore[misc]
        for of in ["loud"] * 50 + [f"key:{number}" for number in range(5)] + ["quiet"]
    ]
    await eventually(lambda: "to_write=56 " in repr(engine))
    go.set()
    await asyncio.gather(*waiting)
    assert order.index("quiet") <= 6
    await engine.close()
