"""Checkpoints from containers: each belongs to the owner that received it. Each function is one transaction."""

from typing import Any, Final

from sqlalchemy import Connection, Insert, delete, select

from gateway.ledger.composite_keys import is_one_of
from gateway.ledger.schema import checkpoints
from gateway.ledger.upserts import Upsert

_AT_ONCE: Final = 1000
_KEY: Final = [checkpoints.c.upstream, checkpoints.c.checkpoint, checkpoints.c.owner]


def _or_prolong(statement: Any) -> Insert:
    prolonged: Insert = statement.on_conflict_do_update(
        index_elements=_KEY, set_={"expires_at": statement.excluded.expires_at}
    )
    return prolonged


_INSERT: Final = Upsert(checkpoints, _or_prolong)


def note(connection: Connection, upstream: str, checkpoint: str, owner: str, expires_at: float) -> None:
    """Records that an owner received a checkpoint and may use it until `expires_at`, in seconds since the epoch."""
    row = {"upstream": upstream, "checkpoint": checkpoint, "owner": owner, "expires_at": int(expires_at)}
    connection.execute(_INSERT.for_(connection), row)


def is_owned(connection: Connection, upstream: str, checkpoint: str, owner: str, now: float) -> bool:
    """Whether this owner may use a checkpoint now."""
    found = select(checkpoints.c.owner).where(
        checkpoints.c.upstream == upstream,
        checkpoints.c.checkpoint == checkpoint,
        checkpoints.c.owner == owner,
        checkpoints.c.expires_at > int(now),
    )
    return connection.execute(found).first() is not None


def purge(connection: Connection, now: float) -> int:
    """Deletes expired checkpoints, a batch at a time; returns how many."""
    is_over = checkpoints.c.expires_at <= int(now)
    over = (
        select(*_KEY)
        .where(is_over)
        .order_by(checkpoints.c.expires_at)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    rows = [tuple(row) for row in connection.execute(over)]
    if rows:
        connection.execute(delete(checkpoints).where(is_one_of(_KEY, rows)))
    return len(rows)
