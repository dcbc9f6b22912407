"""The work of `gateway keys`: calls KeyService, prints the result.

Only secrets go to standard output, so that KEY=$(gateway keys create ...) captures them; all messages go to standard
error. A secret is written before its key takes force: if it can't be written, no key is created. With --json one
object on standard output holds everything a program may need.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gateway.admin.near import page_budgets
from gateway.cli.ended_grants import as_written, told_ended, told_granted
from gateway.cli.followers import FOLLOWS_SOON
from gateway.cli.key_view import View, ledger_view
from gateway.cli.output import answer, hand_out, json_text, print_lines, say, wants_json
from gateway.cli.session import Session, change
from gateway.cli.show_keys import shown_key
from gateway.cli.table import shown
from gateway.cli.words import at, money, pages_of, spend
from gateway.config.salvage import LEDGER
from gateway.keys.key_changes import Made
from gateway.keys.validation import DEFAULT, Wanted
from gateway.keys.view import idle_scopes, limits_as_written
from gateway.ledger.usage import GrantRow
from gateway.limits.prices import MILLION
from gateway.limits.quotas import Used
from gateway.model.keys import KeyRecord
from gateway.units import maybe_moment, moment

_NEEDS: Final = LEDGER | {"profiles", "keys"}  # what a key is of, and the ids that the file has
_ONCE: Final = "The secret stands on standard output, this once: it is kept nowhere and can't be shown again."


def create(config: Path, wanted: Wanted) -> None:
    """Creates a key and prints its secret."""
    limits = {name: value for name, value in wanted.limits.items() if value != DEFAULT}
    is_json = wants_json()  # the ledger's thread, where the secret is handed over, knows no command

    def hand_over(made: Made) -> None:
        more = {
            "profile": wanted.profile, "owner": wanted.owner or wanted.id, "scopes": wanted.scopes,
            "networks": wanted.networks, "limits": limits, "expires_at": maybe_moment(wanted.expires_at),
        }  # fmt: skip
        hand_out(json_text({**_secret_of(made), **more}) if is_json else str(made.secret))

    async def work(session: Session) -> tuple[Made, str]:
        return await session.keys.create(session.actor, wanted, hand_over), session.where

    (made, where), is_followed = change(config, work, needs=_NEEDS)
    _say_idle(wanted.scopes)
    if not is_json:
        ends = maybe_moment(wanted.expires_at)
        told = f"Key {made.id} is in the ledger {where}: profile {wanted.profile}, {_until(ends)}."
        say(told, _ONCE, *_soon(is_followed))


def rotate(config: Path, key_id: str, overlap: float, operation: str | None) -> None:
    """Gives a key a new secret and prints it."""
    is_json = wants_json()  # as above

    def hand_over(made: Made) -> None:
        ends = maybe_moment(made.previous_ends_at or None)
        told = {**_secret_of(made), "previous_ends_at": ends, "was_done": made.secret is None}
        if is_json or made.secret is not None:
            hand_out(json_text(told) if is_json else str(made.secret))

    made, is_followed = change(
        config, lambda session: session.keys.rotate(session.actor, key_id, overlap, operation, hand_over)
    )
    if made.secret is None:
        say(
            f"This operation was done before: it made secret {made.generation} of {key_id}, which was shown then.",
            "Nothing has changed. If that secret is lost, rotate once more with another --operation.",
        )
    elif not is_json:
        _say_rotated(key_id, made, is_followed)


def _say_rotated(key_id: str, made: Made, is_followed: bool) -> None:
    previous = maybe_moment(made.previous_ends_at or None)
    silent = [f"gateway keys show {key_id} says when the old one has fallen silent."] if previous else []
    say(
        f"Key {key_id} has secret {made.generation} now; {_until_then(previous)}",
        _ONCE,
        *filter(None, [" ".join([*_soon(is_followed), *silent])]),
    )


def _until_then(previous: str | None) -> str:
    if previous is None:
        return "no other secret of it works."
    return f"the one in use until now works until {shown(at(previous))}."


def revoke(config: Path, key_id: str, generation: int | None, *, force: bool) -> None:
    """Revokes secrets of a key at once."""
    ended, is_followed = change(
        config, lambda session: session.keys.revoke(session.actor, key_id, generation, force=force)
    )
    told = _and_soon(f"Secret {', '.join(map(str, ended.generations))} of {key_id} is revoked.", is_followed)
    if ended.was_at is not None:
        when = shown(at(moment(ended.was_at)))
        told = f"Secret {generation} of {key_id}: it was revoked at {when}; nothing has changed."
    elif not ended.generations:
        told = f"Key {key_id} had no live secret: nothing has changed."
    answer({"id": key_id, "generations": ended.generations}, lambda: print_lines(told))


def set_disabled(config: Path, key_id: str, *, disabled: bool) -> None:
    """Disables or enables a key."""

    async def work(session: Session) -> View:
        return _viewed(session, await session.keys.set_disabled(session.actor, key_id, disabled=disabled))

    view, is_followed = change(config, work)
    told = _and_soon(f"Key {key_id} is {'disabled' if disabled else 'enabled'}.", is_followed)
    answer(view, lambda: print_lines(told))


def change_key(config: Path, key_id: str, values: dict[str, Any]) -> None:
    """Changes a key's settings."""

    async def work(session: Session) -> tuple[KeyRecord, View]:
        record = await session.keys.change(session.actor, key_id, **values)
        return record, _viewed(session, record)

    (record, view), is_followed = change(config, work, needs=_NEEDS)
    answer(view, lambda: print_lines(_and_soon(_changed(record), is_followed)))
    _say_idle(record.scopes)


