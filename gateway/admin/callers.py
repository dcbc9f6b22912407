"""Operations of the admin API on callers by token and certificate: each is one function of a Context and a Call."""

from functools import partial
from typing import Any

from gateway.admin import answer, caller_answers, views
from gateway.admin.context import Call, Context
from gateway.admin.near import names_near, page_budgets
from gateway.admin.near_accounts import known_profile
from gateway.admin.portions import convert_all
from gateway.admin.requests import CallersQuery, Grant, GrantEnd, Nothing
from gateway.ledger.callers import CallerRow, callers
from gateway.ledger.usage import GrantEnds, with_ends
from gateway.limits.quotas import AccountCounts
from gateway.limits.report import limits_report
from gateway.units import maybe_moment, moment


async def list_callers(context: Context, call: Call) -> caller_answers.Callers:
    """Lists callers, with what their accounts count."""
    query: CallersQuery = call.query
    now = context.wall()
    asked = partial(callers, most=query.limit + 1, after=query.after, text=query.q, blocked=query.blocked)
    near = await names_near(context) if query.near else None
    asked = partial(asked, among=near, seen=context.watch.seen.callers())
    rows = await context.ledger.report(asked)
    page = rows[: query.limit]
    names = [row.account for row in page]
    counts, ends = await context.ledger.report(lambda c: with_ends(c, names, now)) if names else ({}, {})

    def listed(row: CallerRow) -> caller_answers.Caller:
        fields = _fields(context, row, counts.get(row.account, AccountCounts()), now)
        return caller_answers.Caller(**fields, **views.granted_until(ends.get(row.account)))

    found = await convert_all(page, listed, context.iteration)
    return caller_answers.Callers(callers=found, next=names[-1] if len(rows) > len(page) else None)


async def show(context: Context, call: Call) -> caller_answers.CallerInFull:
    """Shows one; one who was never seen, too: he may be blocked before he comes."""
    return await _shown(context, call.subject)


async def block(context: Context, call: Call) -> caller_answers.CallerInFull:
    """Blocks one."""
    _: Nothing = call.body
    name = context.callers.name_of(call.subject)
    await context.callers.block(call.actor, name)
    await context.apply_changes()
    return await _shown(context, name)


async def unblock(context: Context, call: Call) -> caller_answers.CallerInFull:
    """Lets one in again."""
    _: Nothing = call.body
    await context.callers.unblock(call.actor, call.subject)
    await context.apply_changes()
    return await _shown(context, call.subject)


async def grant(context: Context, call: Call) -> caller_answers.GrantedToCaller:
    """Adds pages to a caller's budgets for some time."""
    body: Grant = call.body
    until = body.until.timestamp()
    name = context.callers.name_of(call.subject)
    await context.callers.grant(call.actor, name, body.pages, until)
    budgets = page_budgets(known_profile(context.live, context.watch.seen, name))
    return caller_answers.GrantedToCaller(account=name, pages=body.pages, until=moment(until), budgets=budgets)


async def end_grants(context: Context, call: Call) -> caller_answers.GrantsOfCallerEnded:
    """Ends one grant of a caller, or all, at once."""
    body: GrantEnd = call.body
    name = context.callers.name_of(call.subject)
    ended = await context.callers.end_grants(call.actor, name, body.grant)
    return caller_answers.GrantsOfCallerEnded(
        account=name, grants=await convert_all(ended, views.granted, context.iteration)
    )


async def reset(context: Context, call: Call) -> caller_answers.ForgottenOfCaller:
    """Resets a caller's windows."""
    _: Nothing = call.body
    name = context.callers.name_of(call.subject)
    forgotten = await context.callers.reset(call.actor, name)
    return caller_answers.ForgottenOfCaller(account=name, **views.amount(forgotten))


async def _shown(context: Context, name: str) -> caller_answers.CallerInFull:
    shown = await context.callers.show(name)
    fields = _fields(context, shown.row, shown.counts, context.wall())
    grants = await convert_all(shown.grants, views.granted, context.iteration)
    ends = GrantEnds(shown.grants[0].until, shown.grants[-1].until) if grants else None
    return caller_answers.CallerInFull(**fields, **views.granted_until(ends), grants=grants)


def _fields(context: Context, row: CallerRow, counts: AccountCounts, now: float) -> dict[str, Any]:
    seen = context.watch.seen.sighting(row.account)
    name = seen.profile if seen else None
    profile = None if name is None else context.live.state.profiles.get(name)
    report = {} if profile is None else limits_report(profile, counts, now)
    return {
        "account": row.account,
        "method": row.account.partition(":")[0],
        "blocked_at": maybe_moment(row.blocked_at),
        "profile": profile.name if profile else None,
        "was_seen": row.is_known or seen is not None,
        "last_seen_at": maybe_moment(seen.last_at if seen else None),
        "client": seen.client if seen else None,
        "requests": seen.requests if seen else 0,
        "refusals": seen.refusals if seen else 0,
        "used_today": answer.AmountUsed(**views.amount(counts.day)),
        "used_this_month": answer.AmountUsed(**views.amount(counts.month)),
        "concurrent": counts.concurrent,
        "pages_in_flight": counts.pages_in_flight,
        "granted": counts.granted,
        "standing": {limit: answer.LimitState(**values) for limit, values in report.items()},
    }
