"""Runs indivisible work in an iteration of the loop that has time for it."""

import asyncio
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TypeVar

from gateway.aio.iteration import Iteration

T = TypeVar("T")


async def run_in_turn(iteration: Iteration, work: Callable[[], T], peer: Hashable = None) -> T:
    """Runs `work` now, or in a later iteration if this one is over; in the turn of `peer`."""
    if not iteration.is_over:
        begun = iteration.clock()
        result = work()
        iteration.add(iteration.clock() - begun, 0)
        return result
    return await run_in_later_turn(iteration, work, peer)


async def run_in_later_turn(
    iteration: Iteration, work: Callable[[], T], peer: Hashable = None, *, is_small: bool = False
) -> T:
    """Runs `work` in a later iteration in any case: what it begins may cost more in those that follow."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    iteration.call_in_turn(partial(_do, work, done), peer, is_small=is_small)
    return await done


async def join_in_turns(iteration: Iteration, pieces: Iterator[bytes], peer: Hashable = None) -> bytes:
    """Joins what is made piece by piece, each in an iteration that has time for it; in the turns of `peer`."""
    made: list[bytes] = []
    piece: bytes | None = b""
    while piece is not None:
        made.append(piece)
        piece = await run_in_turn(iteration, partial(next, pieces, None), peer)
    return b"".join(made)


def _do(work: Callable[[], T], done: "asyncio.Future[T]") -> None:
    """Runs within the turn. The waiting task continues in the loop's next iteration, where it costs no more."""
    if done.cancelled():
        return
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 -- raised where the result is awaited
        done.set_exception(error)
