"""What one turn of the loop costs, counted in work and not in seconds, which a busy machine would falsify."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

from aiohttp.streams import StreamReader

from gateway.listener.backlog import Backlog


class Work:
    """Units of work by turn of the loop; `turn` is the number of the present one."""

    def __init__(self) -> None:
        self.turn = 0
        self.units: Counter[int] = Counter()

    @property
    def most(self) -> int:
        """The units of the turn that had most."""
        return max(self.units.values(), default=0)

    @property
    def total(self) -> int:
        """The units of all turns."""
        return self.units.total()

    def counting(self, function: Callable[..., Any], units: Callable[..., int] = lambda *_: 1) -> Callable[..., Any]:
        """The same function; each call is so many units."""

        def counted(*arguments: Any) -> Any:
            self.units[self.turn] += units(*arguments)
            return function(*arguments)

        return counted


@asynccontextmanager
async def counted_turns() -> AsyncIterator[Work]:
    """Counts the turns of the loop, by a callback in each; it never sleeps meanwhile."""
    work = Work()
    loop = asyncio.get_running_loop()

    is_over = False

    def tick() -> None:
        work.turn += 1
        if not is_over:
            loop.call_soon(tick)

    tick()
    try:
        yield work
    finally:
        is_over = True


@asynccontextmanager
async def counted_chunks() -> AsyncIterator[Work]:
    """Counts the chunks of clients' bodies that aiohttp's parser reads in each turn of the loop."""
    async with counted_turns() as work:
        counting = work.counting(StreamReader.end_http_chunk_receiving)
        with patch.object(StreamReader, "end_http_chunk_receiving", counting):
            yield work


@asynccontextmanager
async def counted_bytes() -> AsyncIterator[Work]:
    """Counts the bytes of clients' bodies that are read in each turn of the loop."""
    async with counted_turns() as work:
        counting = work.counting(StreamReader.feed_data, lambda _, data, *__: len(data))
        with patch.object(StreamReader, "feed_data", counting):
            yield work


@asynccontextmanager
async def counted_feeds() -> AsyncIterator[Work]:
    """Counts how often the parsers of clients' requests are given something in each turn of the loop."""
    async with counted_turns() as work:
        with patch.object(Backlog, "take", work.counting(Backlog.take)):
            yield work


@asynccontextmanager
async def counted_arrivals() -> AsyncIterator[Work]:
    """Counts the bytes that connections take from their sockets in each turn of the loop, before any is parsed."""
    async with counted_turns() as work:
        with patch.object(Backlog, "add", work.counting(Backlog.add, lambda _, data: len(data))):
            yield work
