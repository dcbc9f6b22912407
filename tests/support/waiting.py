"""Waiting for a fact instead of a time."""

import asyncio
from collections.abc import Callable
from typing import Final

DEADLINE: Final = 10.0


class Facts:
    """Something that changes: `changed` is called by whoever changes it, `until` waits for a state of it."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def changed(self) -> None:
        """Lets all who wait look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, holds: Callable[[], bool], within: float = DEADLINE) -> None:
        """Waits until `holds()`.

        Raises:
            TimeoutError: when it does not come to hold.
        """
        async with asyncio.timeout(within):
            while not holds():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)


async def eventually(holds: Callable[[], bool], within: float = DEADLINE) -> None:
    """Looks again and again, for facts that nobody announces."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.005)
