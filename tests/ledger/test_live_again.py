"""What was ended and is live again: by the secrets themselves, with how and when they were ended."""

from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

from gateway.ledger.callers import block, unblock
from gateway.ledger.engine import Engine
from gateway.ledger.keys import change_key, create, revoke, rotate
from gateway.ledger.live_again import Ended, LiveAgain, Revived, ended_in, live_again
from gateway.ledger.schema import keys, secrets
from tests.support.ledgerkeys import NOW, digest, make, new
from tests.support.ledgers import NOON

LATER = NOON + 60
NOTHING = LiveAgain(0, 0, 0)


def revive(connection: Connection, key_id: str, **values: Any) -> None:
    """As an older ledger has it: its secrets have no end, or this one."""
    ends = {"revoked_at": None, "not_after": None, **values}
    connection.execute(update(secrets).where(secrets.c.key_id == key_id).values(**ends))


async def ended(engine: Engine, key_id: str = "ci") -> Ended:
    """What is ended once a key's only secret has been revoked."""
    await make(engine, key_id)
    await engine.write(lambda c: revoke(c, key_id, None, NOON, force=True))
    return await engine.read(lambda c: ended_in(c, LATER))


async def test_each_is_named_with_how_and_when_it_was_ended(engine: Engine) -> None:
    def end(connection: Connection) -> None:
        for name in ("z", "a", "off", "sound"):
            create(connection, new(name), digest(name), NOON)
        for name in ("z", "a"):
            rotate(connection, name, digest(f"{name}2"), 10, NOON, None)
        revoke(connection, "z", 2, NOON + 5, force=True)
        change_key(connection, "off", disabled_at=NOW + 7)
        block(connection, "jwt:i#bad", NOON + 8)
        block(connection, "cert:bad", NOON + 9)

    await engine.write(end)
    before = await engine.read(lambda c: ended_in(c, LATER))

    def go_back(connection: Connection) -> None:
        revive(connection, "z")
        revive(connection, "a")
        change_key(connection, "off", disabled_at=None)
        unblock(connection, "jwt:i#bad")
        unblock(connection, "cert:bad")

    await engine.write(go_back)
    which = (
        Revived("secret", "a", 1, "ended", NOW + 10),
        Revived("secret", "z", 1, "ended", NOW + 10),
        Revived("secret", "z", 2, "revoked", NOW + 5),
        Revived("key", "off", None, "disabled", NOW + 7),
        Revived("caller", "cert:bad", None, "blocked", NOW + 9),
        Revived("caller", "jwt:i#bad", None, "blocked", NOW + 8),
    )
    assert await engine.read(lambda c: live_again(before, c, LATER)) == LiveAgain(3, 1, 2, which)


async def test_what_is_ended_still_is_not_live_again(engine: Engine) -> None:
    before = await ended(engine)
    await engine.write(lambda c: change_key(c, "ci", disabled_at=NOW))
    await engine.write(lambda c: block(c, "cert:bad", NOON))
    both = await engine.read(lambda c: ended_in(c, LATER))
    assert (len(both.secrets), len(both.keys), len(both.callers)) == (1, 1, 1)
    assert await engine.read(lambda c: live_again(before, c, LATER)) == NOTHING
    assert await engine.read(lambda c: live_again(both, c, LATER)) == NOTHING


async def test_what_is_not_there_any_more_is_not_live_again(engine: Engine) -> None:
    """A key that was made after the backup is gone with its secrets."""
    await ended(engine)
    await engine.write(lambda c: change_key(c, "ci", disabled_at=NOW))
    before = await engine.read(lambda c: ended_in(c, LATER))
    await engine.write(lambda c: (c.execute(delete(secrets)), c.execute(delete(keys))))
    assert await engine.read(lambda c: live_again(before, c, LATER)) == NOTHING


async def test_another_secret_of_the_same_key_is_not_the_one_that_was_ended(engine: Engine) -> None:
    before = await ended(engine)
    await engine.write(lambda c: revive(c, "ci", digest=digest("another")))
    assert await engine.read(lambda c: live_again(before, c, LATER)) == NOTHING


@pytest.mark.parametrize(("ends", "is_live"), [(LATER - 1, False), (LATER, False), (LATER + 1, True)])
async def test_a_secret_is_live_until_its_end(ends: float, is_live: bool, engine: Engine) -> None:
    before = await ended(engine)
    await engine.write(lambda c: revive(c, "ci", not_after=int(ends)))
    after = await engine.read(lambda c: live_again(before, c, LATER + 0.5))
    assert after.which == ((Revived("secret", "ci", 1, "revoked", NOW),) if is_live else ())
