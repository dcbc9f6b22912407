"""One sweep over all connections, twice a second, instead of a timer for each wait.

A deadline is a number that its connection compares with the clock, so a request sets several at no cost. In return a
client or an upstream may exceed its deadline by half a second.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gateway.aio.iteration import Iteration
from gateway.aio.periodic import until_next

TICK: Final = 0.5
_PORTION: Final = 200


class Swept(Protocol):
    """Something with deadlines."""

    def sweep(self, now: float) -> None:
        """Ends everything overdue; `now` is the loop's time in seconds."""


class DeadlineSweep:
    """Sweeps a set of connections, and calls whatever else wants a tick.

    It sweeps thousands of them in portions, one in each loop iteration. It does not queue for turns with the
    clients: the sweep decides whose clocks stand still while all of them wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iteration: Iteration) -> None:
        self._loop = loop
        self._iteration = iteration
        self._all: set[Swept] = set()
        self._left: list[Swept] = []  # left to sweep in this round
        self._also: list[Callable[[float], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, swept: Swept) -> None:
        """Adds it to the sweep."""
        self._all.add(swept)

    def remove(self, swept: Swept) -> None:
        """Removes it from the sweep."""
        self._all.discard(swept)

    def also(self, tick: Callable[[float], None]) -> None:
        """Calls `tick` at each sweep, too."""
        self._also.append(tick)

    def start(self) -> None:
        """Sweeps now and every half second."""
        pause = until_next(self._loop.time(), TICK)
        self._timer = self._loop.call_later(pause, self.start)  # first: even if this sweep raises, the next one comes
        self.sweep()

    def stop(self) -> None:
        """Stops sweeping."""
        self._left = []
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Starts a round that ends everything overdue, unless the last round is still under way."""
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
        except Exception as error:  # noqa: BLE001 -- an error in one must not keep the others from being swept
            self._loop.call_exception_handler({"message": "A sweep failed", "exception": error})
