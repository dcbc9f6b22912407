"""Backoff: when to retry a webhook, and when to give it up. Pure."""

from email.utils import parsedate_to_datetime
from typing import Final

from gateway.limits.pauses import doubled, jittered

_FIRST: Final = 5.0  # seconds
_MAX_LENGTH: Final = 3600.0  # seconds
_JITTER: Final = 0.2
_MAX_CHARACTERS: Final = 64


def pause_after(attempts: int, dice: float, asked: float | None = None) -> float:
    """Seconds until the next attempt: 5 s, doubled each time up to an hour, give or take a fifth.

    Args:
        attempts: how many there were, 1 or more.
        dice: a number from 0 to 1.
        asked: seconds that the receiver asked for (Retry-After); it may make the pause longer, up to an hour.
    """
    pause = jittered(doubled(_FIRST, attempts - 1, _MAX_LENGTH), _JITTER, dice)
    return pause if asked is None else max(pause, min(asked, _MAX_LENGTH))


def next_at(now: float, since: float, give_up_after: float, pause: float) -> float | None:
    """When to retry; None to give up. `since` is when the delivery became due; all in seconds."""
    return None if now + pause > since + give_up_after else now + pause


def read_retry_after(value: str | None, now: float) -> float | None:
    """Seconds of a Retry-After, given as a number or a date (RFC 9110 10.2.3); None if it is neither."""
    if value is None or len(value) > _MAX_CHARACTERS:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
