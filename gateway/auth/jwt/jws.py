"""Parses the compact form of a signed token (RFC 7515 3.1), without trusting it: pure.

Applies the rules of RFC 8725 3 that need no key: one spelling only, no encryption, no header that brings its own key
or changes what is signed. PyJWT would be more lenient.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from gateway.auth.credential import MAX_CREDENTIAL
from gateway.auth.jwt.base64url import decode_base64url
from gateway.http.strict_json import read_object

MAX_KID: Final = 256  # characters, of a key's name in a token or in a key set
_TYPES: Final = frozenset({"jwt", "at+jwt"})
# crit and b64 change the meaning of what follows (RFC 7515 4.1.11, RFC 7797). zip and enc belong to encrypted tokens.
# The others carry a key or say where to fetch one. x5c, x5t and x5t#S256 are allowed, because Entra ID and others
# send them; no key is ever taken from a header.
_REFUSED: Final = frozenset({"crit", "b64", "zip", "enc", "jwk", "jku", "x5u"})


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token. `algorithm`, `kid` and `claims` are the bearer's word: verify the signature first."""

    algorithm: str
    kid: str | None
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_token(token: bytes) -> Token | None:
    """Parses a token; None when it is not a signed JWT in its one canonical form."""
    if len(token) > MAX_CREDENTIAL or token.count(b".") != 2:  # noqa: PLR2004 -- header.payload.signature
        return None
    signed, _, last = token.rpartition(b".")
    first, _, middle = signed.partition(b".")
    header, signature = _object(first), decode_base64url(last)
    if header is None or signature is None or not _is_sound(header):
        return None
    claims = _object(middle)
    return None if claims is None else Token(header["alg"], header.get("kid"), claims, signed, signature)


def _object(segment: bytes) -> dict[str, Any] | None:
    data = decode_base64url(segment)
    return None if data is None else read_object(data)


def _is_sound(header: dict[str, Any]) -> bool:
    return (
        isinstance(header.get("alg"), str)
        and _REFUSED.isdisjoint(header)
        and ("kid" not in header or _is_kid(header["kid"]))
        and ("typ" not in header or _is_type(header["typ"]))
    )


def _is_kid(kid: object) -> bool:
    return isinstance(kid, str) and 0 < len(kid) <= MAX_KID


def _is_type(typ: object) -> bool:
    return isinstance(typ, str) and typ.lower().removeprefix("application/") in _TYPES
