"""Whose checkpoints are, on both engines."""

from gateway.ledger.checkpoints import is_owned, note, purge
from gateway.ledger.engine import Engine
from gateway.ledger.schema import checkpoints
from tests.support.ledgers import NOON, rows_of


async def noted(engine: Engine, owner: str, until: float, checkpoint: str = "cp", upstream: str = "default") -> None:
    await engine.write(lambda c: note(c, upstream, checkpoint, owner, until))


async def owned(engine: Engine, owner: str, now: float, checkpoint: str = "cp", upstream: str = "default") -> bool:
    return await engine.read(lambda c: is_owned(c, upstream, checkpoint, owner, now))


async def test_a_checkpoint_is_its_owner_s_until_its_time_is_over(engine: Engine) -> None:
    await noted(engine, "key:ci", NOON + 10)
    assert await owned(engine, "key:ci", NOON + 9)
    assert not await owned(engine, "key:ci", NOON + 10)
    assert not await owned(engine, "key:eve", NOON)
    assert not await owned(engine, "key:ci", NOON, "another")
    assert not await owned(engine, "key:ci", NOON, upstream="another")


async def test_two_owners_may_be_shown_the_same(engine: Engine) -> None:
    await noted(engine, "key:ci", NOON + 10)
    await noted(engine, "key:bob", NOON + 20)
    assert [await owned(engine, owner, NOON + 15) for owner in ("key:ci", "key:bob")] == [False, True]


async def test_what_is_shown_again_is_kept_for_longer(engine: Engine) -> None:
    await noted(engine, "key:ci", NOON + 10)
    await noted(engine, "key:ci", NOON + 20)
    assert await owned(engine, "key:ci", NOON + 15)


async def test_what_is_over_is_deleted(engine: Engine) -> None:
    for number in range(3):
        await noted(engine, "key:ci", NOON + number, f"cp-{number}")
    assert await engine.write(lambda c: purge(c, NOON + 1)) == 2
    assert [row["checkpoint"] for row in await engine.read(lambda c: rows_of(c, checkpoints))] == ["cp-2"]
