"""A running gateway, and how it drains."""

import asyncio
from contextlib import suppress
from typing import Final, NamedTuple

import structlog
from prometheus_client import CollectorRegistry

from gateway.admin.context import Watch
from gateway.app.reload import Reloader
from gateway.config.state import Live
from gateway.listener.accept import Acceptor
from gateway.listener.connection import ClientConnection
from gateway.listener.connections import Connections
from gateway.listener.traffic import Traffic
from gateway.proxy.job_access import JobAccess

log = structlog.get_logger()

_CHECK_DRAINED: Final = 0.05
PORTION: Final = 200


class Addresses(NamedTuple):
    """Where a running gateway listens: (address, port)."""

    public: tuple[str, int]
    admin: tuple[str, int]


class Public(NamedTuple):
    """The public listener: its acceptor, the connections, and bytes received and sent."""

    acceptor: Acceptor
    connections: Connections
    traffic: Traffic


class Listeners(NamedTuple):
    """The public listener, its connections, the admin listener, and both addresses."""

    public: Acceptor
    connections: Connections
    admin: Acceptor
    addresses: Addresses


class Gateway:
    """A running gateway."""

    def __init__(
        self,
        live: Live,
        listeners: Listeners,
        reloader: Reloader,
        registry: CollectorRegistry,
        jobs: JobAccess,
        watch: Watch,
    ) -> None:
        self.live = live
        self.listeners = listeners
        self.reloader = reloader
        self.registry = registry
        self.jobs = jobs
        self.watch = watch

    async def drain(self, at_once: asyncio.Event) -> None:
        """Drains: running requests finish first; `at_once` cuts that short."""
        shutdown = self.live.state.settings.shutdown
        self.live.is_draining = True
        self.reloader.notifier.notify_stopping()
        self.jobs.long_polls.drain()
        log.info("draining", connections=self.listeners.public.connections)
        await _either(at_once, shutdown.drain_delay)
        await self.listeners.public.stop()
        deadline = asyncio.get_running_loop().time() + shutdown.drain_timeout
        left = await self._close_idle()
        while (
            (left or self.listeners.public.is_opening)
            and asyncio.get_running_loop().time() < deadline
            and not at_once.is_set()
        ):
            await _either(at_once, _CHECK_DRAINED)
            left = await self._close_idle()
        log.info("drained", cut_off=len(left))

    async def _close_idle(self) -> list[ClientConnection]:
        """Closes idle connections and returns the unfinished ones; yields to the loop after each portion."""
        left = []
        for number, connection in enumerate(self.listeners.connections.all(), 1):
            connection.close_idle()
            if connection.is_unfinished:
                left.append(connection)
            if number % PORTION == 0:
                await asyncio.sleep(0)
        return left


async def _either(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
