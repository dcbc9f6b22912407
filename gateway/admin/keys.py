"""Operations of the admin API on keys: each is one function of a Context and a Call."""

from collections.abc import Mapping
from typing import Any

from gateway.admin import answer, key_answers, views
from gateway.admin.context import Call, Context
from gateway.admin.near import names_near, page_budgets
from gateway.admin.portions import convert_all
from gateway.admin.problem import AdminProblem, InvalidValue
from gateway.admin.requests import (
    Grant,
    GrantEnd,
    KeyChange,
    KeysQuery,
    NewKey,
    Nothing,
    Revocation,
    Rotation,
    as_written,
)
from gateway.auth.keyring import profile_for
from gateway.config.settings.access import KeySettings
from gateway.config.state import profile_of
from gateway.keys.key_changes import Made
from gateway.keys.validation import Wanted
from gateway.keys.view import ids_in_file
from gateway.ledger.usage import with_ends
from gateway.limits.quotas import AccountCounts
from gateway.limits.report import limits_report
from gateway.model.account_names import key_account, key_id_of
from gateway.model.keys import KeyRecord
from gateway.units import maybe_moment, moment


async def list_keys(context: Context, call: Call) -> key_answers.Keys:
    """Lists keys, with the state of their accounts if that is asked for."""
    query: KeysQuery = call.query
    among = {key_id_of(account) or "" for account in await names_near(context)} if query.near else None
    page = await context.keys.page(query.limit + 1, query.after, query.q, counted=query.standing, among=among)
    shown, now, settings = page.records[: query.limit], context.wall(), context.live.state.settings
    in_file = ids_in_file(settings)

    def listed(record: KeyRecord) -> key_answers.ListedKey:
        counts = page.counts.get(key_account(record.id), AccountCounts())
        standing = _standing(context, record, counts, now) if query.standing else None
        return key_answers.ListedKey(
            **views.key_fields(record, settings, now, in_file),
            standing=standing,
            granted=counts.granted if query.standing else None,
            **views.granted_until(page.ends.get(key_account(record.id))),
        )

    rows = await convert_all(shown, listed, context.iteration)
    return key_answers.Keys(keys=rows, next=shown[-1].id if len(page.records) > len(shown) else None)


async def list_configured(context: Context, _: Call) -> key_answers.ConfiguredKeys:
    """Lists the keys of the configuration, with the state of their accounts."""
    state, now = context.live.state, context.wall()
    accounts = [key_account(key.id) for key in state.settings.keys]
    counts, ends = await context.ledger.report(lambda c: with_ends(c, accounts, now)) if accounts else ({}, {})

    def listed(key: KeySettings) -> key_answers.ConfiguredKey:
        account = key_account(key.id)
        profile, seen = profile_of(state, account), context.watch.seen.sighting(account)
        found = counts.get(account, AccountCounts())
        report = {} if profile is None else limits_report(profile, found, now)
        return key_answers.ConfiguredKey(
            **views.configured_fields(key, now),
            last_seen_at=maybe_moment(seen.last_at if seen else None),
            standing=_limits(report),
            granted=found.granted,
            **views.granted_until(ends.get(account)),
        )

    return key_answers.ConfiguredKeys(keys=await convert_all(state.settings.keys, listed, context.iteration))


async def create(context: Context, call: Call) -> key_answers.NewSecret:
    """Makes a key."""
    body: NewKey = call.body
    wanted = Wanted(
        body.id,
        body.profile,
        body.owner,
        tuple(body.scopes),
        tuple(map(str, body.networks)),
        as_written(body.limits),
        body.expires_at.timestamp() if body.expires_at else None,
    )
    made = await context.keys.create(call.actor, wanted)
    await context.apply_changes()
    return _new_secret(made)


async def show(context: Context, call: Call) -> key_answers.KeyInFull:
    """Shows a key and the state of its account."""
    record, counts, grants = await context.keys.show(call.subject)
    now = context.wall()
    return key_answers.KeyInFull(
        **views.key_fields(record, context.live.state.settings, now),
        standing=_standing(context, record, counts, now),
        grants=await convert_all(grants, views.granted, context.iteration),
    )


