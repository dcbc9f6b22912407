"""Whether a token would be accepted, and which rule refuses it: by the gateway's own judgement. Pure."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.admin.judged import Judged
from gateway.auth.jwt.claims import Issuer, claims_at_fault, judge
from gateway.auth.jwt.jws import read_token
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.auth.validity import check_not_blocked
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.identity import Identity
from gateway.model.meanings import MEANINGS
from gateway.model.printable import printable
from gateway.model.reasons import Denial, Why
from gateway.units import moment

_SHOWN: Final = 120
_MOST: Final = 10
_HELP: Final[Mapping[Why, str]] = {
    Why.MALFORMED: "Take the token as the issuer gave it: three parts with dots, base64url, signed; at most 8 KB.",
    Why.ISSUER: "Write its iss, byte for byte, as issuer of an entry of authentication.jwt.",
    Why.ALGORITHM: "Add its alg to algorithms of the issuer, if the issuer signs so.",
    Why.KEYS_NOT_THERE: "The issuer's keys can't be fetched: look at its jwks or discovery, and at the network.",
    Why.UNKNOWN_KEY: "The issuer has no key of this kid for this alg: get a new token, or look at its jwks.",
    Why.SIGNATURE: "It was changed, or another key signed it: get a new token from this issuer.",
    Why.AUDIENCE: "Ask the issuer for a token for one of these audiences, or add its aud to audience.",
    Why.CLAIM: "It lacks a claim, or one has another form or value: see owner_claim, required_claims, exp, scope.",
    Why.NOT_YET_VALID: "Its nbf or iat is in the future: set the clocks, or raise leeway (at most 60s).",
    Why.EXPIRED: "Get a new token.",
    Why.SCOPE: "Ask the issuer for a token with all of required_scopes.",
    Why.PROFILE: "Name a profile of profiles: by the claim that profile_claim names, or by profile of the issuer.",
    Why.BLOCKED: "An administrator has blocked its owner: `gateway callers unblock` lets him in again.",
}


def judge_token(state: State, token: bytes, now: float) -> Judged:
    """Judges a token as the gateway does; `state` has the issuers' keys, `now` is in seconds since the epoch."""
    return _judged(state, token, now, lambda: identify(token, state.issuers, state.profiles, now))


def judge_signed_token(state: State, token: bytes, now: float) -> Judged:
    """Judges a token whose signature a gateway has verified that holds the issuer's keys, which `state` lacks."""
    read, name = read_token(token), issuer_of(token, state)
    if read is None or name is None:
        return judge_token(state, token, now)
    return _judged(state, token, now, lambda: judge(read.claims, state.issuers[name], state.profiles, now))


def _judged(state: State, token: bytes, now: float, identified: Callable[[], Identity]) -> Judged:
    if not state.issuers:
        return Judged(None, "No issuer is configured.", "Write one under authentication.jwt.")
    try:
        identity = identified()
        check_not_blocked(identity, state.blocked)
    except KeyUnknown as unknown:
        return _refused(unknown.refusal.denial, token, state, now)
    except Refused as refused:
        return _refused(refused.denial, token, state, now)
    ends = moment(identity.expires_at) if identity.expires_at else "never"
    return Judged(identity, f"good: owner {identity.owner}, profile {identity.profile.name}, until {ends}")


def issuer_of(token: bytes, state: State) -> str | None:
    """The issuer that a token names, if it is one of ours; not yet verified."""
    read = read_token(token)
    name = None if read is None else read.claims.get("iss")
    return name if isinstance(name, str) and name in state.issuers else None


def described(token: bytes) -> str:
    """What a token says of itself, for its bearer."""
    read = read_token(token)
    if read is None:
        return "not a signed JWT in canonical form"
    times = {name: _moment(read.claims.get(name)) for name in ("iat", "nbf", "exp")}
    says = {
        "alg": read.algorithm,
        "kid": read.kid,
        "iss": read.claims.get("iss"),
        "aud": read.claims.get("aud"),
        **times,
    }
    return ", ".join(f"{name} {str(value)[:_SHOWN]}" for name, value in says.items() if value is not None)


