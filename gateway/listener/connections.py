"""All client connections of the process, from the end of their handshake until all that they started has ended.

With client certificates (mTLS) a connection ends when its certificate expires, and is only valid under the CAs of its
handshake: once other CAs are in force, it serves no further request. What it serves at that moment loses its
certificate, unless one of the CAs in force is in the chain by which it was verified: a request that waits is then
judged as one without.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.aio.iteration import Iteration
from gateway.aio.sweep import DeadlineSweep
from gateway.auth.certificates import read_certificate
from gateway.config.state import Live, State
from gateway.listener.accept import AcceptLimits, Acceptor
from gateway.listener.connection import ClientConnection, ConnectionOwner, Serve
from gateway.listener.traffic import Traffic
from gateway.model.identity import Peer

_PORTION: Final = 200


class Connections:
    """Makes connections, and keeps those that are open or whose exchange continues without the client.

    `client_ca` has the digests of the CAs trusted for client certificates; None: none are requested.
    `wall` is in seconds since the epoch, for the expiry of certificates.
    """

    def __init__(
        self,
        live: Live,
        serve: Serve,
        sweep: DeadlineSweep,
        wall: Callable[[], float],
        iteration: Iteration,
        client_ca: frozenset[bytes] | None = None,
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
            acceptor.release(connection)

        owner = ConnectionOwner(self._started, ended)
        connection = ClientConnection(self._live, peer, self._serve, traffic, owner, self._iteration)
        # The CAs of now, before the handshake: if they change during it, the connection counts as an old one.
        connection.client_ca = self._client_ca
        return connection

    def trust(self, client_ca: frozenset[bytes] | None) -> None:
        """Ends connections made under other CAs: idle ones now, busy ones after their current answer."""
        if client_ca != self._client_ca:
            self._client_ca = client_ca
            revoked = self.all()
            for connection in revoked:
                connection.revoke()
                if not connection.is_between_requests:  # the others serve nothing any more: there is time
                    self._drop_distrusted(connection)
            self._end_revoked(revoked)

    def _end_revoked(self, left: list[ClientConnection]) -> None:
        """Ends connections in portions, each in a turn of its own: there may be thousands."""
        for connection in left[-_PORTION:]:
            self._drop_distrusted(connection)
            connection.end_revoked()
        del left[-_PORTION:]
        if left:
            self._iteration.call_in_turn(partial(self._end_revoked, left), is_small=True)

    def all(self) -> list[ClientConnection]:
        """A snapshot of all connections."""
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
            self._drop_distrusted(connection)

    def _drop_distrusted(self, connection: ClientConnection) -> None:
        certificate = connection.peer.certificate
        if certificate is not None and certificate.chain.isdisjoint(self._client_ca or ()):
            connection.set_certificate(None)

    def _end_with_certificate(self, connection: ClientConnection) -> None:
        certificate = connection.peer.certificate
        if certificate is not None and certificate.not_after is not None:
            left = certificate.not_after - self._wall()
            connection.end_by(self._loop.time() + left)


def accept_limits_of(state: State) -> AcceptLimits:
    """The public listener's limits; clients that a trusted proxy names in a PROXY header have limits of their own."""
    return AcceptLimits(
        most=state.pace.max_connections,
        most_of_address=state.pace.max_connections_per_address,
        handshake=state.pace.handshake,
        exempt=state.trusted_proxies,
        reads_proxy_header=state.settings.listen.proxy_protocol,
    )


def _note_certificate(connection: ClientConnection) -> None:
    # TlsEngine decoded it at the end of the handshake: ssl would decode it again.
    transport = connection.transport
    shown = None if transport is None else transport.get_extra_info("peercert")
    if transport is not None and shown:
        chain = transport.get_extra_info("verified_chain", frozenset())
        connection.set_certificate(read_certificate(shown, ssl.cert_time_to_seconds(shown["notAfter"]), chain))
