"""How long to pause before another try (backoff): pure."""

from typing import Final

_MOST_DOUBLINGS: Final = 20


def doubled(first: float, failures: int, longest: float) -> float:
    """The first pause, doubled for each failure, up to the longest; in the unit of these."""
    return min(first * 2.0 ** min(failures, _MOST_DOUBLINGS), longest)


def jittered(pause: float, share: float, dice: float) -> float:
    """A pause, give or take a share of it, so that not all try again at once; `dice` is from 0 to 1."""
    return pause * (1 - share + 2 * share * dice)
