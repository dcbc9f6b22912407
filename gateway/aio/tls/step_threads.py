"""Threads for steps of handshakes that may be long: step_order.py says whose is next.

A thread is made when a step has none, and of each lane one is kept for the next step. Threads for strangers run at
a lower priority: OpenSSL lets the loop run meanwhile, but there may be more threads than processors. They are
daemons, since a step can't be stopped: the process need not wait for it to end.
"""

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from threading import get_native_id
from typing import Final, Protocol

from gateway.aio.daemon_threads import Worker
from gateway.aio.tls.step_order import LANES, LANES_OF_ONE, Begun, Standing, StepOrder, ThreadLane

_GIVES_WAY: Final = 10
"""So far below the loop's priority, and not at the kernel's lowest, 19: for an instant each step has Python's lock,
and a thread of the lowest priority may then wait for a processor, and the loop for it. Where two others kept both
processors busy that was up to 2.3 s, with this 0.5 s; beside steps that compute, the loop is as quick with either."""


class Step(Protocol):
    """One step of a handshake."""

    def run(self) -> None:
        """Called in a thread; raises nothing."""

    def refuse(self, error: Exception) -> None:
        """Called instead of `run`: there is no thread."""

    @property
    def shown(self) -> Standing | None:
        """What the step, now over, showed of the peer."""

    def ended(self) -> None:
        """Called on the loop, unless the step was dropped before it began."""


class StepThreads:
    """Runs steps, `at_once` of one source.

    For one loop; `clock` is that of standings, `cost` a thread's own, of what it took.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lanes: tuple[ThreadLane, ...] = LANES,
        cost: Callable[[], float] = time.thread_time,
        at_once: int = 1,
    ) -> None:
        self._order: StepOrder[Step] = StepOrder(lanes, clock, at_once)
        self._lanes = lanes
        self._cost = cost
        self._kept: dict[int, Worker] = {}  # by lane

    @classmethod
    def of_one(cls, clock: Callable[[], float]) -> "StepThreads":
        """Threads for one source alone, which is as trusted as the operator who named it: all are its own."""
        return cls(clock, LANES_OF_ONE, at_once=sum(lane.threads for lane in LANES_OF_ONE))

    def __repr__(self) -> str:
        return f"<StepThreads waiting={len(self._order)}>"

    def begin(self, source: Hashable, step: Step) -> None:
        """Lets a step run as soon as it may."""
        self._order.put(source, step)
        self._go_on()

    def drop(self, source: Hashable, step: Step) -> bool:
        """Lets a step that waits run no more; whether it did wait. One that has begun goes on."""
        return self._order.drop(source, step)

    def _go_on(self) -> None:
        while (begun := self._order.take()) is not None:
            self._run(begun)

    def _run(self, begun: Begun[Step]) -> None:
        loop = asyncio.get_running_loop()
        try:
            worker = self._kept.pop(begun.lane, None) or self._worker(begun.lane)
        except RuntimeError:  # the system has no threads left just now
            begun.step.refuse(ConnectionError("there is no thread for the handshake"))
            loop.call_soon(self._ended, begun, None, 0.0)
        else:
            worker.put(partial(self._work, loop, begun, worker))

    def _worker(self, lane: int) -> Worker:
        is_for_strangers = self._lanes[lane].worst > Standing.PROVED
        return Worker("tls", _give_way if is_for_strangers else None)

    def _work(self, loop: asyncio.AbstractEventLoop, begun: Begun[Step], worker: Worker) -> None:
        """Runs in a thread."""
        before = self._cost()
        begun.step.run()
        seconds = self._cost() - before
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._ended, begun, worker, seconds)

    def _ended(self, begun: Begun[Step], worker: Worker | None, seconds: float) -> None:
        self._order.end(begun, seconds, begun.step.shown)
        if worker is not None and self._kept.setdefault(begun.lane, worker) is not worker:
            worker.end()
        self._go_on()
        begun.step.ended()


def _give_way() -> None:
    """Lets all others have the processor first."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _GIVES_WAY)
