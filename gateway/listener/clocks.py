"""The deadlines of one client connection: silence, and a least rate: pure; times are the loop's, in seconds.

A wait has one deadline. What moves bytes has a window besides: so many of them must have moved when it ends, and then
the next one begins.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError

FOREVER: Final = float("inf")
Late = Callable[[], GatewayError]


class Clocks:
    """Kept by a connection, asked by the sweep. `late` makes the error that ends the wait."""

    __slots__ = ("_bytes", "_deadline", "_ends", "_last", "_seconds", "late")

    def __init__(self, late: Late) -> None:
        self.late = late
        self._deadline = FOREVER
        self._ends = FOREVER
        self._seconds = 0.0
        self._bytes = 0
        self._last = 0

    def expect(self, until: float, late: Late) -> None:
        """Lets the waits from now on end with an error then; until the next call."""
        self._deadline = until
        self._ends = FOREVER
        self.late = late

    def measure(self, now: float, seconds: float, so_far: int) -> None:
        """Opens a window of so many seconds; `so_far` bytes have moved before it."""
        self._ends = now + seconds
        self._seconds = seconds
        self._bytes = self._last = so_far

    def stop(self) -> None:
        """Expects nothing."""
        self._deadline = self._ends = FOREVER

    def move(self, until: float) -> None:
        """Something moved: the silence begins anew and may last until then, the rate is measured on."""
        self._deadline = until

    def note(self, so_far: int, until: float) -> None:
        """As `move`, if more has moved than was noted before."""
        if so_far > self._last:
            self._last = so_far
            self._deadline = until

    def stand_still(self, seconds: float) -> None:
        """So many seconds were not the client's."""
        self._deadline += seconds
        self._ends += seconds

    def is_overdue(self, now: float, so_far: int, least: float) -> bool:
        """Whether the time is over, or fewer than `least` bytes a second moved; `so_far` have moved in all."""
        if now >= self._deadline:
            return True
        if now < self._ends:
            return False
        if so_far - self._bytes < least * self._seconds:
            return True
        self._ends = now + self._seconds
        self._bytes = so_far
        return False
