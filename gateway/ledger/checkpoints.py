"""Checkpoints from containers: each belongs to the owner that received it. Each function is one transaction."""

from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.ledger.schema import checkpoints

_AT_ONCE: Final = 1000
_KEY: Final = [checkpoints.c.upstream, checkpoints.c.checkpoint, checkpoints.c.owner]
_POSTGRESQL: Final = postgresql.insert(checkpoints)
_SQLITE: Final = sqlite.insert(checkpoints)
_INSERT: Final = {
    "postgresql": _POSTGRESQL.on_conflict_do_update(
        index_elements=_KEY, set_={"expires_at": _POSTGRESQL.excluded.expires_at}
    ),
    "sqlite": _SQLITE.on_conflict_do_update(index_elements=_KEY, set_={"expires_at": _SQLITE.excluded.expires_at}),
}


def note(connection: Connection, upstream: str, checkpoint: str, owner: str, expires_at: float) -> None:
    """Records that an owner received a checkpoint and may use it until `expires_at`, in seconds since the epoch."""
    row = {"upstream": upstream, "checkpoint": checkpoint, "owner": owner, "expires_at": int(expires_at)}
    connection.execute(_INSERT[connection.dialect.name], row)


def is_owned(connection: Connection, upstream: str, checkpoint: str, owner: str, now: float) -> bool:
    """Whether this owner may use a checkpoint now."""
    found = select(checkpoints.c.owner).where(
        checkpoints.c.upstream == upstream,
        checkpoints.c.checkpoint == checkpoint,
        checkpoints.c.owner == owner,
        checkpoints.c.expires_at > int(now),
    )
    return connection.execute(found).first() is not None


def forget(connection: Connection, now: float) -> int:
    """Deletes expired checkpoints, a batch at a time; returns how many."""
    over = select(*_KEY).where(checkpoints.c.expires_at <= int(now)).limit(_AT_ONCE)
    rows = sorted(tuple(row) for row in connection.execute(over))
    still = checkpoints.c.expires_at <= int(now)
    for row in rows:
        connection.execute(
            delete(checkpoints).where(*(column == value for column, value in zip(_KEY, row, strict=True)), still)
        )
    return len(rows)
