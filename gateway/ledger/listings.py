"""Jobs and webhooks as operators see them: lists by pagination, newest first, and one job by its id. Only reads.

The ledger knows a job's kind, owner and cost, but not its contents. Each page starts after a mark (a cursor), the
last row of the page before: so rows that are added in the meantime shift nothing.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from gateway.ledger.conditions import IS_READABLE
from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.paging import behind
from gateway.ledger.row_portions import read_in_portions
from gateway.ledger.schema import DeliveryState, JobState, deliveries, jobs, reservations

MAX_UPSTREAMS: Final = 1000
_LIVING: Final = [int(state) for state in JobState if state != JobState.GONE]
# The upstream may have given the id before, to a job whose webhook is still kept. A job's own was planned with it, by
# the same clock: another replica's may have gone wrong.
_OF_JOB: Final = and_(
    deliveries.c.upstream == jobs.c.upstream,
    deliveries.c.request_id == jobs.c.request_id,
    deliveries.c.created_at == jobs.c.created_at,
)
_JOBS: Final = (
    select(
        jobs,
        reservations.c.stage,
        reservations.c.pages,
        deliveries.c.id.label("webhook"),
        deliveries.c.state.label("webhook_state"),
        deliveries.c.destination,
        deliveries.c.attempts,
    )
    .select_from(jobs)
    .outerjoin(reservations, reservations.c.id == jobs.c.reservation)
    .outerjoin(deliveries, _OF_JOB)
)


class JobMark(NamedTuple):
    """Where a page of jobs ended (cursor); `created_at` is in seconds since the epoch."""

    created_at: int
    upstream: str
    request_id: str


class WebhookMark(NamedTuple):
    """Where a page of webhooks ended (cursor)."""

    created_at: int
    id: str


def list_jobs(
    connection: Connection,
    owner: str | None,
    state: JobState | None,
    most: int,
    after: JobMark | None = None,
    text: str | None = None,
) -> list[Row[Any]]:
    """Jobs, the newest first: of one owner or of all, in one state or in any but GONE.

    `text`: only those that have it in their id, their owner or the name of their upstream.
    """
    if not can_be_stored(owner, text, *(after or ())):
        return []
    query = _JOBS.where(*_in_state(state)).limit(most)
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.upstream, jobs.c.request_id)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    if text:
        query = query.where(holds(text, jobs.c.request_id, jobs.c.owner, jobs.c.upstream))
    if after is not None:
        names = jobs.c.upstream, jobs.c.request_id
        query = behind(query, jobs.c.created_at, after.created_at, _is_later(names, after[1:]))
    return list(read_in_portions(connection, query))


def jobs_with_id(connection: Connection, request_id: str, upstream: str | None = None) -> list[Row[Any]]:
    """The jobs with an id, of one upstream or of all, sorted by the upstream's name; GONE ones, too."""
    if not can_be_stored(request_id, upstream):
        return []
    where = _upstreams(connection) if upstream is None else [upstream]
    query = _JOBS.where(jobs.c.upstream.in_(where), jobs.c.request_id == request_id)
    return list(connection.execute(query.order_by(jobs.c.upstream)))


def list_webhooks(
    connection: Connection,
    state: DeliveryState | None,
    most: int,
    after: WebhookMark | None = None,
    text: str | None = None,
) -> list[dict[str, Any]]:
    """Webhooks, the newest first, in one state or in any; `text` as with jobs, or in the destination."""
    if not can_be_stored(text, *(after or ())):
        return []
    query = select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(most)
    if state is not None:
        query = query.where(deliveries.c.state == int(state))
    if text:
        columns = deliveries.c.id, deliveries.c.request_id, deliveries.c.owner, deliveries.c.destination
        query = query.where(holds(text, *columns))
    if after is not None:
        query = behind(query, deliveries.c.created_at, after.created_at, deliveries.c.id > after.id)
    return [row._asdict() for row in read_in_portions(connection, query)]


def _in_state(state: JobState | None) -> list[ColumnElement[bool]]:
    """Names the states even if all are wanted, so that SQLite scans only the living jobs."""
    if state == JobState.GONE:
        return [jobs.c.state == int(state)]
    return [IS_READABLE, jobs.c.state.in_(_LIVING if state is None else [int(state)])]


def _upstreams(connection: Connection) -> list[str]:
    """All upstreams that have jobs, including those that are not configured any more.

    It takes one index lookup for each upstream: upstreams are few, while jobs may be many.
    """
    found: list[str] = []
    query = select(func.min(jobs.c.upstream))
    name = connection.execute(query).scalar()
    while name is not None and len(found) < MAX_UPSTREAMS:
        found.append(name)
        name = connection.execute(query.where(jobs.c.upstream > name)).scalar()
    return found


def _is_later(columns: Sequence[ColumnElement[str]], values: Sequence[str]) -> ColumnElement[bool]:
    first, second = columns
    return or_(first > values[0], and_(first == values[0], second > values[1]))


def shown(connection: Connection, delivery: str) -> dict[str, Any] | None:
    """Returns one delivery; None if it does not exist."""
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery)).mappings().first()
    return None if row is None else dict(row)


def counts(connection: Connection) -> dict[DeliveryState, int]:
    """The number of deliveries in each state."""
    found = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
    numbers = {row[0]: int(row[1]) for row in found}
    return {state: numbers.get(state, 0) for state in DeliveryState}
