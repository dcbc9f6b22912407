"""Those who wait for one thing that many share: a look-up, a context, keys.

When it is there they go on a few in each iteration of the loop: there may be thousands, and each then connects, or
answers, which costs up to a tenth of a millisecond.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

_AT_ONCE: Final = 16
CALLS_AT_ONCE: Final = 256
"""Calls that only queue somebody for his turn: a third of a millisecond."""


class Waiters:
    """Belongs to one event loop. Who is cancelled meanwhile does not count any more."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        """Waits for `release`. There is no deadline: who waits has one."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def release(self) -> None:
        """Lets a few go on now, the rest in later iterations."""
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self.release)


def call_each(calls: deque[Callable[[], None]]) -> None:
    """Makes so many calls that each queue one who waits now, and the rest in later iterations of the loop."""
    for _ in range(min(CALLS_AT_ONCE, len(calls))):
        calls.popleft()()
    if calls:
        asyncio.get_running_loop().call_soon(call_each, calls)
