"""What a key may be: checks of requested values before any is stored. Pure.

A refusal is one sentence for the caller, on the command line or in the admin API.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from gateway.config.compile import compile_overrides
from gateway.config.consistency import nearest
from gateway.config.fault_words import fault_words
from gateway.config.networks import read_network
from gateway.config.settings import LimitOverrides, Settings
from gateway.ledger.keys import KeyProblem, NewKeyRow
from gateway.model import patterns
from gateway.model.keys import KeyRecord
from gateway.units import LATEST

DEFAULT: Final = "default"  # the value that returns a limit to the profile's
_ID: Final = re.compile(patterns.ID)
_OWNER: Final = re.compile(patterns.OWNER)
_SCOPE: Final = re.compile(patterns.SCOPE)
_MAX_SHOWN: Final = 40
_STORED_AS: Final = {"page_range": "needs_page_range"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested key. `expires_at` is in seconds since the epoch; `limits` as in the configuration."""

    id: str
    profile: str = "default"
    owner: str | None = None
    scopes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    expires_at: float | None = None


def plain_id(key_id: str, settings: Settings) -> str:
    """Returns the id, if a key of the ledger may have it.

    Raises:
        KeyProblem: it is malformed, or that of a configured key.
    """
    if not _ID.fullmatch(key_id):
        raise KeyProblem("an id has 1 to 63 characters of a-z, 0-9 and -", "invalid", "id")
    if key_id in {key.id for key in settings.keys}:
        raise KeyProblem(f"{key_id} is a key of the configuration: change it there", path="id")
    return key_id


def new_key(wanted: Wanted, settings: Settings, now: float) -> NewKeyRow:
    """Returns a new key, as it is stored.

    Raises:
        KeyProblem: a value is wrong.
    """
    key_id = plain_id(wanted.id, settings)
    profile = _profile(wanted.profile, settings)
    limits = _merged({}, wanted.limits)
    _check_pages(limits, profile, settings)
    return NewKeyRow(
        key_id,
        profile,
        key_id if wanted.owner is None else _owner(wanted.owner),
        _scopes(wanted.scopes),
        _networks(wanted.networks),
        limits,
        _end(wanted.expires_at, now),
    )


def changed_values(record: KeyRecord, wanted: Mapping[str, Any], settings: Settings, now: float) -> dict[str, Any]:
    """Returns a key's new values of Wanted, as they are stored.

    Only the named ones of `limits` change; the value `default` restores the profile's.

    Raises:
        KeyProblem: a value is wrong.
    """
    checks: Mapping[str, Callable[[Any], Any]] = {
        "profile": lambda value: _profile(value, settings),
        "owner": lambda value: record.id if value is None else _owner(value),
        "scopes": _scopes,
        "networks": _networks,
        "limits": lambda value: _merged(record.limits, value),
        "expires_at": lambda value: _end(value, now),
    }
    if "limits" in wanted and "limits" in record.unreadable:
        told = f"the limits of {record.id} can't be read by this release: change them with the one that wrote them"
        raise KeyProblem(told)
    values = {name: checks[name](value) for name, value in wanted.items()}
    if "limits" in values or "profile" in values:
        _check_pages(values.get("limits", record.limits), values.get("profile", record.profile), settings)
    return values


def _profile(name: str, settings: Settings) -> str:
    if name not in settings.profiles:
        known = ", ".join(sorted(settings.profiles))
        hint = nearest(name, settings.profiles) or f"; there are: {known}"
        raise KeyProblem(f"there is no profile {name}{hint}", "invalid", "profile")
    return name


def _owner(owner: str) -> str:
    if not _OWNER.fullmatch(owner):
        raise KeyProblem("an owner has 1 to 128 characters of A-Z, a-z, 0-9 and ._@-", "invalid", "owner")
    return owner


def _scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(_SCOPE.fullmatch, scopes)):
        raise KeyProblem("a scope has 1 to 64 characters of A-Z, a-z, 0-9 and :._-", "invalid", "scopes")
    return tuple(dict.fromkeys(scopes))


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_network, networks))


def _network(text: str) -> str:
    try:
        return str(read_network(text))
    except ValueError as error:
        what = text if len(text) <= _MAX_SHOWN and text.isprintable() else "that"
        raise KeyProblem(f"{what} {error}", "invalid", "networks") from None


def _end(moment: float | None, now: float) -> int | None:
    return None if moment is None else future(moment, now, "the expiry", "expires_at")


def future(moment: float, now: float, what: str, path: str) -> int:
    """Returns a future moment in whole seconds since the epoch; `what` begins the sentence that refuses any other.

    `path` is where it was given.

    Raises:
        KeyProblem: it is past, or after the year 9999.
    """
    if not now < moment:
        raise KeyProblem(f"{what} is in the past", "invalid", path)
    if moment > LATEST:
        raise KeyProblem(f"{what} is too far away", "invalid", path)
    return int(moment)


def _merged(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The stored overrides, updated with the wanted ones: names and units are those of Profile."""
    given = {name: value for name, value in wanted.items() if value != DEFAULT}
    try:
        overrides = LimitOverrides.model_validate(given)
    except ValidationError as error:
        raise KeyProblem(_fault(error), "invalid", _place(error)) from None
    for name in wanted.keys() - given.keys() - LimitOverrides.model_fields.keys():
        raise KeyProblem(_unknown(name), "invalid", f"limits.{name}")
    gone = {_STORED_AS.get(name, name) for name in wanted}
    return {name: value for name, value in stored.items() if name not in gone} | compile_overrides(overrides)


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return _unknown(name)
    text = fault_words(
        name, first["type"], first["msg"], first.get("ctx", {}), _shown(first["input"]) if name else None
    )
    return f"{name}: {text}" if name else text


def _place(error: ValidationError) -> str:
    return ".".join(map(str, ("limits", *error.errors(include_url=False)[0]["loc"])))


def _shown(value: Any) -> Any:
    """What is repeated to whoever gave it: a short text, and none that a file's hints are about."""
    return None if isinstance(value, str) and ("$" in value or len(value) > _MAX_SHOWN) else value


def _unknown(name: str) -> str:
    near = nearest(name, LimitOverrides.model_fields)
    return f"there is no limit {name}{near or '; there are ' + ', '.join(LimitOverrides.model_fields)}"


def _check_pages(limits: Mapping[str, Any], profile_name: str, settings: Settings) -> None:
    profile = settings.profiles.get(profile_name)
    if profile is None:  # not configured any more: the key is refused anyway until it has another
        return
    in_flight = limits.get("pages_in_flight", profile.pages_in_flight)
    if in_flight < limits.get("pages_per_request", profile.pages_per_request):
        told = "pages_in_flight is less than pages_per_request: such a job could never run"
        raise KeyProblem(told, "invalid", "limits.pages_in_flight")