async def change(context: Context, call: Call) -> key_answers.Key:
    """Changes the named fields in one transaction, then `disabled` in another."""
    body: KeyChange = call.body
    values = _changed(body)
    record: KeyRecord | None = None
    if values:
        record = await context.keys.change(call.actor, call.subject, **values)
        await context.apply_changes()
    if "disabled" in body.model_fields_set:
        record = await context.keys.set_disabled(call.actor, call.subject, disabled=body.disabled)
        await context.apply_changes()
    assert record is not None  # noqa: S101 -- a body that names nothing was refused
    return key_answers.Key(**views.key_fields(record, context.live.state.settings, context.wall()))


async def rotate(context: Context, call: Call) -> key_answers.NewSecret:
    """Rotates a key's secret. The same operation sent again changes nothing and returns `secret: null`."""
    body: Rotation = call.body
    operation = body.operation or call.idempotency_key
    if call.idempotency_key not in {None, operation}:
        fault = InvalidValue(path="operation", message="is another one than Idempotency-Key says")
        raise AdminProblem("invalid", f"{fault.path} {fault.message}", errors=[fault])
    made = await context.keys.rotate(call.actor, call.subject, body.overlap, operation)
    if made.secret is not None:
        await context.apply_changes()
    return _new_secret(made)


async def revoke(context: Context, call: Call) -> key_answers.Revoked:
    """Ends one secret, or all."""
    body: Revocation = call.body
    ended = await context.keys.revoke(call.actor, call.subject, body.generation, force=body.force)
    await context.apply_changes()
    return key_answers.Revoked(id=call.subject, generations=ended.generations)


async def grant(context: Context, call: Call) -> key_answers.Granted:
    """Adds pages to a key's budgets for some time."""
    body: Grant = call.body
    until = body.until.timestamp()
    await context.keys.grant(call.actor, call.subject, body.pages, until)
    await context.apply_changes()
    budgets = page_budgets(profile_of(context.live.state, key_account(call.subject)))
    return key_answers.Granted(id=call.subject, pages=body.pages, until=moment(until), budgets=budgets or [])


async def end_grants(context: Context, call: Call) -> key_answers.GrantsEnded:
    """Ends one grant of a key, or all, at once."""
    body: GrantEnd = call.body
    ended = await context.keys.end_grants(call.actor, call.subject, body.grant)
    await context.apply_changes()
    return key_answers.GrantsEnded(id=call.subject, grants=await convert_all(ended, views.granted, context.iteration))


async def reset(context: Context, call: Call) -> key_answers.Forgotten:
    """Resets a key's windows."""
    _: Nothing = call.body
    used = await context.keys.reset(call.actor, call.subject)
    await context.apply_changes()
    return views.reset_answer(call.subject, used)


def _changed(body: KeyChange) -> dict[str, Any]:
    values = {name: getattr(body, name) for name in body.model_fields_set - {"disabled"}}
    if "scopes" in values:
        values["scopes"] = tuple(values["scopes"])
    if "networks" in values:
        values["networks"] = tuple(map(str, values["networks"]))
    if values.get("expires_at") is not None:
        values["expires_at"] = values["expires_at"].timestamp()
    return values


def _new_secret(made: Made) -> key_answers.NewSecret:
    ends_at = maybe_moment(made.previous_ends_at)
    return key_answers.NewSecret(id=made.id, generation=made.generation, secret=made.secret, previous_ends_at=ends_at)


def _standing(context: Context, record: KeyRecord, counts: AccountCounts, now: float) -> dict[str, answer.LimitState]:
    profile = profile_for(record, context.live.state.profiles)
    if profile is None:
        return {}
    return _limits(limits_report(profile, counts, now))


def _limits(report: Mapping[str, Any]) -> dict[str, answer.LimitState]:
    return {name: answer.LimitState(**row) for name, row in report.items()}
