"""What comes of an attempt to deliver a webhook, in words of closed sets: pure."""

from enum import StrEnum
from typing import Final, NamedTuple

_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_CLIENT_ERROR: Final = range(400, 500)
_AGAIN: Final = frozenset({408, 429})


class Result(StrEnum):
    """What becomes of a delivery by one attempt; the label of a metric."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    DEAD = "dead"
    REFUSED = "refused"


class Trouble(StrEnum):
    """What was wrong with an attempt: the one closed vocabulary of ledger, log and commands."""

    STATUS = "status"
    """The answer says so."""
    REDIRECT = "redirect"
    """The answer leads elsewhere; webhooks never follow."""
    GONE = "gone"
    """410: the receiver wants no more of it."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """None could be made, or it ended before an answer."""
    TLS = "tls"
    """The certificate is not trusted, or it speaks no TLS 1.2 or 1.3."""
    PROTOCOL = "protocol"
    """What came is no HTTP."""
    NOT_FOUND = "not_found"
    """The host's addresses are not known."""
    NOT_ALLOWED = "not_allowed"
    """It may not be gone to any more, or its host leads somewhere else now."""
    NO_SECRET = "no_secret"  # noqa: S105 -- a word
    """There is nothing to sign with any more."""
    INTERNAL = "internal"
    """An error of the gateway's own."""


class DeliveryAttempt(NamedTuple):
    """What came of an attempt. `retry_after` is that header as it came."""

    result: Result
    status: int | None = None
    trouble: Trouble | None = None
    retry_after: str | None = None


def judge(status: int, retry_after: str | None) -> DeliveryAttempt:
    """What an answer makes of a delivery."""
    if status in _SUCCESS:
        return DeliveryAttempt(Result.DELIVERED, status)
    if status in _REDIRECT:
        return DeliveryAttempt(Result.DEAD, status, Trouble.REDIRECT)
    if status in _CLIENT_ERROR and status not in _AGAIN:
        return DeliveryAttempt(Result.DEAD, status, Trouble.GONE if status == 410 else Trouble.STATUS)  # noqa: PLR2004 -- Gone
    return DeliveryAttempt(Result.RETRIED, status, Trouble.STATUS, retry_after)
