"""Runs a coroutine by hand, in the very callbacks that feed it.

asyncio.Task resumes a coroutine one turn of the loop after what it waits for is there: a future, a handle and a poll
of the kernel for each wait. A small request has two waits, and they cost it a quarter of its time. A Drive resumes
its coroutine inside the callback, and lets whoever owns it end a wait with an error of his choice: a deadline, a
client that left. What the coroutine may await: Signals, and everything asyncio offers that needs no current task
(asyncio.timeout and TaskGroup do: put these into a task and await that).
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

Resume = Callable[[Callable[[], None]], None]


class Signal:
    """A place where one coroutine waits until it is called. It may be set early; a wait takes what was set."""

    __slots__ = ("_drive", "_set")

    def __init__(self) -> None:
        self._drive: Drive | None = None
        self._set = False

    def set(self) -> None:
        """Resumes whoever waits, now; or lets the next wait pass."""
        drive = self._drive
        if drive is None:
            self._set = True
        else:
            self._drive = None
            drive.step()

    def clear(self) -> None:
        """Forgets that it was set."""
        self._set = False

    @property
    def is_awaited(self) -> bool:
        """Whether a coroutine waits here now."""
        return self._drive is not None

    def __await__(self) -> Generator["Signal", None, None]:
        if not self._set:
            yield self
        self._set = False


class Drive:
    """Runs one coroutine from its first `step` to its end, which is told to `ended` with the error or None.

    `resume` is given the call that goes on behind a future, and calls it when the loop has time: many futures may end
    at once. By itself that is at once.
    """

    __slots__ = ("_awaited", "_coroutine", "_ended", "_pending", "_resume", "_running")

    def __init__(
        self,
        coroutine: Coroutine[Any, None, None],
        ended: Callable[[BaseException | None], None],
        resume: Resume | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._resume = resume
        self._awaited: Signal | asyncio.Future[Any] | None = None
        self._running = False
        self._pending: BaseException | None = None

    def step(self, error: BaseException | None = None) -> None:
        """Runs the coroutine to its next wait; with an error, raises that where it waits."""
        self._running = True
        self._awaited = None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._ended(None)
        except BaseException as failure:  # noqa: BLE001 -- whatever ends the coroutine is its owner's to judge
            self._ended(failure)
        else:
            self._awaited = awaited
            if type(awaited) is Signal:
                awaited._drive = self  # noqa: SLF001 -- the two classes are one mechanism
            else:
                self._await_future(awaited)
        finally:
            self._running = False
            if error is not None:
                # It holds this frame and its callers, which hold the error: a cycle for the garbage collector.
                error.__traceback__ = None
        if self._pending is not None and self._awaited is not None:
            pending, self._pending = self._pending, None
            self.interrupt(pending)

    def interrupt(self, error: BaseException) -> None:
        """Ends the present wait with an error. While the coroutine itself runs, its next wait is ended."""
        if self._running:
            self._pending = error
            return
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return
        if isinstance(awaited, Signal):
            awaited._drive = None  # noqa: SLF001 -- the two classes are one mechanism
        else:
            awaited.remove_done_callback(self._future_done)
            awaited.cancel()
        self.step(error)

    def _await_future(self, awaited: Any) -> None:
        if awaited is None:  # a bare yield, as asyncio.sleep(0) makes: go on at the loop's next turn
            self._awaited = turn = asyncio.get_running_loop().create_future()
            turn.add_done_callback(self._future_done)
            turn.set_result(None)
        else:
            # What a Task does, too, to say that it has taken the future over.
            awaited._asyncio_future_blocking = False  # noqa: SLF001
            awaited.add_done_callback(self._future_done)

    def _future_done(self, future: "asyncio.Future[Any]") -> None:
        if self._resume is None:
            self._go_on(future)
        else:
            self._resume(partial(self._go_on, future))

    def _go_on(self, future: "asyncio.Future[Any]") -> None:
        # An interrupt may have come between the future's end and this call.
        if self._awaited is future:
            self.step()
