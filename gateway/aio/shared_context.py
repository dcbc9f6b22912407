"""The TLS context for the servers that the gateway calls, shared by all who call them, and made anew now and then.

The CAs are files of the system's, or those of SSL_CERT_FILE, and may change while the gateway runs. Reading takes
20 to 50 ms: a daemon thread does it, which does not keep the process from ending where a mount hangs. Where a file is
missing Python does not fail, and such a context trusts nobody. So one is made anew

- when somebody asks for it and it is five minutes old: meanwhile it serves on; from ten minutes on who asks waits;
- after it has refused a server's certificate, whose CA may be new: meanwhile it serves on, too;
- when it has no CA: who asks waits.

It is made at most once in ten seconds. While the files can't be read the last context serves on, and nobody waits; it
serves on, too, until it is ten minutes old, where they have no CA any more: they may be about to be replaced.
"""

import asyncio
import ssl
from collections.abc import Callable
from math import inf
from typing import Final

import structlog

from gateway.aio.bounded_connector import bounded_context
from gateway.aio.daemon_threads import DaemonThreads
from gateway.aio.waiters import Waiters

FRESH: Final = 300.0
OLD: Final = 600.0
PAUSE: Final = 10.0
PATIENCE: Final = 5.0
log = structlog.get_logger()


class NoContext(Exception):
    """There is none, because the CAs were never read."""


class SharedContext:
    """Such a context. Belongs to one event loop; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._threads = DaemonThreads()
        self._context: ssl.SSLContext | None = None
        self._made = -inf  # when the files of the context began to be read
        self._tried = -inf  # when files last began to be read
        self._is_doubted = False
        self._has_failed = False
        self._making: asyncio.Task[None] | None = None
        self._waiters = Waiters()

    async def get(self) -> ssl.SSLContext:
        """The context. Who is cancelled meanwhile does not keep others from it.

        Raises:
            NoContext: there is none.
        """
        self._renew()
        if self._making is not None and self._is_worth_a_wait:
            await self._waiters.wait()
        if self._context is None:
            raise NoContext
        return self._context

    def doubt(self, context: ssl.SSLContext) -> None:
        """Tells that this context refused a server's certificate."""
        if context is self._context:
            self._is_doubted = True
            self._renew()

    @property
    def _age(self) -> float:
        return self._clock() - self._made

    @property
    def _is_empty(self) -> bool:
        return self._context is None or not _has_cas(self._context)

    @property
    def _is_worth_a_wait(self) -> bool:
        return self._context is None or (not self._has_failed and (self._is_empty or self._age >= OLD))

    def _renew(self) -> None:
        """Begins to make a context, if it is time."""
        if self._making is not None or self._clock() - self._tried < PAUSE:
            return
        if self._is_doubted or self._age >= FRESH or self._is_empty:
            self._tried = self._clock()
            self._waiters = Waiters()
            self._making = asyncio.get_running_loop().create_task(self._make(self._tried, self._waiters))

    async def _make(self, begun: float, waiters: Waiters) -> None:
        try:
            context = await self._threads.run(bounded_context, PATIENCE)
        except (OSError, RuntimeError) as error:  # TimeoutError, too; RuntimeError: no thread is left
            self._note_failure(error)
        else:
            self._has_failed = False
            self._take(context, begun)
        finally:
            self._making = None
            waiters.release()

    def _take(self, context: ssl.SSLContext, begun: float) -> None:
        if self._is_empty or self._age >= OLD or _has_cas(context):
            self._context, self._made, self._is_doubted = context, begun, False

    def _note_failure(self, error: Exception) -> None:
        if not self._has_failed:
            log.error("system's CAs could not be read", why=type(error).__name__, held=self._context is not None)
        self._has_failed = True


def _has_cas(context: ssl.SSLContext) -> bool:
    """Whether it knows one; those of a directory are unknown until a server shows a certificate of theirs."""
    return bool(context.cert_store_stats()["x509_ca"])
