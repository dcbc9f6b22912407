"""Which credential a request carries: pure.

X-API-Key, or Authorization: Bearer (RFC 6750 2.1). Never the query string: it ends up in logs. A request with two
header credentials gets a 400: a proxy in between might have checked the other one. An Authorization of another scheme
beside X-API-Key is ignored: clients add Basic from a .netrc unasked.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason

MAX_CREDENTIAL: Final = 8192  # bytes, of a key or token
_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9-]*) +[\x21-\x7e]")
_BEARER: Final = b"bearer "


def credential_of(known: Mapping[bytes, list[bytes]]) -> bytes | None:
    """Reads the one credential from the headers; None when the request has none.

    Raises:
        Refused: bad_request for more than one, unauthenticated for a scheme that is not Bearer.
    """
    keys = known.get(b"x-api-key")
    authorizations = known.get(b"authorization")
    if keys is None and authorizations is None:
        return None
    if keys is not None and authorizations is not None and all(map(_is_foreign, authorizations)):
        authorizations = None
    if keys is not None and authorizations is not None:
        raise refuse(Reason.BAD_REQUEST, "Send one credential: X-API-Key or Authorization, not both.")
    values = keys if keys is not None else authorizations
    if values is None or len(values) != 1:
        raise refuse(Reason.BAD_REQUEST, "Send one credential, in one header.")
    return _usable(values[0] if keys is not None else _bearer(values[0]))


def _is_foreign(value: bytes) -> bool:
    """Whether its scheme is unknown to us; a value that could be read as Bearer in any way does not count."""
    match = _SCHEME.match(value)
    return match is not None and match[1].lower() != _BEARER.strip()


def _bearer(value: bytes) -> bytes:
    if value[: len(_BEARER)].lower() != _BEARER:
        raise refuse(Reason.UNAUTHENTICATED, "The only scheme that Authorization takes here is Bearer.")
    return value[len(_BEARER) :].strip(b" ")


def _usable(credential: bytes) -> bytes:
    if not credential or len(credential) > MAX_CREDENTIAL:
        raise refuse(Reason.UNAUTHENTICATED, "The credential is empty or too long.")
    return credential
