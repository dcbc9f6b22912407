"""Reports of the admin API: usage by day and account, and the audit trail."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from gateway.admin import caller_answers, views
from gateway.admin.context import Call, Context
from gateway.admin.cursors import written
from gateway.admin.portions import convert_all
from gateway.admin.requests import AuditQuery, UsageQuery
from gateway.ledger.audit import AuditMark, recorded
from gateway.ledger.usage import UsedByMode, UsedOnDay, used_by_mode, used_since
from gateway.limits.windows import day_of
from gateway.model.account_names import key_account
from gateway.units import day

_MAX_ROWS: Final = 10_000


async def usage(context: Context, call: Call) -> caller_answers.Usage:
    """Settled usage of whole days; only the latest rows when there are too many."""
    query: UsageQuery = call.query
    since = day_of(context.wall() - query.since).period
    account = None if query.key is None else key_account(query.key)
    rows: Sequence[UsedOnDay | UsedByMode] = await context.ledger.report(
        lambda c: (used_by_mode if query.by_mode else used_since)(c, since, account, _MAX_ROWS + 1)
    )
    found = await convert_all(rows[-_MAX_ROWS:], views.usage_of, context.iteration)
    return caller_answers.Usage(since=day(since), is_complete=len(rows) <= _MAX_ROWS, rows=found)


async def audit(context: Context, call: Call) -> caller_answers.Audit:
    """The latest records of the audit trail."""
    query: AuditQuery = call.query
    since = 0.0 if query.since is None else context.wall() - query.since
    before = None if query.after is None else query.after.record
    asked = partial(recorded, since=since, of=query.key, text=query.q, most=query.limit + 1, before=before)
    asked = partial(asked, action=query.action, changes=query.changes)
    rows = await context.ledger.report(asked)
    page = rows[: query.limit]
    following = written(AuditMark(page[-1].entry.at, page[-1].id)) if len(rows) > len(page) else None
    changes = await convert_all(page, lambda row: views.change_of(row.entry), context.iteration)
    return caller_answers.Audit(changes=changes, next=following)
