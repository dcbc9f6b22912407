"""The running loop's iteration, as a gateway makes it."""

import asyncio
import time

from gateway.aio.iteration import Iteration


def iteration_now() -> Iteration:
    """A new one."""
    return Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)