def _refused(denial: Denial, token: bytes, state: State, now: float) -> Judged:
    if denial.why is None:
        return Judged(None, denial.detail, "", denial)
    return Judged(None, f"{denial.why}: {_wanted(denial.why, token, state, now)}", _HELP.get(denial.why, ""), denial)


def _wanted(why: Why, token: bytes, state: State, now: float) -> str:
    read, issuers = read_token(token), state.issuers
    issuer = None if read is None else issuers.get(str(read.claims.get("iss")))
    if why is Why.ISSUER or read is None or issuer is None:
        return (
            _issuers(None if read is None else read.claims.get("iss"), issuers)
            if why is Why.ISSUER
            else MEANINGS[why]
        )
    says = read.claims
    wanted: dict[Why, Any] = {
        Why.ALGORITHM: f"the issuer's algorithms are {', '.join(sorted(issuer.algorithms))}",
        Why.UNKNOWN_KEY: f"{MEANINGS[why]} {_keys_there(issuer)}",
        Why.AUDIENCE: f"{_claim(says, 'aud')}; the audiences here are {', '.join(sorted(issuer.audience))}",
        Why.CLAIM: f"{_claims(says, issuer)}; wanted are {_wanted_claims(issuer)}",
        Why.SCOPE: f"{_scopes(says)}; wanted are {' '.join(sorted(issuer.required_scopes))}",
        Why.EXPIRED: f"it ended {_moment(says.get('exp'))}, and it is {moment(now)}; leeway is {issuer.leeway:g} s",
        Why.NOT_YET_VALID: f"{_begins(says)}, and it is {moment(now)}; leeway is {issuer.leeway:g} s",
        Why.PROFILE: f"{_profile(says, issuer)}; the profiles are {', '.join(sorted(state.profiles))}",
    }
    return str(wanted.get(why) or MEANINGS[why])


def _issuers(named: Any, issuers: Mapping[str, Issuer]) -> str:
    """Which there are; first the one that a token all but names."""
    known = sorted(issuers)
    differs = [(name, by) for name in known if isinstance(named, str) and (by := _difference(named, name))]
    alike = "".join(f"its iss differs from {name} only by {by}; " for name, by in differs[:1])
    return f"{alike}the issuers are {', '.join(known)}"


def _difference(one: str, other: str) -> str:
    """By what alone two names differ, if by no more than case and a slash at the end."""
    bare, its = one.removesuffix("/"), other.removesuffix("/")
    if bare.casefold() != its.casefold():
        return ""
    found = {"case": bare != its, "a slash at the end": one.endswith("/") != other.endswith("/")}
    return " and ".join(by for by, is_so in found.items() if is_so)


def _keys_there(issuer: Issuer) -> str:
    """What the issuer's keys are called that are held, and what they are for."""
    keys = issuer.keys.keys if issuer.keys is not None else ()
    told = [f"{_kid(key.kid)} ({' '.join(sorted(key.algorithms))})" for key in keys[:_MOST]]
    more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
    return f"It has {', '.join(told)}{more}."


def _kid(kid: str | None) -> str:
    """Its issuer may have named it with anything, also with what is no text in UTF-8."""
    return "one without kid" if kid is None else printable(kid[:_SHOWN])


def _begins(claims: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {_moment(claims[name])}" for name in ("nbf", "iat") if name in claims)


def _scopes(claims: Mapping[str, Any]) -> str:
    given = [_claim(claims, name) for name in ("scope", "scp") if name in claims]
    return ", ".join(given) or "it has no scope"


def _wanted_claims(issuer: Issuer) -> str:
    required = (f"{name} {json.dumps(value)}" for name, value in issuer.required_claims.items())
    return ", ".join((issuer.owner_claim, "exp", *required))


def _claims(claims: Mapping[str, Any], issuer: Issuer) -> str:
    return ", ".join(_claim(claims, name) for name in claims_at_fault(claims, issuer))


def _profile(claims: Mapping[str, Any], issuer: Issuer) -> str:
    if issuer.profile_claim is None:
        return f"profile of the issuer is {issuer.profile}"
    return _claim(claims, issuer.profile_claim)


def _claim(claims: Mapping[str, Any], name: str) -> str:
    return f"{name} is {json.dumps(claims[name])[:_SHOWN]}" if name in claims else f"{name} is missing"


def _moment(value: Any) -> str | None:
    return moment(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
