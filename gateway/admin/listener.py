"""Runs an application on the admin listener: accepted as on the public one, with its own door; its end is quick."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from gateway.admin.connection import AdminConnection
from gateway.aio.iteration import Iteration
from gateway.listener.accept import Acceptor, Door
from gateway.model.caller import Peer

# Probes, scrapers and administrators are few. An address has a share, so that one alone keeps no other out; and who
# has shown nothing gives way, so that many keep no probe out, from whatever address it comes.
DOOR: Final = Door(most=256, most_of_address=64, handshake=10.0, makes_room=True)
_END: Final = 2.0


@asynccontextmanager
async def listening_on(
    sock: socket.socket, application: web.Application, tls: ssl.SSLContext | None, iteration: Iteration
) -> AsyncIterator[Acceptor]:
    """Serves for as long as the context lasts; what runs at its end may end within some seconds."""
    runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=_END)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 -- it is there once it is set up
    loop = asyncio.get_running_loop()
    context = None if tls is None else lambda: tls

    def connection_of(peer: Peer) -> AdminConnection:
        connection = AdminConnection(server, loop, peer, acceptor.ended, iteration)
        acceptor.made(connection)
        return connection

    acceptor = Acceptor(sock, lambda: DOOR, context, connection_of, iteration)
    acceptor.start()
    try:
        yield acceptor
    finally:
        acceptor.stop()
        await acceptor.close()
        await runner.cleanup()
