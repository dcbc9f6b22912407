"""A long answer is joined and sent in blocks, each in an iteration that has time for it, and states its length."""

import asyncio
from typing import Any

from aiohttp import web

from gateway.admin.sending import Blocks, answer_in_turns
from gateway.aio.iteration import MAX_SECONDS, Iteration
from tests.support.iteration import iteration_now
from tests.support.loop import Loop

KB = 1024


class Wire:
    """What aiohttp writes a body to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, piece: bytes) -> None:
        self.written.append(piece)


async def test_a_short_answer_is_whole() -> None:
    answer = await answer_in_turns(iteration_now(), iter([b"ab", b"c"]), None, "application/json", 201)
    assert (answer.body, answer.status, answer.content_length) == (b"abc", 201, 3)


async def test_no_step_of_a_long_answer_has_more_than_a_block() -> None:
    """Seven megabytes were joined and written at once."""
    pieces = [b"%04d" % number * KB for number in range(100)]
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    sent = list[bytes]()

    async def send() -> None:
        async for block in Blocks(iteration, pieces, None):
            sent.append(block)
            iteration.add(MAX_SECONDS, 0)

    task = asyncio.ensure_future(send())
    for turn in range(8):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sent) == min(turn, 7)
        loop.iterate()
    await task
    assert (b"".join(sent), max(map(len, sent))) == (b"".join(pieces), 64 * KB)


async def test_its_length_is_stated_and_it_is_what_is_sent() -> None:
    pieces = [b"x" * 10 * KB] * 20
    answer: web.Response = await answer_in_turns(iteration_now(), iter(pieces), None, "text/plain")
    assert (answer.content_length, answer.content_type) == (200 * KB, "text/plain")
    body: Any = answer.body
    wire = Wire()
    await body.write(wire)
    assert (b"".join(wire.written), len(wire.written)) == (b"".join(pieces), 3)
