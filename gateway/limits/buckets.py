"""The rate limit: a token bucket, kept as GCRA does it, pure arithmetic on one number.

A bucket is its theoretical arrival time (TAT): the moment, in seconds of the caller's clock, at which it would be
empty of debt. It costs one float per subject and needs no timer: an old TAT is a full bucket.
"""

from typing import Final, NamedTuple

# The share of a unit by which sums of floats, and TATs stored in microseconds, may be off: without it the last unit
# of a burst would be lost. Less than a unit is still never sold as one, since what was taken is counted in full.
_ROUNDING: Final = 0.01


class Rate(NamedTuple):
    """A sustained rate: `burst` units at once, refilled at `per_second`."""

    per_second: float
    burst: float


def per_minute(count: int) -> Rate:
    """A rate of `count` a minute that may be spent in one burst."""
    return Rate(count / 60, count)


def wait_for(tat: float, now: float, cost: float, rate: Rate) -> float:
    """Seconds until `cost` units are available; 0.0 if they are now."""
    spent_until = max(tat, now) + cost / rate.per_second
    wait = spent_until - now - rate.burst / rate.per_second
    return wait if wait * rate.per_second > _ROUNDING else 0.0


def take(tat: float, now: float, cost: float, rate: Rate) -> float:
    """The TAT after `cost` units are taken at `now`."""
    return max(tat, now) + cost / rate.per_second
