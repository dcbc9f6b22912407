"""One sweep over all connections, twice a second, in the place of a timer for each wait.

A deadline is a number that its connection compares with the clock; a request sets several and costs nothing for it.
What a client or an upstream may take longer than its deadline is therefore half a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gateway.aio.iteration import Iteration

TICK: Final = 0.5
_PORTION: Final = 200


class Swept(Protocol):
    """Something with deadlines."""

    def sweep(self, now: float) -> None:
        """Ends what is overdue; `now` is the loop's time in seconds."""


class DeadlineSweep:
    """Sweeps a set of connections, and whatever else wants a tick.

    Of thousands a portion is swept in each iteration of the loop. It waits for no client's turn, for it is what says
    whose time stands still while they all wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iteration: Iteration) -> None:
        self._loop = loop
        self._iteration = iteration
        self._all: set[Swept] = set()
        self._left: list[Swept] = []  # to be swept in this round
        self._also: list[Callable[[float], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, swept: Swept) -> None:
        """Sweeps it from now on."""
        self._all.add(swept)

    def remove(self, swept: Swept) -> None:
        """Sweeps it no more."""
        self._all.discard(swept)

    def also(self, tick: Callable[[float], None]) -> None:
        """Calls this at each sweep, too."""
        self._also.append(tick)

    def start(self) -> None:
        """Sweeps now and every half second."""
        self._timer = self._loop.call_later(TICK, self.start)  # first: whatever a sweep raises, the next one comes
        self.sweep()

    def stop(self) -> None:
        """Sweeps no more."""
        self._left = []
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Ends whatever is overdue now, or lets the round go on that has not ended."""
        if not self._left:
            self._left = list(self._all)
            self._sweep_portion()
        for tick in self._also:
            tick(self._loop.time())

    def _sweep_portion(self) -> None:
        portion, self._left = self._left[-_PORTION:], self._left[:-_PORTION]
        if self._left:
            self._loop.call_soon(self._sweep_portion)
        begun, now = self._iteration.clock(), self._loop.time()
        for swept in portion:
            if swept in self._all:
                self._sweep_one(swept, now)
        self._iteration.add(self._iteration.clock() - begun, 0)

    def _sweep_one(self, swept: Swept, now: float) -> None:
        try:
            swept.sweep(now)
        except Exception as error:  # noqa: BLE001 -- whatever one of them raises, the others are swept
            self._loop.call_exception_handler({"message": "A sweep failed", "exception": error})
