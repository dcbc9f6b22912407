"""What the admin API does to keys: each operation is one function of a Desk and a Call."""

from typing import Any

from gateway.admin import responses as answers
from gateway.admin import views
from gateway.admin.context import Call, Context
from gateway.admin.problem import AdminProblem, InvalidValue
from gateway.admin.requests import Grant, KeyChange, KeysQuery, NewKey, Nothing, Revocation, Rotation, as_written
from gateway.auth.keyring import profile_for
from gateway.keys.service import Made
from gateway.keys.validation import Wanted
from gateway.limits.quotas import AccountCounts
from gateway.limits.report import limits_report
from gateway.model.keys import KeyRecord
from gateway.units import maybe_moment, moment


async def list_keys(desk: Context, call: Call) -> answers.Keys:
    """Lists keys, without how they stand."""
    query: KeysQuery = call.query
    behind = [record for record in await desk.keys.list() if query.after is None or record.id > query.after]
    shown, now = behind[: query.limit], desk.wall()
    rows = [answers.Key(**views.key_fields(record, desk.live.state.settings, now)) for record in shown]
    return answers.Keys(keys=rows, next=shown[-1].id if len(behind) > len(shown) else None)


async def create(desk: Context, call: Call) -> answers.NewSecret:
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
    made = await desk.keys.create(call.actor, wanted)
    await desk.changed()
    return _new_secret(made)


async def show(desk: Context, call: Call) -> answers.KeyInFull:
    """Shows a key, and how its account stands."""
    record, standing, grants = await desk.keys.show(call.subject)
    now = desk.wall()
    return answers.KeyInFull(
        **views.key_fields(record, desk.live.state.settings, now),
        standing=_standing(desk, record, standing, now),
        grants=[views.granted(grant) for grant in grants],
    )


async def change(desk: Context, call: Call) -> answers.Key:
    """Changes what is named, in one transaction; `disabled` is another one, behind it."""
    body: KeyChange = call.body
    values = _changed(body)
    record: KeyRecord | None = None
    if values:
        record = await desk.keys.change(call.actor, call.subject, **values)
        await desk.changed()
    if "disabled" in body.model_fields_set:
        record = await desk.keys.disable(call.actor, call.subject, disabled=body.disabled)
        await desk.changed()
    assert record is not None  # noqa: S101 -- a body that names nothing is refused
    return answers.Key(**views.key_fields(record, desk.live.state.settings, desk.wall()))


async def rotate(desk: Context, call: Call) -> answers.NewSecret:
    """Gives a key another secret; the same operation once more does nothing, and says so by `secret: null`."""
    body: Rotation = call.body
    operation = body.operation or call.idempotency_key
    if call.idempotency_key not in {None, operation}:
        fault = InvalidValue(path="operation", message="is another one than Idempotency-Key says")
        raise AdminProblem("invalid", f"{fault.path} {fault.message}", errors=[fault])
    made = await desk.keys.rotate(call.actor, call.subject, body.overlap, operation)
    if made.secret is not None:
        await desk.changed()
    return _new_secret(made)


async def revoke(desk: Context, call: Call) -> answers.Revoked:
    """Ends one secret, or all."""
    body: Revocation = call.body
    ended = await desk.keys.revoke(call.actor, call.subject, body.generation, force=body.force)
    await desk.changed()
    return answers.Revoked(id=call.subject, generations=ended)


async def grant(desk: Context, call: Call) -> answers.Granted:
    """Adds pages to a key's budgets for some time."""
    body: Grant = call.body
    until = body.until.timestamp()
    await desk.keys.grant(call.actor, call.subject, body.pages, until)
    await desk.changed()
    return answers.Granted(id=call.subject, pages=body.pages, until=moment(until))


async def reset(desk: Context, call: Call) -> answers.Forgotten:
    """Lets a key's windows begin anew."""
    _: Nothing = call.body
    forgotten = await desk.keys.reset(call.actor, call.subject)
    await desk.changed()
    return views.forgotten(call.subject, forgotten)


def _changed(body: KeyChange) -> dict[str, Any]:
    values = {name: getattr(body, name) for name in body.model_fields_set - {"disabled"}}
    if "scopes" in values:
        values["scopes"] = tuple(values["scopes"])
    if "networks" in values:
        values["networks"] = tuple(map(str, values["networks"]))
    if values.get("expires_at") is not None:
        values["expires_at"] = values["expires_at"].timestamp()
    return values


def _new_secret(made: Made) -> answers.NewSecret:
    ends_at = maybe_moment(made.previous_ends_at)
    return answers.NewSecret(id=made.id, generation=made.generation, secret=made.secret, previous_ends_at=ends_at)


def _standing(desk: Context, record: KeyRecord, standing: AccountCounts, now: float) -> dict[str, answers.LimitState]:
    profile = profile_for(record, desk.live.state.profiles)
    if profile is None:
        return {}
    return {name: answers.LimitState(**row) for name, row in limits_report(profile, standing, now).items()}
