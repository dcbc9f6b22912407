"""Reports of the admin API: usage by day and account, and the audit trail."""

from functools import partial
from typing import Final

from gateway.admin import responses, views
from gateway.admin.context import Call, Context
from gateway.admin.portions import convert_all
from gateway.admin.requests import AuditQuery, UsageQuery
from gateway.ledger.audit import recorded
from gateway.ledger.usage import used_since
from gateway.limits.windows import day_of
from gateway.units import day

_MAX_ROWS: Final = 10_000


async def usage(context: Context, call: Call) -> responses.Usage:
    """Settled usage of whole days; only the latest rows when there are too many."""
    query: UsageQuery = call.query
    since = day_of(context.wall() - query.since).period
    account = None if query.key is None else f"key:{query.key}"
    rows = await context.ledger.report(lambda c: used_since(c, since, account, _MAX_ROWS + 1))
    found = await convert_all(rows[-_MAX_ROWS:], views.usage_of)
    return responses.Usage(since=day(since), is_complete=len(rows) <= _MAX_ROWS, rows=found)


async def audit(context: Context, call: Call) -> responses.Audit:
    """The latest records of the audit trail."""
    query: AuditQuery = call.query
    since = 0.0 if query.since is None else context.wall() - query.since
    rows = await context.ledger.report(partial(recorded, since=since, of=query.key, most=query.limit))
    return responses.Audit(changes=await convert_all(rows, lambda row: views.change_of(row.entry)))
