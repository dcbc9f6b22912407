"""The two clocks that most parts are given."""

from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """`monotonic` in seconds, for durations; `wall` in seconds since the epoch, for what is written down."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
