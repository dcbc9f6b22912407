"""Judges the claims of a verified token: an identity, or the reason for a refusal. Pure.

Order matters. Expiry is checked after all other faults of the token, so "expired" means that a fresh token of the
same kind would be accepted. Permissions come last: only a caller with a valid token learns what it may not do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.auth.jwt.key_set import KeySet
from gateway.errors import Refused, refuse
from gateway.model.account_names import JWT
from gateway.model.identity import Identity, Profile
from gateway.model.reasons import Bearer, Reason, Why
from gateway.units import LATEST

_MAX_OWNER: Final = 255
_VISIBLE: Final = frozenset(map(chr, range(0x21, 0x7F)))
_MAX_AUDIENCE: Final = 100
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_INVALID: Final = "This token is not valid here."
_EXPIRED: Final = "This token has expired; get a new one."
_SCOPE: Final = "This token lacks a scope that is required here."
_PROFILE: Final = "This token names a profile that does not exist here."


@dataclass(frozen=True, slots=True)
class Issuer:
    """One identity provider, compiled: what its tokens must say, and its keys (None: not fetched yet).

    `leeway` is in seconds. `profile` is that of every token when `profile_claim` is None.
    """

    name: str
    audience: frozenset[str]
    algorithms: frozenset[str]
    leeway: float = 0.0
    owner_claim: str = "sub"
    profile_claim: str | None = None
    profile: str = "default"
    required_claims: Mapping[str, Any] = field(default_factory=dict)
    required_scopes: frozenset[str] = frozenset()
    keys: KeySet | None = None


def invalid(why: Why) -> Refused:
    """The refusal of a token, the same for every fault: a forger doesn't learn how far it got, the log does."""
    return refuse(Reason.TOKEN_INVALID, _INVALID, why)


def expired() -> Refused:
    """The refusal of a token that was valid and has expired."""
    return refuse(Reason.TOKEN_EXPIRED, _EXPIRED, Why.EXPIRED)


def judge(claims: Mapping[str, Any], issuer: Issuer, profiles: Mapping[str, Profile], now: float) -> Identity:
    """Makes the identity of a token whose signature was verified; `now` is in seconds since the epoch.

    The signature must be of the issuer's key.

    Raises:
        Refused: token_invalid, token_expired or forbidden.
    """
    owner, scopes = _owner(claims, issuer), _scopes(claims)
    expires = _time(claims, "exp")
    if owner is None or scopes is None or expires is None:
        raise invalid(Why.CLAIM)
    _require_for_us(claims, issuer)
    for name in ("nbf", "iat"):
        _require_past(claims, name, now + issuer.leeway)
    expires_at = expires + issuer.leeway
    if now >= expires_at:
        raise expired()
    if not issuer.required_scopes <= scopes:
        raise refuse(Reason.FORBIDDEN, _SCOPE, Why.SCOPE)
    profile = _profile(claims, issuer, profiles)
    return Identity(owner, owner, profile, scopes, ("jwt", "accepted"), owner, expires_at=expires_at)


def claims_at_fault(claims: Mapping[str, Any], issuer: Issuer) -> list[str]:
    """The claims for which `judge` refuses a token as Why.CLAIM: missing, of another form, or of another value."""
    found = {
        issuer.owner_claim: _owner(claims, issuer) is None,
        "exp": _time(claims, "exp") is None,
        **{name: name in claims and _time(claims, name) is None for name in ("nbf", "iat")},
        **{name: _texts(claims.get(name, "")) is None for name in ("scope", "scp")},
        **{name: not _has(claims, name, wanted) for name, wanted in issuer.required_claims.items()},
    }
    return [name for name, is_wrong in found.items() if is_wrong]


def with_bearer(refused: Refused, claims: Mapping[str, Any], issuer: Issuer) -> Refused:
    """What `judge` refused, together with whose token it was, for the operator alone."""
    owner = _owner(claims, issuer)
    if owner is None:
        return refused
    denial = refused.denial
    audience = _shown(claims.get("aud")) if denial.why is Why.AUDIENCE else None
    return Refused(replace(denial, bearer=Bearer(owner, audience)))


