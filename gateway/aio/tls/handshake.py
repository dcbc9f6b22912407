"""A handshake beneath a transport: its steps, of which long ones have a thread, and the task that waits for its end.

A step that has begun in a thread goes on whatever happens; a connection that ends meanwhile is forgotten, and what it
used is freed when the step ends.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import TypeVar

from gateway.aio.tls.openssl import TlsEngine
from gateway.aio.tls.step_order import Standing
from gateway.aio.tls.step_threads import StepThreads

Error = TypeVar("Error", Exception, Exception | None)


class Handshake:
    """`over` is done when it is over, well or not: `until_over` tells which.

    It never has an error: in an error's traceback are the transport and those who wait for it, and they would hold
    each other.
    """

    __slots__ = ("_engine", "_is_complete", "_refusal", "_source", "_step_error", "_stepped", "_threads", "over")

    def __init__(self, engine: TlsEngine, threads: StepThreads) -> None:
        self._engine = engine
        self._threads = threads
        self._source: Hashable = None
        self._stepped: Callable[[], None] | None = None  # called when the thread has taken a step
        self._step_error: Exception | None = None
        self._is_complete = False
        self._refusal: Exception | None = None  # for the task that waits
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_in_thread(self) -> bool:
        """Whether a thread has the engine, or will have it."""
        return self._stepped is not None

    # The task that waits for its end

    async def until_over(self) -> None:
        """Waits for the end.

        Raises:
            ssl.SSLError, ConnectionError: it failed.
            UnicodeError: the certificate has a name that is no text.
        """
        await self.over
        if self._refusal is not None:
            raise self._take_refusal(self._refusal)

    def _take_refusal(self, refusal: Exception) -> Exception:
        self._refusal = None
        return refusal

    def end(self, refusal: Exception | None = None) -> None:
        """It is over; call it once."""
        self._refusal = bare(refusal)
        self.over.set_result(None)

    # Its steps

    def step(self, source: Hashable, stepped: Callable[[], None]) -> bool:
        """Takes the next step, here or in a thread, which then calls `stepped`; whether the handshake is complete.

        Raises:
            ssl.SSLError, UnicodeError: it failed; for the first there may be an alert to send.
        """
        if not self._engine.is_heavy:
            return self._engine.advance_handshake()
        self._source, self._stepped = source, stepped
        self._threads.begin(source, self)
        return False

    def result(self) -> bool | Exception:
        """What `step` would have returned or raised, after a thread took it."""
        error, self._step_error = self._step_error, None
        return self._is_complete if error is None else error

    def leave(self) -> None:
        """Takes no more steps: the connection ends."""
        if self._stepped is not None:
            self._stepped = None
            self._threads.drop(self._source, self)

    # The thread's side

    def run(self) -> None:
        """Takes a step."""
        try:
            self._is_complete = self._engine.advance_handshake()
        except Exception as error:  # noqa: BLE001 -- `result` returns it
            self._step_error = bare(error)

    def refuse(self, error: Exception) -> None:
        """Takes none."""
        self._step_error = error

    @property
    def shown(self) -> Standing | None:
        """What the step showed of the peer."""
        if not self._is_complete:
            return None
        has_certificate = self._engine.peercert or not self._engine.is_server  # a server's is always asked for
        return Standing.PROVED if has_certificate else Standing.QUICK

    def ended(self) -> None:
        """Called on the loop."""
        stepped, self._stepped = self._stepped, None
        if stepped is not None:
            stepped()


def bare(error: Error) -> Error:
    """The error without those in whose calls it was raised: kept by them, it would keep them."""
    if error is not None:
        error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
