"""How often a job's status is requested: by its age, by who waits, and by what could not be read (backoff). Pure."""

from typing import Final

from gateway.limits.pauses import doubled

HELD_INTERVAL: Final = 0.1
SHORTEST: Final = 1.0  # seconds
_MAX_LENGTH: Final = 30.0  # seconds
_SHARE: Final = 0.05
_MAX_UNREAD: Final = 900.0  # seconds
_MAX_A_SECOND: Final = 200
_MAX_HELD_A_SECOND: Final = 1000


def after_unread(unread: int, *, held: bool) -> float:
    """Backoff in seconds after `unread` unreadable answers in a row: doubles each time, up to 15 minutes."""
    first = HELD_INTERVAL if held else SHORTEST
    return doubled(first, unread, _MAX_UNREAD) if unread else 0.0


def interval(age: float, *, held: bool, followed: int = 0) -> float:
    """Seconds between two status requests for a job of this age, in seconds: a twentieth of it, from 1 s to 30 s.

    A job with a long poll is requested every 100 ms. When many jobs are `followed` (counted separately for those with
    a long poll and the others, for each owner as OwnerCounts.shared_by says), the interval grows, so that all
    together cause about 1000 or 200 requests a second, up to twice that with several owners.
    """
    if held:
        return max(HELD_INTERVAL, followed / _MAX_HELD_A_SECOND)
    return max(min(max(age * _SHARE, SHORTEST), _MAX_LENGTH), followed / _MAX_A_SECOND)
