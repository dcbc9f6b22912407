"""The two clocks that most parts use."""

from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """`monotonic` in seconds, for durations; `wall` in seconds since the epoch, for stored times."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
