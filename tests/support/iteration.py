"""The running loop's iteration, as a gateway makes it."""

import asyncio
import time

from gateway.aio.iteration import Iteration
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads


def iteration_now() -> Iteration:
    """A new one."""
    return Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)


def buffers_now() -> TlsBuffers:
    """New ones, with threads of their own."""
    return TlsBuffers(StepThreads(time.monotonic))
