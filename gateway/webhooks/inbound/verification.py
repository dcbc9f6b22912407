"""Parses and verifies an inbound webhook, in constant time: pure.

Only JSON with a single reading is accepted (a repeated member is refused), so that the service that gets it reads
what was verified here.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.errors import Refused, refuse
from gateway.http.strict_json import MAX_MARKS, read_texts
from gateway.ledger.inbound_webhooks import Message
from gateway.model.reasons import Reason
from gateway.webhooks.inbound.settings import InboundSettings
from gateway.webhooks.inbound.told_secret import MEMBER, ToldSecret
from gateway.webhooks.signature import (
    PLAIN,
    STANDARD,
    STANDARD_ID,
    STANDARD_TIME,
    TOLERANCE,
    BodySignature,
    Sent,
    may_be_signed,
    signed_id,
)

_MAX_LENGTH: Final = 256
_SHORT: Final = 65_536  # bytes of a body that are read in a millisecond
_MALFORMED: Final = (
    "The body must be one JSON object whose request_id is a text of 1 to 256 characters, "
    f"with {MAX_MARKS:,} quotation marks, commas, backslashes and brackets at the most."
)
_UNSIGNED: Final = Sent(None, None, None, None)


class Verified(NamedTuple):
    """A webhook of a sender who is believed: what it is known by.

    `tells_secret`: its body has the member webhook_secret, which is not to be forwarded (`without_secret`).
    """

    message: Message
    tells_secret: bool


class SenderCheck:
    """Judges a webhook's sender while the body comes, and reads the body of one that is believed.

    Args:
        settings: the webhook's, as they are when the head has come.
        headers: values by names in lower case.
        now: seconds since the epoch.

    Raises:
        Refused: unauthenticated: no body could make it acceptable.
    """

    __slots__ = ("_rules", "_sent", "_signature", "_told")

    def __init__(self, settings: InboundSettings, headers: Mapping[bytes, Sequence[bytes]], now: float) -> None:
        sent = _sent(headers)
        is_told = sent == _UNSIGNED and settings.accept_body_secret
        if sent is None or not (is_told or may_be_signed(sent, now, TOLERANCE)):
            raise _unsigned()
        self._rules = _rules_of(settings)
        self._sent = sent
        self._told = ToldSecret() if is_told else None
        self._signature = None if is_told else BodySignature(sent, settings.known)

    def is_by(self, settings: InboundSettings) -> bool:
        """Whether it judges by these settings. If not, a new one has to take the body again."""
        return _rules_of(settings) == self._rules

    def take(self, piece: bytes) -> None:
        """Takes the body's next bytes. Each piece costs only its own: a body is never gone through in one go."""
        if self._told is not None:
            self._told.take(piece)
        if self._signature is not None:
            self._signature.take(piece)

    def read(self, settings: InboundSettings, body: bytes, now: float) -> Verified:
        """Verifies the body, all of whose pieces were taken. The settings are those by which it judges (`is_by`).

        Raises:
            Refused: unauthenticated, or, once verified, body_malformed.
        """
        is_believed = self._signature is not None and self._signature.is_of(now, TOLERANCE)
        members = read_texts(body) if is_believed or self._may_tell(body, settings.known) else None
        if not is_believed and not (members is not None and _tells(members.get(MEMBER), settings.known)):
            raise _unsigned()
        return _verified(members, signed_id(self._sent))

    def _may_tell(self, body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether a body is worth reading before its sender is known: a megabyte holds all others for 10 ms."""
        return self._told is not None and (len(body) <= _SHORT or self._told.is_one_of(secrets, body))


def _rules_of(settings: InboundSettings) -> tuple[tuple[bytes, ...], bool]:
    """What a check began with."""
    return settings.known, settings.accept_body_secret


def without_secret(members: dict[str, Any]) -> bytes | None:
    """Writes a believed sender's body anew, without the secret that it tells; None: JSON can't say what is in it.

    Characters stay as they are: spelled as escapes they are up to six times as long, and take as much longer.
    """
    rest = {name: value for name, value in members.items() if name != MEMBER}
    try:
        text = json.dumps(rest, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):  # 1e999 (Python parses it, JSON can't write it); too deep nesting
        return None
    return text.encode("utf-8", "backslashreplace")  # half of a surrogate pair was an escape, and is one again


def malformed() -> Refused:
    """The refusal of a believed sender's body."""
    return refuse(Reason.BODY_MALFORMED, _MALFORMED)


def _verified(members: dict[str, Any] | None, message_id: str | None) -> Verified:
    request_id = None if members is None else members.get("request_id")
    if members is None or not isinstance(request_id, str) or not _is_usable(request_id):
        raise malformed()
    return Verified(Message(request_id, message_id), MEMBER in members)


def _unsigned() -> Refused:
    return refuse(Reason.UNAUTHENTICATED, "The webhook has no signature that fits, or none at all.")


def _sent(headers: Mapping[bytes, Sequence[bytes]]) -> Sent | None:
    """The signature headers; None if one occurs twice."""
    values = [headers.get(name.encode(), ()) for name in (PLAIN, STANDARD_ID, STANDARD_TIME, STANDARD)]
    if any(len(value) > 1 for value in values):
        return None
    return Sent(*(value[0].decode("latin-1").strip(" \t") if value else None for value in values))


def _is_usable(request_id: str) -> bool:
    # A lone surrogate, which JSON can spell, and NUL can't be stored by both ledgers.
    return 0 < len(request_id) <= _MAX_LENGTH and request_id.isprintable()


def _tells(theirs: Any, secrets: Sequence[bytes]) -> bool:
    if not isinstance(theirs, str):
        return False
    told = theirs.encode("utf-8", "surrogatepass")
    equal = [hmac.compare_digest(told, secret) for secret in secrets]
    return any(equal)
