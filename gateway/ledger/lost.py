"""What was charged as reserved because nobody saw its end: listed, summed, and refunded by an operator.

A running gateway corrects such a charge by itself when it learns the end after all; a refund is final.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, or_, select

from gateway.ledger.audit import record
from gateway.ledger.reservations import refund_charged
from gateway.ledger.schema import Stage, reservations

_LOST = reservations.c.stage == int(Stage.CHARGED)


class LostSum(NamedTuple):
    """How many jobs were charged without an answer, and how many pages that were."""

    jobs: int
    pages: int


class Refund(NamedTuple):
    """What was given back; `stages` are those of what else has this name and can't be refunded."""

    account: str = ""
    pages: int = 0
    stages: Sequence[Stage] = ()


def lost(connection: Connection, owner: str | None, most: int) -> list[Row[Any]]:
    """The latest, the newest first; of one owner or of all."""
    query = select(reservations).where(_LOST).order_by(reservations.c.created_at.desc(), reservations.c.id)
    if owner is not None:
        query = query.where(reservations.c.owner == owner)
    return list(connection.execute(query.limit(most)))


def sum_lost(connection: Connection, since: int, account: str | None = None) -> LostSum:
    """How much of it there is from a day (20261123) on, of one account or of all."""
    query = select(func.count(), func.coalesce(func.sum(reservations.c.pages), 0)).where(
        _LOST, reservations.c.day >= since
    )
    if account is not None:
        query = query.where(reservations.c.account == account)
    jobs, pages = connection.execute(query).one()
    return LostSum(int(jobs), int(pages))


def refund(connection: Connection, name: str, upstream: str | None, actor: str, now: float) -> Refund:
    """Refunds the one of this request id, or of this id of its submit, for good."""
    query = select(reservations).where(or_(reservations.c.request_id == name, reservations.c.id == name))
    if upstream is not None:
        query = query.where(reservations.c.upstream == upstream)
    rows = list(connection.execute(query))
    due = [row for row in rows if row.stage == Stage.CHARGED]
    if len(due) != 1:
        return Refund(stages=[Stage(row.stage) for row in rows])
    (row,) = due
    settled = refund_charged(connection, row.account, row.id, now)
    if settled is None:  # another one was quicker
        return Refund(stages=[Stage.REFUNDED])
    record(connection, now, actor, "job.refund", name, {"account": row.account, "pages": settled.refunded})
    return Refund(row.account, settled.refunded)
