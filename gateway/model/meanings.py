"""What each `why` of a refused credential means, in the words of docs/log.md. Pure."""

from collections.abc import Mapping
from typing import Final

from gateway.model.reasons import Why

MEANINGS: Final[Mapping[Why, str]] = {
    Why.MALFORMED: "It is not a signed JWT in canonical form, or is larger than 8 KB.",
    Why.ISSUER: "Its iss matches no issuer in authentication.jwt, byte for byte.",
    Why.ALGORITHM: "Its alg is not among the issuer's algorithms.",
    Why.KEYS_NOT_THERE: "The issuer's keys were never fetched, or were dropped: see gateway_jwks_keys.",
    Why.UNKNOWN_KEY: "The issuer has no key of its kid for its alg, also after another fetch.",
    Why.SIGNATURE: "The key did not make its signature.",
    Why.AUDIENCE: "Its aud matches none of the issuer's audiences.",
    Why.CLAIM: (
        "A claim is missing, of the wrong form, or not as required_claims wants: owner_claim, exp, nbf, iat, scopes."
    ),
    Why.NOT_YET_VALID: "Its nbf or iat is in the future: look at the clocks.",
    Why.EXPIRED: "It has expired.",
    Why.SCOPE: "It lacks one of required_scopes (403).",
    Why.PROFILE: "It names a profile that does not exist (403).",
    Why.MISSING: "tls.client_certificates is required, and the connection has none.",
    Why.AMBIGUOUS: "It has several names of the kind that identity takes.",
    Why.NAME: "Its name is not listed in names.",
    Why.BLOCKED: "An administrator has blocked its owner: see /admin/v1/callers (403).",
    Why.NOT_WHOLE: "Its checksum does not fit: it was cut off.",
    Why.CLOSED: "It is revoked or disabled, or its profile is gone.",
    Why.REPLACED: (
        "The key is valid, but this secret was rotated out and its overlap is over: use the newer secret."
    ),
    Why.NOT_KNOWN: "The key does not exist, or no longer exists.",
}


def meaning_of(why: str | None) -> str | None:
    """What a word means; None for one that is not of this version."""
    return MEANINGS[Why(why)] if why in set(Why) else None
