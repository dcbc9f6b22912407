"""What a change of the CAs for client certificates does to thousands of connections."""

import asyncio
import time
from typing import Any

from gateway.aio.sweep import DeadlineSweep
from gateway.listener.connections import Connections
from gateway.model.identity import ClientCertificate, Peer
from tests.support.iteration import iteration_now
from tests.support.pure import ip
from tests.support.waiting import eventually

OLD, OTHER, NEW = frozenset({b"old"}), frozenset({b"other"}), frozenset({b"new", b"other"})


class Fake:
    """A connection: what a change of CAs does to it."""

    def __init__(self, chain: frozenset[bytes], *, is_between_requests: bool) -> None:
        self.peer = Peer(ip("192.0.2.7"), 5, ClientCertificate(chain=chain), speaks_for_itself=True)
        self.is_between_requests = is_between_requests
        self.is_deaf = self.has_ended = False

    def revoke(self) -> None:
        self.is_deaf = True

    def end_revoked(self) -> None:
        self.has_ended = True

    def set_certificate(self, certificate: ClientCertificate | None) -> None:
        self.peer = self.peer.with_certificate(certificate)


async def test_changed_cas_take_certificates_at_once_only_from_what_is_served() -> None:
    """With 10,000 connections it held all requests for 40 ms."""
    iteration = iteration_now()
    sweep = DeadlineSweep(asyncio.get_running_loop(), iteration)
    unused: Any = None
    connections = Connections(unused, unused, sweep, time.time, iteration, OLD)
    idle: list[Any] = [Fake(OLD, is_between_requests=True) for _ in range(450)]
    busy: list[Any] = [Fake(OLD, is_between_requests=False) for _ in range(250)]
    still: list[Any] = [Fake(OTHER, is_between_requests=is_so) for is_so in (True, False)]
    connections._open.update(idle, busy, still)
    connections.trust(NEW)
    assert all(connection.is_deaf for connection in connections.all())
    assert all(connection.peer == Peer(ip("192.0.2.7"), 5, None, speaks_for_itself=True) for connection in busy)
    assert sum(connection.peer.certificate is None for connection in idle) <= 200
    assert sum(connection.has_ended for connection in connections.all()) == 200
    await eventually(lambda: all(connection.has_ended for connection in connections.all()))
    assert all(connection.peer.certificate is None for connection in idle)
    assert all(connection.peer.certificate is not None for connection in still)
