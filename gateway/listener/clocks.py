"""The deadlines of one client connection: idle timeout and minimum rate (slowloris). Pure; in seconds of the loop.

Each wait has one deadline. A transfer also has a window: by its end a minimum of bytes must have moved; then the next
window begins.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError

FOREVER: Final = float("inf")
MakeLate = Callable[[], GatewayError]


class Clocks:
    """Owned by a connection, checked by the sweep. `late` makes the error that ends the wait."""

    __slots__ = ("_bytes", "_deadline", "_ends", "_last", "_seconds", "late")

    def __init__(self, late: MakeLate) -> None:
        self.late = late
        self._deadline = FOREVER
        self._ends = FOREVER
        self._seconds = 0.0
        self._bytes = 0
        self._last = 0

    def expect(self, until: float, late: MakeLate) -> None:
        """Sets the deadline of all waits, and the error that ends them, until the next call."""
        self._deadline = until
        self._ends = FOREVER
        self.late = late

    def measure(self, now: float, seconds: float, so_far: int) -> None:
        """Opens a window of `seconds`; `so_far` bytes had moved before it."""
        self._ends = now + seconds
        self._seconds = seconds
        self._bytes = self._last = so_far

    def stop(self) -> None:
        """Removes all deadlines."""
        self._deadline = self._ends = FOREVER

    def move(self, until: float) -> None:
        """Bytes moved: extends the idle deadline to `until`; the rate window goes on."""
        self._deadline = until

    def note(self, so_far: int, until: float) -> None:
        """Does the same as `move`, if more bytes have moved than were noted before."""
        if so_far > self._last:
            self._last = so_far
            self._deadline = until

    def extend(self, seconds: float) -> None:
        """Extends both deadlines by the seconds that the client is not to blame for."""
        self._deadline += seconds
        self._ends += seconds

    def is_overdue(self, now: float, so_far: int, least: float) -> bool:
        """Whether the deadline has passed, or fewer than `least` bytes a second moved; `so_far` is the total."""
        if now >= self._deadline:
            return True
        if now < self._ends:
            return False
        if so_far - self._bytes < least * self._seconds:
            return True
        self._ends = now + self._seconds
        self._bytes = so_far
        return False
