"""Serves the admin listener's requests in turns, before anybody knows who asks.

aiohttp serves all requests that came in one iteration of the loop at once, each for a third of a millisecond. And it
looks for a route at each slash of a path, from its end: 8 KB of slashes would take it 17 ms.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp import web

from gateway.admin.connection import AdminConnection, prefix_of
from gateway.admin.origin_targets import NOWHERE
from gateway.aio.in_turn import run_in_later_turn
from gateway.aio.iteration import MAX_CHUNKS, Iteration

_OF_A_REQUEST: Final = MAX_CHUNKS // 8
"""As many chunks (iteration.py) cost as much as a request."""

_MOST_SLASHES: Final = 16  # no route has more than half as many
Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def in_turns(handle: Handle, iteration: Iteration) -> Handle:
    """Makes a handler that lets each request wait for an iteration with time."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, AdminConnection):
            request.protocol.begin_exchange(request.content)
        await _time_for_one(iteration, prefix_of(request))
        is_short = request.rel_url.raw_path.count("/") <= _MOST_SLASHES
        return await handle(request if is_short else request.clone(rel_url=NOWHERE))

    return serve


async def _time_for_one(iteration: Iteration, peer: bytes | None) -> None:
    """Waits for an iteration with time for one more, in the turn of `peer`; it is counted in advance."""
    count = partial(iteration.add, 0.0, _OF_A_REQUEST)
    if iteration.is_over:
        await run_in_later_turn(iteration, count, peer, is_small=True)
    else:
        count()
