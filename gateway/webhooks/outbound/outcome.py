"""Outcomes of attempts to deliver a webhook, in words of closed sets: pure."""

from enum import StrEnum
from typing import Final, NamedTuple

from gateway.model.statuses import REDIRECTS, SUCCESS

_CLIENT_ERROR: Final = range(400, 500)
_AGAIN: Final = frozenset({408, 429})


class Result(StrEnum):
    """What one attempt makes of a delivery; the label of a metric."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    DEAD = "dead"
    REFUSED = "refused"


class Trouble(StrEnum):
    """What was wrong with an attempt: the one closed vocabulary of ledger, log and commands."""

    STATUS = "status"
    """The answer has a failing status."""
    REDIRECT = "redirect"
    """The answer redirects elsewhere; webhooks never follow."""
    GONE = "gone"
    """410: the receiver wants no more of it."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """The connection could not be made, or ended before an answer."""
    TLS = "tls"
    """The certificate is not trusted, or the receiver does not support TLS 1.2 or 1.3."""
    PROTOCOL = "protocol"
    """The answer is not HTTP."""
    NOT_FOUND = "not_found"
    """The host's addresses are unknown."""
    NOT_ALLOWED = "not_allowed"
    """The URL is not allowed any more, or its host now has an address that is not."""
    NO_SECRET = "no_secret"  # noqa: S105 -- a word
    """No signing secret is configured any more."""
    INTERNAL = "internal"
    """An internal error of the gateway."""


class DeliveryAttempt(NamedTuple):
    """The result of an attempt. `retry_after` is that header as received."""

    result: Result
    status: int | None = None
    trouble: Trouble | None = None
    retry_after: str | None = None


def judge(status: int, retry_after: str | None) -> DeliveryAttempt:
    """Converts an answer to the attempt's result."""
    if status in SUCCESS:
        return DeliveryAttempt(Result.DELIVERED, status)
    if status in REDIRECTS:
        return DeliveryAttempt(Result.DEAD, status, Trouble.REDIRECT)
    if status in _CLIENT_ERROR and status not in _AGAIN:
        return DeliveryAttempt(Result.DEAD, status, Trouble.GONE if status == 410 else Trouble.STATUS)  # noqa: PLR2004 -- Gone
    return DeliveryAttempt(Result.RETRIED, status, Trouble.STATUS, retry_after)
