"""An event for which one task waits for a while.

A timeout cancels what it bounds, and that costs more than the rest of a task that only looks around each second.
"""

import asyncio


class Nudge:
    """Not set at first. For one task that waits, and one event loop."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wakes the task, now or as soon as it waits."""
        self.is_set = True
        self._wake()

    def clear(self) -> None:
        """What was set up to now wakes nobody."""
        self.is_set = False

    async def wait(self, seconds: float) -> None:
        """Returns as soon as it is set, or after so many seconds."""
        if self.is_set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
