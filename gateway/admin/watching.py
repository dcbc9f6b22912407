"""Operations of the admin API on what this replica knows of itself: how it stands, its last hour, its refusals."""

from itertools import compress
from operator import attrgetter
from typing import Any

from gateway.admin import caller_answers, overview_answers
from gateway.admin.context import Call, Context
from gateway.admin.portions import convert_all
from gateway.admin.requests import HistoryQuery, RefusalsQuery
from gateway.observe.callers_seen import Refusal
from gateway.observe.history import EVERY, Point
from gateway.units import moment


async def overview(context: Context, _: Call) -> overview_answers.Overview:
    """How it stands."""
    return context.watch.overview()


async def history(context: Context, call: Call) -> overview_answers.History:
    """Its last hour."""
    query: HistoryQuery = call.query
    points = context.watch.history.since(context.wall() - query.since)
    return overview_answers.History(seconds=EVERY, points=await convert_all(points, _point, context.iteration))


async def refusals(context: Context, call: Call) -> caller_answers.Refusals:
    """Whom it has refused since its start."""
    query: RefusalsQuery = call.query
    seen = context.watch.seen
    found = sorted(seen.refusals(), key=attrgetter("last_at"), reverse=True)
    if query.q is not None:
        text = query.q.casefold()
        fits = await convert_all(found, lambda row: text in _words(row), context.iteration)
        found = list(compress(found, fits))
    rows = await convert_all(found[: query.limit], _refusal, context.iteration)
    return caller_answers.Refusals(
        since=moment(context.watch.started_at),
        refusals=rows,
        is_complete=len(rows) == len(found),
        forgotten=seen.dropped,
    )


def _point(point: Point) -> overview_answers.HistoryPoint:
    fields: dict[str, Any] = {**point._asdict(), **point.gauges._asdict(), "at": moment(point.at)}
    del fields["gauges"]
    return overview_answers.HistoryPoint(**fields)


def _refusal(row: Refusal) -> caller_answers.Refusal:
    return caller_answers.Refusal(
        who=row.who,
        is_stranger=row.is_stranger,
        reason=str(row.reason),
        why=None if row.why is None else str(row.why),
        count=row.count,
        first_at=moment(row.first_at),
        last_at=moment(row.last_at),
        client=row.client,
        route=row.route,
        detail=row.detail,
        audience=row.audience,
    )


def _words(row: Refusal) -> str:
    matter = f"{row.reason}: {row.why or ''}"
    texts = row.who, matter, matter.replace("_", " "), row.detail, row.route, row.client, row.audience or ""
    return "\n".join(texts).casefold()
