"""Runs indivisible work in an iteration of the loop that has time for it."""

import asyncio
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Final, TypeVar

from gateway.aio.iteration import Iteration

_AT_ONCE: Final = 0.002  # seconds of pieces in one turn, and the rest of the last one
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


async def make_in_turns(iteration: Iteration, pieces: Iterator[bytes], peer: Hashable = None) -> list[bytes]:
    """Makes all pieces, some in each iteration that has time for it; in the turns of `peer`.

    Where many wait, each turn comes after one of every other peer: a hundred small pieces are not a hundred turns.
    """
    made: list[bytes] = []
    while some := await run_in_turn(iteration, partial(_next_of, pieces, iteration.clock), peer):
        made += some
    return made


def _next_of(pieces: Iterator[bytes], clock: Callable[[], float]) -> list[bytes]:
    """As many as a turn has time for; none: that was all."""
    until, some = clock() + _AT_ONCE, list[bytes]()
    for piece in pieces:
        some.append(piece)
        if clock() >= until:
            break
    return some


def _do(work: Callable[[], T], done: "asyncio.Future[T]") -> None:
    """Runs within the turn. The waiting task continues in the loop's next iteration, where it costs no more."""
    if done.cancelled():
        return
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 -- raised where the result is awaited
        done.set_exception(error)
