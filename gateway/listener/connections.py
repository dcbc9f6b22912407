"""All client connections of the process, from the end of their handshake to the end of what they started.

With client certificates a connection is as good as the CAs that its handshake was made under: once others are in
force, it serves no further request.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from gateway.aio.iteration import Iteration
from gateway.aio.sweep import DeadlineSweep
from gateway.auth.certificates import read_certificate
from gateway.config.state import Live, State
from gateway.listener.accept import Acceptor, Door
from gateway.listener.connection import ClientConnection, Owner, Serve
from gateway.listener.traffic import Traffic
from gateway.model.caller import Peer

_PORTION: Final = 200


class Connections:
    """Makes connections and knows those that are open, or whose exchange runs on without its client.

    `client_ca` is the digest of the CAs whose client certificates are believed; None: clients are asked for none.
    `wall` is in seconds since the epoch: certificates end by it.
    """

    def __init__(
        self,
        live: Live,
        serve: Serve,
        sweep: DeadlineSweep,
        wall: Callable[[], float],
        iteration: Iteration,
        client_ca: str | None = None,
    ) -> None:
        self._live = live
        self._serve = serve
        self._sweep = sweep
        self._wall = wall
        self._iteration = iteration
        self._client_ca = client_ca
        self._loop = asyncio.get_running_loop()
        self._open: set[ClientConnection] = set()

    def make(self, peer: Peer, acceptor: Acceptor, traffic: Traffic) -> ClientConnection:
        """Makes the protocol of one accepted connection."""

        def ended(connection: ClientConnection) -> None:
            self._open.discard(connection)
            self._sweep.remove(connection)
            acceptor.ended(connection)

        owner = Owner(self._started, ended)
        connection = ClientConnection(self._live, peer, self._serve, traffic, owner, self._iteration)
        # What is in force now, before the handshake: should it change meanwhile, the connection counts as an old one.
        connection.client_ca = self._client_ca
        return connection

    def trust(self, client_ca: str | None) -> None:
        """Ends what was made under other CAs: what is idle now, what is busy behind its present answer."""
        if client_ca != self._client_ca:
            self._client_ca = client_ca
            revoked = self.all()
            for connection in revoked:
                connection.revoke()
            self._end_revoked(revoked)

    def _end_revoked(self, left: list[ClientConnection]) -> None:
        """Ends thousands a portion at a time, each in a turn of its own."""
        for connection in left[-_PORTION:]:
            connection.end_revoked()
        del left[-_PORTION:]
        if left:
            self._iteration.wait(partial(self._end_revoked, left), is_small=True)

    def all(self) -> list[ClientConnection]:
        """A list of them as of now."""
        return list(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def _started(self, connection: ClientConnection) -> None:
        self._open.add(connection)
        self._sweep.add(connection)
        if connection.client_ca is not None:
            _note_certificate(connection)
            self._end_with_certificate(connection)
        if connection.client_ca != self._client_ca:
            connection.revoke()

    def _end_with_certificate(self, connection: ClientConnection) -> None:
        certificate = connection.peer.certificate
        if certificate is not None and certificate.not_after is not None:
            left = certificate.not_after - self._wall()
            connection.ends_at = min(connection.ends_at, self._loop.time() + left)


def door_of(state: State) -> Door:
    """Whom the public listener lets in; whom a trusted proxy names by a PROXY header has a share of his own."""
    return Door(
        most=state.pace.max_connections,
        most_of_address=state.pace.max_connections_per_address,
        handshake=state.pace.handshake,
        exempt=state.trusted_proxies,
        reads_proxy_header=state.settings.listen.proxy_protocol,
    )


def _note_certificate(connection: ClientConnection) -> None:
    # TlsEngine decoded it when the handshake was over: asking ssl again would decode it again.
    shown = connection.transport.get_extra_info("peercert") if connection.transport is not None else None
    if shown:
        certificate = read_certificate(shown, ssl.cert_time_to_seconds(shown["notAfter"]))
        connection.peer = replace(connection.peer, certificate=certificate)
