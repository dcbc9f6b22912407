"""Runs an application on the admin listener: its connections are ours, its sockets are bounded, its end is quick."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from gateway.admin.connection import AdminConnection

_HANDSHAKE: Final = 10.0
_END: Final = 2.0


@asynccontextmanager
async def listening_on(
    sock: socket.socket, application: web.Application, tls: ssl.SSLContext | None
) -> AsyncIterator[None]:
    """Serves for as long as the context lasts; what runs at its end may end within some seconds."""
    runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=_END)
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101 -- it is there once it is set up
    loop = asyncio.get_running_loop()
    handshake = None if tls is None else _HANDSHAKE
    accepting = await loop.create_server(
        lambda: AdminConnection(server, loop), sock=sock, ssl=tls, ssl_handshake_timeout=handshake
    )
    try:
        yield
    finally:
        accepting.close()
        await runner.cleanup()
