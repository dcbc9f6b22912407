"""What each `why` of a refused credential means, in the words of docs/log.md, and which command tells more. Pure."""

import shlex
from collections.abc import Mapping
from typing import Final

from gateway.model.reasons import Reason, Why

MEANINGS: Final[Mapping[Why, str]] = {
    Why.MALFORMED: "It is no signed JWT in its one canonical form, or larger than 8 KB.",
    Why.ISSUER: "Its iss is none of authentication.jwt, byte for byte.",
    Why.ALGORITHM: "Its alg is none of the issuer's algorithms.",
    Why.KEYS_NOT_THERE: "The issuer's keys were never fetched, or were dropped: see gateway_jwks_keys.",
    Why.UNKNOWN_KEY: "The issuer has no key of its kid for its alg, also after another fetch.",
    Why.SIGNATURE: "The key did not make its signature.",
    Why.AUDIENCE: "Its aud has none of the issuer's audience.",
    Why.CLAIM: (
        "A claim is missing, of the wrong form, or not as required_claims wants: owner_claim, exp, nbf, iat, scopes."
    ),
    Why.NOT_YET_VALID: "Its nbf or iat is in the future: look at the clocks.",
    Why.EXPIRED: "It was good, and has ended.",
    Why.SCOPE: "It lacks one of required_scopes (403).",
    Why.PROFILE: "It names no profile that is there (403).",
    Why.MISSING: "tls.client_certificates is required, and the connection has none.",
    Why.AMBIGUOUS: "It has several names of the kind that identity takes.",
    Why.NAME: "Its name is none of names.",
    Why.BLOCKED: "An administrator has blocked its owner: see /admin/v1/callers (403).",
    Why.NOT_WHOLE: "Its checksum does not fit: it was cut off.",
    Why.CLOSED: "It is revoked or disabled, or its profile is gone.",
    Why.REPLACED: (
        "Its key is well, but this secret's overlap after a rotation is over: the bearer has to take the newer one."
    ),
    Why.NOT_KNOWN: "There is no such key, or no more.",
}
_OF_TOKENS: Final = frozenset(
    {
        Why.MALFORMED,
        Why.ISSUER,
        Why.ALGORITHM,
        Why.KEYS_NOT_THERE,
        Why.UNKNOWN_KEY,
        Why.SIGNATURE,
        Why.AUDIENCE,
        Why.CLAIM,
        Why.NOT_YET_VALID,
        Why.SCOPE,
        Why.PROFILE,
    }
)
_OF_CERTIFICATES: Final = frozenset({Why.MISSING, Why.AMBIGUOUS, Why.NAME})


def meaning_of(why: str | None) -> str | None:
    """What a word means; None for one that is not of this version."""
    return MEANINGS[Why(why)] if why in set(Why) else None


def command_for(why: str | None, reason: str, key_id: str | None) -> str | None:
    """The command that tells more of a refusal."""
    if why in _OF_TOKENS or reason == Reason.TOKEN_EXPIRED:
        return "gateway explain --token FILE"
    if why in _OF_CERTIFICATES:
        return "gateway explain --certificate FILE"
    if key_id is not None and ":" not in key_id:
        return f"gateway keys show {key_id}"
    if key_id is not None and key_id.startswith(("jwt:", "cert:")):
        return f"gateway callers show {shlex.quote(key_id)}"
    return "gateway keys list" if why in {Why.NOT_KNOWN, Why.NOT_WHOLE, Why.CLOSED} else None