def _changed(record: KeyRecord) -> str:
    limits = " ".join(f"{name}={_limit(value)}" for name, value in limits_as_written(record.limits, money).items())
    facts = [
        f"profile {record.profile}",
        f"owner {record.owner}",
        f"scopes {' '.join(record.scopes) or 'none'}",
        f"networks {' '.join(map(str, record.networks)) or 'any'}",
        f"limits of its own {limits or 'none'}",
        _until(maybe_moment(record.expires_at)),
    ]
    return f"Key {record.id}: {', '.join(facts)}."


def _soon(is_followed: bool) -> list[str]:
    return [FOLLOWS_SOON] if is_followed else []


def _and_soon(text: str, is_followed: bool) -> str:
    return " ".join([text, *_soon(is_followed)])


def _viewed(session: Session, record: KeyRecord) -> View:
    return ledger_view(record, session.settings, session.wall(), knows_profiles=session.knows_profiles)


def _say_idle(scopes: Iterable[str]) -> None:
    for scope in idle_scopes(scopes):
        say(f"warning: scope {scope} opens nothing; the only scope is admin")


def grant(config: Path, key_id: str, pages: int, until: float) -> None:
    """Adds pages to budgets for a while."""

    async def work(session: Session) -> list[str] | None:
        await session.keys.grant(session.actor, key_id, pages, until)
        return page_budgets((await shown_key(session, key_id)).profile)

    budgets, _ = change(config, work)
    ends = moment(until)
    text = told_granted(f"Key {key_id}", pages, shown(at(ends)), budgets)
    answer({"id": key_id, "pages": pages, "until": ends}, lambda: print_lines(text))
    if budgets == []:
        say(f"warning: {key_id} has neither pages_per_day nor pages_per_month, so this changes nothing for it now")


def end_grants(config: Path, key_id: str) -> None:
    """Ends all grants of a key now."""

    async def work(session: Session) -> list[GrantRow]:
        return await session.keys.end_grants(session.actor, key_id, None)

    ended, _ = change(config, work)
    answer({"id": key_id, "grants": as_written(ended)}, lambda: print_lines(told_ended(key_id, ended)))


def reset(config: Path, key_id: str) -> None:
    """Resets a key's windows."""

    async def work(session: Session) -> tuple[Used, str | None]:
        return await session.keys.reset(session.actor, key_id), session.settings.prices.currency

    (used, currency), _ = change(config, work)
    spent = shown(spend(used.spend, currency))
    text = (
        f"The windows of {key_id} are reset; forgotten of this month: {used.requests} requests, "
        f"{pages_of(used.pages)}, spend {spent}. What is in flight stays, and so does what gateway usage tells."
    )
    answer({"id": key_id, **used._asdict(), "spend": used.spend / MILLION}, lambda: print_lines(text))


def _secret_of(made: Made) -> dict[str, Any]:
    return {"id": made.id, "secret": made.secret, "generation": made.generation}


def _until(ends: str | None) -> str:
    return f"until {shown(at(ends))}" if ends else "without an end"


def _limit(value: Any) -> str:
    return "none" if value is None else str(value)
