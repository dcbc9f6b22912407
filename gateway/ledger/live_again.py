"""What was ended in a ledger and is live again once an older one has taken its place."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, or_, select

from gateway.ledger.schema import blocks, keys, secrets


class Revived(NamedTuple):
    """One secret, key or caller, by `kind`; `how` it was ended, and when, in seconds since the epoch.

    `name` is the key's id, or the caller's account; `generation` is of a secret.
    """

    kind: str
    name: str
    generation: int | None
    how: str
    at: int


class Ended(NamedTuple):
    """Secrets that are over, by their digests; keys that are disabled and callers that are blocked, by name."""

    secrets: Mapping[bytes, Revived]
    keys: Mapping[str, Revived]
    callers: Mapping[str, Revived]


class LiveAgain(NamedTuple):
    """How many of each are live again, and which."""

    secrets: int
    keys: int
    callers: int
    which: tuple[Revived, ...] = ()


def ended_in(connection: Connection, now: float) -> Ended:
    """What is ended at a moment, in seconds since the epoch."""
    over = secrets.c.not_after <= int(now)
    return Ended(
        {
            row.digest: _secret(row, now)
            for row in connection.execute(select(secrets).where(or_(secrets.c.revoked_at.is_not(None), over)))
        },
        {
            row.id: Revived("key", row.id, None, "disabled", row.disabled_at)
            for row in connection.execute(
                select(keys.c.id, keys.c.disabled_at).where(keys.c.disabled_at.is_not(None))
            )
        },
        {
            row.account: Revived("caller", row.account, None, "blocked", row.created_at)
            for row in connection.execute(select(blocks))
        },
    )


def live_again(before: Ended, connection: Connection, now: float) -> LiveAgain:
    """What was ended before and no longer is."""
    after = ended_in(connection, now)
    secrets_there = set(connection.execute(select(secrets.c.digest)).scalars())
    keys_there = set(connection.execute(select(keys.c.id)).scalars())
    found = (
        [before.secrets[digest] for digest in (before.secrets.keys() & secrets_there) - after.secrets.keys()],
        [before.keys[key_id] for key_id in (before.keys.keys() & keys_there) - after.keys.keys()],
        [before.callers[account] for account in before.callers.keys() - after.callers.keys()],
    )
    which = tuple(one for some in found for one in sorted(some))
    return LiveAgain(len(found[0]), len(found[1]), len(found[2]), which)


def _secret(row: Any, now: float) -> Revived:
    if row.revoked_at is not None and row.revoked_at <= now:
        return Revived("secret", row.key_id, row.generation, "revoked", row.revoked_at)
    ends = row.not_after if row.not_after is not None else row.revoked_at
    return Revived("secret", row.key_id, row.generation, "ended", ends)
