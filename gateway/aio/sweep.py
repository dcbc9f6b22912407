"""One sweep over all connections, twice a second, in the place of a timer for each wait.

A deadline is a number that its connection compares with the clock; a request sets several and costs nothing for it.
What a client or an upstream may take longer than its deadline is therefore half a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

TICK: Final = 0.5


class Swept(Protocol):
    """Something with deadlines."""

    def sweep(self, now: float) -> None:
        """Ends what is overdue; `now` is the loop's time in seconds."""


class DeadlineSweep:
    """Sweeps a set of connections, and whatever else wants a tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paced: set[Swept] = set()
        self._also: list[Callable[[float], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, paced: Swept) -> None:
        """Sweeps it from now on."""
        self._paced.add(paced)

    def remove(self, paced: Swept) -> None:
        """Sweeps it no more."""
        self._paced.discard(paced)

    def also(self, tick: Callable[[float], None]) -> None:
        """Calls this at each sweep, too."""
        self._also.append(tick)

    def start(self) -> None:
        """Sweeps now and every half second."""
        self._timer = self._loop.call_later(TICK, self.start)  # first: whatever a sweep raises, the next one comes
        self.sweep(self._loop.time())

    def stop(self) -> None:
        """Sweeps no more."""
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self, now: float) -> None:
        """Ends whatever is overdue at `now`."""
        for paced in list(self._paced):
            paced.sweep(now)
        for tick in self._also:
            tick(now)
