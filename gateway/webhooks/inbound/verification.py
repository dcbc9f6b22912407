"""Parses and verifies an inbound webhook: pure.

Only JSON with a single reading is accepted (a repeated member is refused), so that the service that gets it reads
what was verified here.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.errors import Refused, refuse
from gateway.http.strict_json import MAX_MARKS, read_object, read_texts
from gateway.ledger.inbound_webhooks import Message
from gateway.model.reasons import Reason
from gateway.webhooks.inbound.settings import InboundSettings
from gateway.webhooks.signature import (
    PLAIN,
    STANDARD,
    STANDARD_ID,
    STANDARD_TIME,
    TOLERANCE,
    Sent,
    is_signed,
    may_be_signed,
    signed_id,
)

_SECRET: Final = "webhook_secret"  # noqa: S105 -- a member's name
_MAX_LENGTH: Final = 256
_SHORT: Final = 65_536  # bytes of a body that are read in a millisecond
_MALFORMED: Final = (
    "The body must be one JSON object whose request_id is a text of 1 to 256 characters, "
    f"with {MAX_MARKS:,} quotation marks, commas, backslashes and brackets at the most."
)
_UNSIGNED: Final = Sent(None, None, None, None)


class Incoming(NamedTuple):
    """A verified webhook: what it is known by, and the body to forward."""

    message: Message
    body: bytes


def read(settings: InboundSettings, headers: Mapping[bytes, Sequence[bytes]], body: bytes, now: float) -> Incoming:
    """Verifies a webhook; the names of headers are in lower case.

    If the body contains the secret, it is forwarded without that member, reserialized; any other byte for byte.

    Raises:
        Refused: unauthenticated, or, once verified, body_malformed.
    """
    sent = _sent(headers)
    if sent == _UNSIGNED and settings.accept_body_secret:
        members = read_texts(body) if may_tell(body, settings.known) else None
        is_believed = members is not None and _tells(members.get(_SECRET), settings.known)
    else:
        is_believed = is_signed(body, sent, settings.known, now, TOLERANCE)
        members = read_texts(body) if is_believed else None
    if not is_believed:
        raise _unsigned()
    request_id = None if members is None else members.get("request_id")
    if members is None or not isinstance(request_id, str) or not _is_usable(request_id):
        raise refuse(Reason.BODY_MALFORMED, _MALFORMED)
    return Incoming(Message(request_id, signed_id(sent)), _without_secret(body) if _SECRET in members else body)


def check_head(settings: InboundSettings, headers: Mapping[bytes, Sequence[bytes]], now: float) -> None:
    """Refuses, by its head alone, a webhook that no body could make acceptable.

    Raises:
        Refused: unauthenticated.
    """
    sent = _sent(headers)
    is_unsigned = sent == _UNSIGNED and settings.accept_body_secret
    if not is_unsigned and not may_be_signed(sent, now, TOLERANCE):
        raise _unsigned()


def _unsigned() -> Refused:
    return refuse(Reason.UNAUTHENTICATED, "The webhook has no signature that fits, or none at all.")


def _without_secret(body: bytes) -> bytes:
    """Writes it anew. Only here are its numbers read, of a sender that is known."""
    members = read_object(body)
    if members is None:
        raise refuse(Reason.BODY_MALFORMED, _MALFORMED)
    rest = {name: value for name, value in members.items() if name != _SECRET}
    try:
        return json.dumps(rest, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):  # 1e999 (Python parses it, JSON can't write it); too deep nesting
        raise refuse(Reason.BODY_MALFORMED, _MALFORMED) from None


def _sent(headers: Mapping[bytes, Sequence[bytes]]) -> Sent | None:
    """The signature headers; None if one occurs twice."""
    values = [headers.get(name.encode(), ()) for name in (PLAIN, STANDARD_ID, STANDARD_TIME, STANDARD)]
    if any(len(value) > 1 for value in values):
        return None
    return Sent(*(value[0].decode("latin-1").strip(" \t") if value else None for value in values))


def _is_usable(request_id: str) -> bool:
    # A lone surrogate, which JSON can spell, and NUL can't be stored by both ledgers.
    return 0 < len(request_id) <= _MAX_LENGTH and request_id.isprintable()


def may_tell(body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether a body is worth reading before its sender is known: to read a megabyte holds all others for 10 ms.

    A long one is if a secret is in it somewhere, spelled as JSON's writers spell it.
    """
    return len(body) <= _SHORT or any(spelled in body for secret in secrets for spelled in _spellings(secret))


def _spellings(secret: bytes) -> set[bytes]:
    text = secret.decode()
    written = {json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode() for is_ascii in (True, False)}
    return written | {one.replace(b"/", b"\\/") for one in written}


def _tells(theirs: Any, secrets: Sequence[bytes]) -> bool:
    if not isinstance(theirs, str):
        return False
    told = theirs.encode("utf-8", "surrogatepass")
    equal = [hmac.compare_digest(told, secret) for secret in secrets]
    return any(equal)
