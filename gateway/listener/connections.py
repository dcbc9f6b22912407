"""All client connections of the process, from the end of their handshake to the end of what they started."""

import asyncio
from typing import Never

from aiohttp import web

from gateway.listener.accept import Acceptor
from gateway.listener.connection import ClientConnection, Serve, Traffic
from gateway.listener.pace import Pace
from gateway.model import Peer
from gateway.state import Live


class Connections:
    """Makes connections and knows those that are open, or whose exchange runs on without its client."""

    def __init__(self, live: Live, serve: Serve, pace: Pace) -> None:
        self._live = live
        self._serve = serve
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._open: set[ClientConnection] = set()
        self._server = web.Server(_unused)

    def make(self, peer: Peer, acceptor: Acceptor, traffic: Traffic) -> ClientConnection:
        """Makes the protocol of one accepted connection."""

        def ended(connection: ClientConnection) -> None:
            self._open.discard(connection)
            self._pace.remove(connection)
            acceptor.ended(connection)

        return ClientConnection(
            self._server, self._loop, self._live, peer, self._serve, traffic, self._started, ended
        )

    def all(self) -> list[ClientConnection]:
        """A list of them as of now."""
        return list(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def _started(self, connection: ClientConnection) -> None:
        self._open.add(connection)
        self._pace.add(connection)


async def _unused(_: web.BaseRequest) -> Never:
    raise AssertionError  # requests are served by Handler; web.Server only wants to be given something
