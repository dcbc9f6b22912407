"""Jobs and webhooks as operators see them: lists by pagination, newest first, and one job by its id. It only reads.

Of a job there is what it is, whose, and what it cost; what it is about is not in the ledger. A page goes on behind a
mark, which is the last row of the page before: what is new in the meantime shifts nothing.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, literal_column, or_, select

from gateway.ledger.schema import DeliveryState, JobState, deliveries, jobs, reservations

MAX_UPSTREAMS: Final = 1000
# Word for word the condition of ix_jobs_living: neither engine takes a partial index for one with a parameter in it.
_LIVING: Final = [int(state) for state in JobState if state != JobState.GONE]
_LIVES: Final = jobs.c.state != literal_column(str(int(JobState.GONE)))
# The upstream may have given the id before, to a job whose webhook is still kept.
_OF_JOB: Final = and_(
    deliveries.c.upstream == jobs.c.upstream,
    deliveries.c.request_id == jobs.c.request_id,
    deliveries.c.created_at >= jobs.c.created_at,
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
    """Where a page of jobs ended; `created_at` is in seconds since the epoch."""

    created_at: int
    upstream: str
    request_id: str


class WebhookMark(NamedTuple):
    """Where a page of webhooks ended."""

    created_at: int
    id: str


def list_jobs(
    connection: Connection, owner: str | None, state: JobState | None, most: int, after: JobMark | None = None
) -> list[Row[Any]]:
    """Jobs, the newest first: of one owner or of all, in one state or in any but GONE."""
    if not _can_be_stored(owner, *(after or ())):
        return []
    query = _JOBS.where(*_in_state(state)).limit(most)
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.upstream, jobs.c.request_id)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    if after is not None:
        names = jobs.c.upstream, jobs.c.request_id
        query = _behind(query, jobs.c.created_at, after.created_at, _is_later(names, after[1:]))
    return list(connection.execute(query))


def named(connection: Connection, request_id: str, upstream: str | None = None) -> list[Row[Any]]:
    """The jobs that have an id, of one upstream or of all, by the upstream's name; GONE ones, too."""
    if not _can_be_stored(request_id, upstream):
        return []
    where = _upstreams(connection) if upstream is None else [upstream]
    query = _JOBS.where(jobs.c.upstream.in_(where), jobs.c.request_id == request_id)
    return list(connection.execute(query.order_by(jobs.c.upstream)))


def list_webhooks(
    connection: Connection, state: DeliveryState | None, most: int, after: WebhookMark | None = None
) -> list[dict[str, Any]]:
    """Webhooks, the newest first, in one state or in any."""
    if not _can_be_stored(*(after or ())):
        return []
    query = select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(most)
    if state is not None:
        query = query.where(deliveries.c.state == int(state))
    if after is not None:
        query = _behind(query, deliveries.c.created_at, after.created_at, deliveries.c.id > after.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _in_state(state: JobState | None) -> list[ColumnElement[bool]]:
    """Names the states even if it is any of them: so SQLite goes through those that live, and not through all."""
    if state == JobState.GONE:
        return [jobs.c.state == int(state)]
    return [_LIVES, jobs.c.state.in_(_LIVING if state is None else [int(state)])]


def _upstreams(connection: Connection) -> list[str]:
    """All upstreams that jobs are of, also those that no configuration has any more.

    One look into the primary key for each: there are few, and of jobs there may be many.
    """
    found: list[str] = []
    query = select(func.min(jobs.c.upstream))
    name = connection.execute(query).scalar()
    while name is not None and len(found) < MAX_UPSTREAMS:
        found.append(name)
        name = connection.execute(query.where(jobs.c.upstream > name)).scalar()
    return found


def _behind(
    query: Select[Any], created_at: ColumnElement[int], seconds: int, is_later: ColumnElement[bool]
) -> Select[Any]:
    """Goes on behind a mark; the first condition is what an index can begin at."""
    return query.where(created_at <= seconds, or_(created_at < seconds, is_later))


def _is_later(columns: Sequence[ColumnElement[str]], values: Sequence[str]) -> ColumnElement[bool]:
    first, second = columns
    return or_(first > values[0], and_(first == values[0], second > values[1]))


def _can_be_stored(*values: str | int | None) -> bool:
    """Whether the ledger could hold these: PostgreSQL takes no NUL, and neither engine half a character."""
    texts = [value for value in values if isinstance(value, str)]
    return not any("\0" in text or any("\ud800" <= character <= "\udfff" for character in text) for text in texts)


_AT_ONCE: Final = 200


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
