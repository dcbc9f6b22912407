"""Whether a token would be accepted, and which rule refuses it: by the gateway's own judgement. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.auth.jwt.claims import Issuer
from gateway.auth.jwt.jws import read_token
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.cli.explain_key import Judged
from gateway.cli.why_words import MEANINGS
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.reasons import Denial, Why
from gateway.units import moment

_SHOWN: Final = 120
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
}


def judge_token(state: State, token: bytes, now: float) -> Judged:
    """Judges a token as the gateway does; `state` has the issuers' keys, `now` is in seconds since the epoch."""
    if not state.issuers:
        return Judged(None, "No issuer is configured.", "Write one under authentication.jwt.")
    try:
        identity = identify(token, state.issuers, state.profiles, now)
    except KeyUnknown as unknown:
        return _refused(unknown.refusal.denial, token, state.issuers)
    except Refused as refused:
        return _refused(refused.denial, token, state.issuers)
    ends = moment(identity.expires_at) if identity.expires_at else "never"
    return Judged(identity, f"good: owner {identity.owner}, profile {identity.profile.name}, until {ends}")


def issuer_of(token: bytes, state: State) -> str | None:
    """The issuer that a token names, if it is one of ours; not yet verified."""
    read = read_token(token)
    name = None if read is None else read.claims.get("iss")
    return name if isinstance(name, str) and name in state.issuers else None


def described(token: bytes) -> str:
    """What a token says of itself, for whoever holds it."""
    read = read_token(token)
    if read is None:
        return "no signed JWT in its canonical form"
    times = {name: _moment(read.claims.get(name)) for name in ("iat", "nbf", "exp")}
    says = {
        "alg": read.algorithm,
        "kid": read.kid,
        "iss": read.claims.get("iss"),
        "aud": read.claims.get("aud"),
        **times,
    }
    return ", ".join(f"{name} {str(value)[:_SHOWN]}" for name, value in says.items() if value is not None)


def _refused(denial: Denial, token: bytes, issuers: Mapping[str, Issuer]) -> Judged:
    why = denial.why or Why.MALFORMED
    return Judged(None, f"{why}: {_wanted(why, token, issuers)}", _HELP.get(why, ""), denial)


def _wanted(why: Why, token: bytes, issuers: Mapping[str, Issuer]) -> str:
    read = read_token(token)
    issuer = None if read is None else issuers.get(str(read.claims.get("iss")))
    if why is Why.ISSUER or issuer is None:
        return f"the issuers are {', '.join(sorted(issuers))}" if why is Why.ISSUER else MEANINGS[why]
    wanted: dict[Why, Any] = {
        Why.ALGORITHM: f"the issuer's algorithms are {', '.join(sorted(issuer.algorithms))}",
        Why.AUDIENCE: f"the audiences here are {', '.join(sorted(issuer.audience))}",
        Why.CLAIM: f"wanted are {issuer.owner_claim}, exp{''.join(f', {name}' for name in issuer.required_claims)}",
        Why.SCOPE: f"wanted are {' '.join(sorted(issuer.required_scopes))}",
        Why.EXPIRED: f"leeway is {issuer.leeway:g} s",
        Why.NOT_YET_VALID: f"leeway is {issuer.leeway:g} s",
    }
    return str(wanted.get(why) or MEANINGS[why])


def _moment(value: Any) -> str | None:
    return moment(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
