"""Lets the event loop go on in the middle of a transaction that runs on it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

SECONDS: Final = 0.002


class LoopTime:
    """The time that the transactions of a connection take of the loop. `connection` is SQLAlchemy's of asyncpg.

    `given`: seconds that they gave to all others.
    """

    __slots__ = ("_clock", "_connection", "_since", "given")

    def __init__(self, connection: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        self._connection = connection
        self._clock = clock
        self._since = clock()
        self.given = 0.0

    def share(self) -> None:
        """Lets the loop go on if it has not for some time: a busy one comes back late, and there is a deadline."""
        now = self._clock()
        if now - self._since >= SECONDS:
            self._connection.run_async(lambda _: asyncio.sleep(0))
            self._since = self._clock()
            self.given += self._since - now
