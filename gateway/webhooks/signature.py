"""Webhook signatures, made, and compared in constant time: pure.

A body gets two. `X-Webhook-Signature` is Datalab's: the hexadecimal HMAC-SHA256 of the body, without a time.
`webhook-signature` is that of Standard Webhooks (standardwebhooks.com): over id, time and body, once for each secret
in force, so that a receiver may know the old or the new one while a secret is rotated.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

LEAST_SECRET: Final = 16
PLAIN: Final = "x-webhook-signature"
STANDARD_ID: Final = "webhook-id"
STANDARD_TIME: Final = "webhook-timestamp"
STANDARD: Final = "webhook-signature"
TOLERANCE: Final = 300.0
"""Seconds by which a message's time may be off, either way, so a message is accepted for at most twice as long."""
_PREFIX: Final = b"whsec_"
_VERSION: Final = "v1,"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = re.compile(r"[0-9]{1,12}")
_MAX_SIGNATURES: Final = 16
_MAX_ID: Final = 256


class Secrets(NamedTuple):
    """Signing secrets: `plain` for X-Webhook-Signature, `standard` for webhook-signature, the newest first."""

    plain: bytes
    standard: tuple[bytes, ...]


class Sent(NamedTuple):
    """The signature headers that came with a body; None for a missing one."""

    plain: str | None
    id: str | None
    time: str | None
    standard: str | None


def standard_key(secret: bytes) -> bytes:
    """The key that Standard Webhooks signs with: the secret's bytes, or what follows `whsec_`, base64-decoded.

    Raises:
        ValueError: what follows whsec_ is not base64, or less than 16 bytes.
    """
    if not secret.startswith(_PREFIX):
        return secret
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret that begins with whsec_ goes on in base64") from None
    if len(key) < LEAST_SECRET:
        raise ValueError(f"a secret after whsec_ has at least {LEAST_SECRET} bytes")
    return key


def check_secret(secret: bytes) -> bytes:
    """Returns the secret, if it can be used for signing.

    Raises:
        ValueError: it is shorter than 16 bytes, or its base64 is malformed.
    """
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"a webhook secret has at least {LEAST_SECRET} bytes")
    standard_key(secret)
    return secret


def plain_signature(secret: bytes, body: bytes) -> str:
    """The value of X-Webhook-Signature."""
    return hmac.new(secret, body, sha256).hexdigest()


def standard_signature(secret: bytes, message_id: str, time: str, body: bytes) -> str:
    """One of the values of webhook-signature, with its version; `time` in seconds since the epoch.

    Raises:
        ValueError: as `standard_key`.
    """
    code = hmac.new(standard_key(secret), _standard_begin(message_id, time), sha256)
    code.update(body)
    return _standard_value(code)


def sign(secrets: Secrets, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """Returns the headers that sign a body; `now` in seconds since the epoch.

    Raises:
        ValueError: as `standard_key`.
    """
    time = str(int(now))
    signatures = (standard_signature(secret, message_id, time, body) for secret in secrets.standard)
    return {
        "X-Webhook-Signature": plain_signature(secrets.plain, body),
        STANDARD_ID: message_id,
        STANDARD_TIME: time,
        STANDARD: " ".join(signatures),
    }


def sent_with(headers: Iterable[tuple[str, str]]) -> Sent | None:
    """Picks the signature headers, case-insensitively; returns None if one occurs twice."""
    found: dict[str, str] = {}
    for name, value in headers:
        known = name.lower()
        if known in {PLAIN, STANDARD_ID, STANDARD_TIME, STANDARD}:
            if known in found:
                return None
            found[known] = value.strip(" \t")
    return Sent(*map(found.get, (PLAIN, STANDARD_ID, STANDARD_TIME, STANDARD)))


class BodySignature:
    """Judges a body's signature while the body comes: each piece costs only its own bytes.

    Any of the Standard Webhooks headers makes that signature decide. As an attacker on the way could strip them, they
    are worth no more than X-Webhook-Signature alone, which is accepted if `plain` is true.

    Args:
        sent: from `sent_with`.
        secrets: those in force.
        plain: whether X-Webhook-Signature alone is enough.

    Raises:
        ValueError: as `standard_key`.
    """

    __slots__ = ("_codes", "_plain", "_sent")

    def __init__(self, sent: Sent, secrets: Sequence[bytes], *, plain: bool = True) -> None:
        self._sent = sent
        self._plain = plain
        if _is_standard(sent):
            begin = _standard_begin(sent.id or "", sent.time or "")
            self._codes = [hmac.new(standard_key(secret), begin, sha256) for secret in secrets]
        else:
            self._codes = [hmac.new(secret, digestmod=sha256) for secret in secrets]

    def take(self, piece: bytes) -> None:
        """Takes the body's next bytes."""
        for code in self._codes:
            code.update(piece)

    def is_of(self, now: float, tolerance: float) -> bool:
        """Whether what came was signed with one of the secrets. The duration reveals nothing about them.

        Args:
            now: seconds since the epoch.
            tolerance: seconds by which webhook-timestamp may be off, either way.
        """
        sent = self._sent
        if not may_be_signed(sent, now, tolerance, plain=self._plain):
            return False
        if _is_standard(sent):
            return _any_equal(map(_standard_value, self._codes), (sent.standard or "").split(" "))
        return _any_equal((code.hexdigest() for code in self._codes), [(sent.plain or "").lower()])


def is_signed(
    body: bytes, sent: Sent | None, secrets: Sequence[bytes], now: float, tolerance: float, *, plain: bool = True
) -> bool:
    """Whether a body that is here whole was signed with one of the secrets: as BodySignature.

    Raises:
        ValueError: as `standard_key`.
    """
    if sent is None or not may_be_signed(sent, now, tolerance, plain=plain):
        return False
    signature = BodySignature(sent, secrets, plain=plain)
    signature.take(body)
    return signature.is_of(now, tolerance)


def signed_id(sent: Sent | None) -> str | None:
    """The id that the signature of a body covers, if `is_signed` believed one that has an id.

    Where id, time and body end is not signed, but a time has only digits: of a JSON object no other split is one.
    """
    return sent.id if sent is not None and _is_standard(sent) else None


def may_be_signed(sent: Sent | None, now: float, tolerance: float, *, plain: bool = True) -> bool:
    """Whether some body could be signed so: the checks of `is_signed` that need neither body nor secret."""
    if sent is None:
        return False
    if not _is_standard(sent):
        return plain and sent.plain is not None and bool(_HEX.fullmatch(sent.plain.lower()))
    if not sent.id or not sent.time or not sent.standard:
        return False
    if len(sent.id) > _MAX_ID or not sent.id.isascii() or not sent.id.isprintable() or not _TIME.fullmatch(sent.time):
        return False
    if abs(now - int(sent.time)) > tolerance:
        return False
    return len(sent.standard.split(" ")) <= _MAX_SIGNATURES and sent.standard.isascii()


def _is_standard(sent: Sent) -> bool:
    return (sent.id, sent.time, sent.standard) != (None, None, None)


def _standard_begin(message_id: str, time: str) -> bytes:
    """What is signed before the body."""
    return f"{message_id}.{time}.".encode()


def _standard_value(code: hmac.HMAC) -> str:
    return _VERSION + base64.b64encode(code.digest()).decode()


def _any_equal(ours: Iterable[str], theirs: Sequence[str]) -> bool:
    # Compares every pair to the end: the duration shows neither which one matches nor how much of it.
    equal = [hmac.compare_digest(mine, one) for mine in ours for one in theirs]
    return any(equal)
