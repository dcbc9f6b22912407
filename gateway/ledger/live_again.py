"""What was ended in a ledger and is live again once an older one has taken its place."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, or_, select

from gateway.ledger.schema import blocks, keys, secrets


class Ended(NamedTuple):
    """Secrets that are over, by their digests; keys that are disabled and callers that are blocked, by name."""

    secrets: frozenset[bytes]
    keys: frozenset[str]
    callers: frozenset[str]


class LiveAgain(NamedTuple):
    """How many of each are live again."""

    secrets: int
    keys: int
    callers: int


def ended_in(connection: Connection, now: float) -> Ended:
    """What is ended at a moment, in seconds since the epoch."""
    is_over = or_(secrets.c.revoked_at.is_not(None), secrets.c.not_after <= int(now))
    return Ended(
        _set(connection, select(secrets.c.digest).where(is_over)),
        _set(connection, select(keys.c.id).where(keys.c.disabled_at.is_not(None))),
        _set(connection, select(blocks.c.account)),
    )


def live_again(before: Ended, connection: Connection, now: float) -> LiveAgain:
    """How much of what was ended before is ended no more."""
    after = ended_in(connection, now)
    secrets_there = _set(connection, select(secrets.c.digest))
    keys_there = _set(connection, select(keys.c.id))
    return LiveAgain(
        len((before.secrets & secrets_there) - after.secrets),
        len((before.keys & keys_there) - after.keys),
        len(before.callers - after.callers),
    )


def _set(connection: Connection, query: Select[Any]) -> frozenset[Any]:
    return frozenset(connection.execute(query).scalars())
