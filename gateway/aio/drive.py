"""Runs a coroutine by hand, inside the callbacks that feed it.

asyncio.Task resumes a coroutine one loop iteration after the awaited event: each wait costs a future, a handle and a
poll of the kernel. A small request has two waits, and they took a quarter of its time. A Drive resumes its coroutine
inside the callback, and its owner can end a wait with any error: a deadline, a client that left. The coroutine may
await Signals, and everything in asyncio that needs no current task (asyncio.timeout and TaskGroup need one: run these
in a task and await that).
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

Resume = Callable[[Callable[[], None]], None]


class Signal:
    """An event that one coroutine waits for. It may be set early: the next wait then consumes it and passes."""

    __slots__ = ("_drive", "_set")

    def __init__(self) -> None:
        self._drive: Drive | None = None
        self._set = False

    def set(self) -> None:
        """Resumes the waiting coroutine now; if none waits, lets the next wait pass."""
        drive = self._drive
        if drive is None:
            self._set = True
        else:
            self._drive = None
            drive.step()

    def wake(self) -> None:
        """Resumes the waiting coroutine, if one still waits: its client may be gone, or something else woke it."""
        if self.is_awaited:
            self.set()

    def clear(self) -> None:
        """Undoes an early `set`."""
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
    """Runs one coroutine from its first `step` to its end, then calls `ended` with the error or None.

    When an awaited future is done, `resume` gets the call that continues the coroutine, and makes it when the loop
    has time: many futures may end at once. Without `resume` the coroutine continues at once.
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
        """Runs the coroutine to its next wait; an error is raised where the coroutine waits."""
        self._running = True
        self._awaited = None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._end(None)
        except BaseException as failure:  # noqa: BLE001 -- the owner judges whatever ends the coroutine
            self._end(failure)
            failure.__traceback__ = None  # it holds the callers of this, and one of them may have made the failure
        else:
            self._awaited = awaited
            if type(awaited) is Signal:
                awaited._drive = self  # noqa: SLF001 -- the two classes are one mechanism
            else:
                self._await_future(awaited)
        finally:
            self._running = False
            if error is not None:
                # Its traceback holds this frame and the callers', which hold the error: a reference cycle.
                error.__traceback__ = None
        if self._pending is not None and self._awaited is not None:
            pending, self._pending = self._pending, None
            self.interrupt(pending)

    def _end(self, error: BaseException | None) -> None:
        ended, self._ended = self._ended, _pass_over  # lets go of it: it may know the Drive
        ended(error)

    def interrupt(self, error: BaseException) -> None:
        """Ends the current wait with an error. While the coroutine itself runs, ends its next wait instead."""
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
        if awaited is None:  # a bare yield, as asyncio.sleep(0) makes: continue in the loop's next iteration
            self._awaited = turn = asyncio.get_running_loop().create_future()
            turn.add_done_callback(self._future_done)
            turn.set_result(None)
        else:
            # A Task does the same to mark the future as taken over.
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


def _pass_over(_: BaseException | None) -> None:
    pass