def _shown(audience: object) -> str:
    """An audience that may be anything, as the log may have it: short visible ASCII; empty when it is none."""
    text = " ".join(_texts(audience) or ())
    short = text if len(text) <= _MAX_AUDIENCE else text[:_MAX_AUDIENCE] + "..."
    return "".join(character if character == " " or character in _VISIBLE else "?" for character in short)


def _require_for_us(claims: Mapping[str, Any], issuer: Issuer) -> None:
    audience = _texts(claims.get("aud"))
    if claims.get("iss") != issuer.name:
        raise invalid(Why.ISSUER)
    if audience is None or issuer.audience.isdisjoint(audience):
        raise invalid(Why.AUDIENCE)
    if not all(_has(claims, name, wanted) for name, wanted in issuer.required_claims.items()):
        raise invalid(Why.CLAIM)


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # The comparison also refuses infinity (from 1e999) and integers too big for a float.
    return float(value) if 0 <= value <= LATEST else None


def _require_past(claims: Mapping[str, Any], name: str, limit: float) -> None:
    if name not in claims:
        return
    time = _time(claims, name)
    if time is None:
        raise invalid(Why.CLAIM)
    if time > limit:
        raise invalid(Why.NOT_YET_VALID)


def _has(claims: Mapping[str, Any], name: str, wanted: object) -> bool:
    if name not in claims:
        return False
    # A token may have a thousand values. Those that have no parts are looked up in a set, and only of what is ours:
    # who gives the values could choose some that all meet in one place of it.
    given, listed = _listed(claims[name]), _listed(wanted)
    plain = {(type(value), value) for value in listed if type(value) in _PLAIN}
    if any(type(value) in _PLAIN and (type(value), value) in plain for value in given):
        return True
    parted = [value for value in given if type(value) not in _PLAIN]
    return any(_is_same(a, b) for a in listed if type(a) not in _PLAIN for b in parted)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_same(wanted: Any, given: Any) -> bool:
    """Equality as in JSON: in Python, true equals 1 and 1.0 equals 1. No deeper than `wanted`, which is ours."""
    if type(wanted) is not type(given):
        return False
    if isinstance(wanted, dict):
        return wanted.keys() == given.keys() and all(_is_same(wanted[name], given[name]) for name in wanted)
    if isinstance(wanted, list):
        return len(wanted) == len(given) and all(map(_is_same, wanted, given))
    return bool(wanted == given)


def _owner(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    """The owner's name; # and % of the issuer are escaped so that no claim can produce another issuer's names.

    A number is refused: to the issuer 5 and "5" may be two people (RFC 7519 4.1.2 allows only strings).
    """
    value = claims.get(issuer.owner_claim)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_OWNER or not _VISIBLE.issuperset(value):
        return None
    return namespace_of(issuer.name) + value


def namespace_of(issuer: str) -> str:
    """The prefix of the names of all owners of an issuer; no other issuer has the same."""
    return f"{JWT}{issuer.replace('%', '%25').replace('#', '%23')}#"


def _scopes(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """The scopes: `scope` (RFC 8693 4.2) and `scp` (Entra ID, Okta), each a text with spaces or a list."""
    found = set[str]()
    for name in ("scope", "scp"):
        value = claims.get(name, "")
        texts = value.split(" ") if isinstance(value, str) else _texts(value)
        if texts is None:
            return None
        found.update(texts)
    return frozenset(found - {""})


def _texts(value: object) -> list[str] | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        return None
    return values


def _profile(claims: Mapping[str, Any], issuer: Issuer, profiles: Mapping[str, Profile]) -> Profile:
    name = issuer.profile if issuer.profile_claim is None else claims.get(issuer.profile_claim)
    profile = profiles.get(name) if isinstance(name, str) else None
    if profile is None:
        raise refuse(Reason.FORBIDDEN, _PROFILE, Why.PROFILE)
    return profile
