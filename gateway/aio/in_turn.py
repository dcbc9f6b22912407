"""Work that can't be divided, in an iteration of the loop that has time for it."""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

from gateway.aio.iteration import Iteration

T = TypeVar("T")


async def run_in_turn(iteration: Iteration, work: Callable[[], T], of: Hashable = None) -> T:
    """Does it now, or in a later iteration if this one is over; `of` is the peer whose turn it takes then."""
    if not iteration.is_over:
        begun = iteration.clock()
        result = work()
        iteration.add(iteration.clock() - begun, 0)
        return result
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    iteration.wait(partial(_do, work, done), of)
    return await done


def _do(work: Callable[[], T], done: "asyncio.Future[T]") -> None:
    """Within the turn: who waits for the result goes on in the loop's next iteration, when it costs nothing more."""
    if done.cancelled():
        return
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 -- it is raised where the result is waited for
        done.set_exception(error)
