"""Operations of the admin API on refused and failed requests of the last day, which the ledger keeps."""

from collections.abc import Mapping
from functools import partial
from typing import Literal

from gateway.admin import caller_answers
from gateway.admin.command_for_refusal import is_helped_by_grant
from gateway.admin.context import Call, Context
from gateway.admin.cursors import written
from gateway.admin.overview_answers import Overview
from gateway.admin.pages_left import is_short, pages_left
from gateway.admin.portions import convert_all
from gateway.admin.problem import AdminProblem
from gateway.admin.requests import RefusedQuery
from gateway.admin.troubleshooting import container_of, upstream_of, where_to_look
from gateway.ledger.refusals import RefusalMark, RefusalRow, find_refusal, listed
from gateway.model.meanings import meaning_of
from gateway.model.reasons import VERDICTS, Reason, Source, Why, title_of
from gateway.units import moment


async def list_refused(context: Context, call: Call) -> caller_answers.RefusedRequests:
    """Lists them, of all replicas."""
    query: RefusedQuery = call.query
    asked = partial(listed, most=query.limit + 1, text=query.q, failed=query.failed, after=query.after)
    rows = await context.ledger.report(asked)
    page = rows[: query.limit]
    following = written(RefusalMark(page[-1].at, page[-1].request_id)) if len(rows) > len(page) else None
    convert = partial(_refused, context, context.watch.overview(), await pages_left(context, page))
    return caller_answers.RefusedRequests(
        refusals=await convert_all(page, convert, context.iteration), next=following
    )


async def show_refused(context: Context, call: Call) -> caller_answers.RefusedRequest:
    """Shows one."""
    row = await context.ledger.read(lambda c: find_refusal(c, call.subject))
    if row is None:
        raise AdminProblem("refusal_not_found", "No request of this id was refused or failed in the last day.")
    return _refused(context, context.watch.overview(), await pages_left(context, [row]), row)


def _refused(
    context: Context, now: Overview, left: Mapping[str, int | None], row: RefusalRow
) -> caller_answers.RefusedRequest:
    settings = context.live.state.settings
    upstreams = {state.name: state for state in now.upstreams}
    verdict = VERDICTS.get(Reason(row.reason)) if row.reason in set(Reason) else None
    source = Source.UPSTREAM if verdict is None else verdict.source
    failed = source == Source.UPSTREAM
    is_of_pages = is_helped_by_grant(row.reason, row.key_id, row.detail)
    return caller_answers.RefusedRequest(
        request_id=row.request_id,
        at=moment(row.at),
        requests=row.requests,
        status=row.status,
        reason=row.reason,
        title=title_of(row.reason, row.title),
        why=row.why,
        means=meaning_of(row.why, row.reason),
        source=source.value,
        look_at=where_to_look(row, source, now.configuration.file),
        act=_act(context, left, row),
        pages_left=left.get(row.key_id or "") if is_of_pages else None,
        container=container_of(row.route, settings) if failed else None,
        container_now=upstreams.get(upstream_of(row.route, settings) or "") if failed else None,
        method=row.method,
        route=row.route,
        key=row.key_id,
        client=row.client,
        detail=row.detail,
    )


def _act(
    context: Context, left: Mapping[str, int | None], row: RefusalRow
) -> Literal["grant", "enable", "unblock"] | None:
    """What lets such a request in, as things stand now."""
    name, state = row.key_id or "", context.live.state
    if is_helped_by_grant(row.reason, name, row.detail):
        return "grant" if is_short(row, left) else None
    if row.why == Why.BLOCKED:
        return "unblock" if name in (state.blocked or ()) else None
    known = state.ring.records.get(name) if row.why == Why.CLOSED else None
    return "enable" if known is not None and known.disabled_at is not None else None
