"""Webhooks that go out, as operators see them: listed, counted, tried again, forgotten."""

from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, update

from gateway.ledger.audit import record
from gateway.ledger.schema import DeliveryState, deliveries

_AT_ONCE: Final = 200
_ENDED: Final = (DeliveryState.DELIVERED, DeliveryState.DEAD)


def retry(connection: Connection, delivery: str, actor: str, now: float) -> DeliveryState | None:
    """Makes one due at once that is a dead letter, or waits for its next attempt; the attempts are counted anew.

    Tells the state it was in: WAITING and DELIVERED are left as they are. None when there is none such.
    """
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery).with_for_update()).first()
    if row is None:
        return None
    state = DeliveryState(row.state)
    is_running = row.leased_by is not None and row.next_at > now
    if state in {DeliveryState.DEAD, DeliveryState.DUE} and not is_running:
        values = {"state": DeliveryState.DUE, "attempts": 0, "ended_at": int(now), "next_at": int(now)}
        connection.execute(
            update(deliveries).where(deliveries.c.id == delivery).values({**values, "leased_by": None})
        )
        record(connection, now, actor, "webhook.retry", delivery, {"was": state.name.lower()})
    return state


def listed(connection: Connection, state: DeliveryState | None = None, most: int = 1000) -> list[dict[str, Any]]:
    """The latest deliveries, the newest first; of one state, or of all."""
    query = select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(most)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    return [dict(row) for row in connection.execute(query).mappings()]


def shown(connection: Connection, delivery: str) -> dict[str, Any] | None:
    """One delivery; None when there is none such."""
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery)).mappings().first()
    return None if row is None else dict(row)


def counts(connection: Connection) -> dict[DeliveryState, int]:
    """How many there are in each state."""
    found = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
    numbers = {row[0]: int(row[1]) for row in found}
    return {state: numbers.get(state, 0) for state in DeliveryState}


def forget(connection: Connection, before: float) -> int:
    """Deletes what was planned before a moment and has ended, some at once; how many."""
    old = (
        select(deliveries.c.id)
        .where(deliveries.c.created_at < int(before), deliveries.c.state.in_(_ENDED))
        .order_by(deliveries.c.created_at)
        .limit(_AT_ONCE)
    )
    ids = list(connection.execute(old).scalars())
    return connection.execute(
        delete(deliveries).where(deliveries.c.id.in_(ids), deliveries.c.state.in_(_ENDED))
    ).rowcount
