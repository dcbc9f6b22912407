"""Refused and failed requests by their ids, for a day; each function is one transaction of a Connection."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, String, cast, delete, func, insert, or_, select

from gateway.ledger.engine import is_postgres
from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.paging import behind
from gateway.ledger.row_portions import read_in_portions
from gateway.ledger.schema import refusals
from gateway.model.statuses import FIRST_FAILURE

MOST: Final = 100_000
AT_ONCE: Final = 500


class RefusalRow(NamedTuple):
    """One refused or failed request, or the sum of several that got no row of their own.

    `at` is in seconds since the epoch; a sum's `request_id` begins with `sum-`. `title` is what
    it was headed, if not by its reason's own.
    """

    request_id: str
    at: int
    requests: int
    status: int
    reason: str
    why: str | None
    route: str
    method: str
    key_id: str | None
    client: str
    detail: str | None
    title: str | None = None


class RefusalMark(NamedTuple):
    """Where a page of them ended (cursor); `at` is in seconds since the epoch."""

    at: int
    request_id: str


def note(connection: Connection, rows: Sequence[RefusalRow]) -> int:
    """Writes some; an id that is there already stays as it is. Returns how many got no row, because of that."""
    ids = [row.request_id for row in rows]
    known = set(connection.execute(select(refusals.c.request_id).where(refusals.c.request_id.in_(ids))).scalars())
    fresh = [row._asdict() for row in {row.request_id: row for row in rows}.values() if row.request_id not in known]
    if fresh:
        connection.execute(insert(refusals), fresh)
    return len(rows) - len(fresh)


def find_refusal(connection: Connection, request_id: str) -> RefusalRow | None:
    """One, by the id that the client got."""
    if not can_be_stored(request_id):
        return None
    row = connection.execute(select(refusals).where(refusals.c.request_id == request_id)).first()
    return None if row is None else RefusalRow(*row)


def latest(connection: Connection, most: int, since: float = 0, key_id: str | None = None) -> list[RefusalRow]:
    """The latest, the newest first; of one caller, or of all."""
    found = select(refusals).where(refusals.c.at >= int(since)).order_by(refusals.c.at.desc(), refusals.c.request_id)
    if key_id is not None:
        found = found.where(refusals.c.key_id == key_id)
    return [RefusalRow(*row) for row in read_in_portions(connection, found.limit(most))]


def listed(
    connection: Connection,
    *,
    most: int,
    text: str | None = None,
    failed: bool = False,
    after: RefusalMark | None = None,
) -> list[RefusalRow]:
    """A page (pagination), the newest first; of all, or only of those that failed with a 5xx.

    `text`: only those that have it in their id, caller, address, route, status, detail, or in what was the matter,
    with `_` or with spaces between the words.
    """
    if not can_be_stored(text, *(after or ())):
        return []
    query = select(refusals).order_by(refusals.c.at.desc(), refusals.c.request_id).limit(most)
    if failed:
        query = query.where(refusals.c.status >= FIRST_FAILURE)
    if text:
        query = query.where(_tells(text))
    if after is not None:
        query = behind(query, refusals.c.at, after.at, refusals.c.request_id > after.request_id)
    return [RefusalRow(*row) for row in read_in_portions(connection, query)]


def _tells(text: str) -> ColumnElement[bool]:
    found = refusals.c
    names = found.request_id, found.key_id, found.client, found.route, found.method, found.detail
    matter = func.replace(found.reason + ": " + func.coalesce(found.why, ""), "_", " ")
    return or_(holds(text, *names, cast(found.status, String)), holds(text.replace("_", " "), matter))


def purge(connection: Connection, before: float, most: int = MOST) -> int:
    """Deletes AT_ONCE at most of those that are older, and of the oldest beyond `most`; returns how many."""
    surplus = connection.execute(select(func.count()).select_from(refusals)).scalar_one() - most
    oldest = select(refusals.c.request_id).order_by(refusals.c.at).with_for_update(skip_locked=True)
    old = refusals.c.at < int(before)
    due = oldest.limit(min(surplus, AT_ONCE)) if surplus > 0 else oldest.where(old).limit(AT_ONCE)
    if is_postgres(connection):  # which may run a sub-select, and find others, for each row
        due = select(due.cte("due").c.request_id)
    return connection.execute(delete(refusals).where(refusals.c.request_id.in_(due))).rowcount
