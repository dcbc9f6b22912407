"""Runs an application on the admin listener: accepts like the public one, with its own limits; quick shutdown."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from gateway.admin.connection import AdminConnection
from gateway.admin.origin_targets import with_origin_targets
from gateway.admin.request_turns import in_turns
from gateway.aio.iteration import Iteration
from gateway.listener.accept import AcceptLimits, Acceptor
from gateway.model.identity import Peer

# Probes, scrapers and administrators are few. Each address has a connection limit, so that one can't shut out others.
# Connections that have not authenticated are closed to make room, so that many of them, from any address, can't shut
# out probes.
LIMITS: Final = AcceptLimits(most=256, most_of_address=64, handshake=10.0, makes_room=True)
END: Final = 2.0


@asynccontextmanager
async def listening_on(
    sock: socket.socket,
    application: web.Application,
    tls: Callable[[], ssl.SSLContext] | None,
    iteration: Iteration,
) -> AsyncIterator[Acceptor]:
    """Serves while the context lasts; at its end, running requests get a few seconds to finish.

    `tls` returns the TLS context that a handshake begins with; None: without TLS.
    """
    runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=END)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 -- set by setup()
    server.request_factory = with_origin_targets(server.request_factory)
    server.request_handler = in_turns(server.request_handler, iteration)
    loop = asyncio.get_running_loop()

    def connection_of(peer: Peer) -> AdminConnection:
        connection = AdminConnection(server, loop, peer, acceptor.release, iteration)
        acceptor.add_newcomer(connection)
        return connection

    acceptor = Acceptor(sock, lambda: LIMITS, tls, connection_of, iteration)
    acceptor.start()
    try:
        yield acceptor
    finally:
        await acceptor.stop()
        await acceptor.close()
        await runner.cleanup()
