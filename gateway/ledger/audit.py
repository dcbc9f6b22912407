"""Who changed what, and when: written in the transaction of the change itself, so that neither is there alone."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from gateway.ledger.schema import audit


def record(
    connection: Connection, now: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Notes a change; `detail` never holds a secret. `now` is in seconds since the epoch."""
    row = {"at": int(now), "actor": actor, "action": action, "subject": subject, "detail": json.dumps(detail)}
    connection.execute(insert(audit), row)


def recorded(connection: Connection, subject: str | None = None, most: int = 1000) -> list[dict[str, Any]]:
    """The latest changes, the newest first; of one subject, or of all."""
    query = select(audit).order_by(audit.c.id.desc()).limit(most)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    rows = connection.execute(query).mappings()
    return [{**row, "detail": json.loads(row["detail"])} for row in rows]
