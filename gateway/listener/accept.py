"""The accept loop of both listeners: connection limits before any cost. What follows, up to TLS, is opening.py's.

asyncio's own server has no such limits, so connections are accepted here and handed to the loop one by one.
A running handshake occupies a slot like a connection, so a client that only starts handshakes can't keep others out.
With AcceptLimits.makes_room a connection that has shown nothing yields its slot to a new one when all are taken
(newcomers.py).
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from ssl import SSLCertVerificationError, SSLContext
from typing import Final, Protocol

import structlog

from gateway.aio.iteration import Iteration
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.errors import EXHAUSTED
from gateway.limits.buckets import Rate, take, wait_for
from gateway.listener.newcomers import Newcomer, who_gives_way
from gateway.listener.opening import Accepted, GaveWayError, Opening, OpeningParts, SilentError
from gateway.listener.proxy_protocol import DeclaredClient, ProxyHeaderError
from gateway.listener.unsent import limit_unsent
from gateway.model.identity import Peer
from gateway.model.networks import Networks, client_prefix, parse_address

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
_SECONDS: Final = 0.002  # of a batch, and the last one of it
REST: Final = 1.0
# All present from the start, at 0: a counter that first appears at 1 shows no increase.
_WHYS: Final = (
    "silent", "handshake", "proxy_header", "too_many", "too_many_of_address", "gave_way", "out_of_files", "shutdown",
)  # fmt: skip
_EVENTS: Final = Rate(per_second=5.0, burst=50.0)
_NOBODY: Final = Networks()
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AcceptLimits:
    """What a listener accepts: the most connections in all and per address, handshakes included; handshake seconds.

    `exempt` are addresses shared by many clients: the limit per address does not apply to them. With
    `reads_proxy_header` these addresses send a PROXY header that names the client. With `makes_room` a new connection
    that finds no slot gets that of a connection that has shown nothing yet.
    """

    most: int
    most_of_address: int
    handshake: float
    exempt: Networks = _NOBODY
    reads_proxy_header: bool = False
    makes_room: bool = False


class NewConnection(Accepted, Newcomer, Protocol):
    """A connection above TLS that may yield its slot."""


MakeConnection = Callable[[Peer], Accepted]


class Acceptor:
    """Accepts on one listening socket until it is closed. `refused` counts refused connections by reason.

    `limits` returns the current ones, `tls` the context that a handshake begins with; None: without TLS.
    """

    def __init__(
        self,
        listening: socket.socket,
        limits: Callable[[], AcceptLimits],
        tls: Callable[[], SSLContext] | None,
        make: MakeConnection,
        iteration: Iteration,
    ) -> None:
        self.listening = listening
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._parts = OpeningParts(iteration, TlsBuffers(StepThreads(iteration.clock)), tls, make, self._move)
        self._openings: dict[Opening, None] = {}  # in order of arrival
        self._are_over = asyncio.Event()  # set when no handshake is under way
        self._newcomers: dict[Accepted, NewConnection] = {}
        self._by_address: Counter[bytes] = Counter()
        self.iteration = iteration
        self.connections = 0
        self._bad_certificates_tat = 0.0
        self.is_stopped = False
        self.refused = Counter(dict.fromkeys(_WHYS, 0))

    def start(self) -> None:
        """Starts accepting."""
        self._loop.add_reader(self.listening, self._accept_ready)

    async def stop(self) -> None:
        """Takes the connections that the kernel has already accepted, then closes the listening socket.

        No more than it can hold: a flood would connect as long as somebody accepts. The loop goes on after a batch.
        """
        self.is_stopped = True
        self._loop.remove_reader(self.listening)
        left = _BACKLOG
        try:
            while taken := self._accept_ready(min(left, _AT_ONCE)):
                left -= taken
                await asyncio.sleep(0)
        finally:
            self.listening.close()

    async def close(self) -> None:
        """Cancels the handshakes that are still under way."""
        for opening in list(self._openings):
            opening.cancel()
        if self._openings:  # some can't be cancelled for an iteration or two of the loop
            self._are_over.clear()
            await self._are_over.wait()
        await asyncio.sleep(0)  # lets the loop's transports learn of the closed connections

    @property
    def is_opening(self) -> bool:
        """Whether handshakes are under way."""
        return bool(self._openings)

    def add_newcomer(self, connection: NewConnection) -> None:
        """Registers a connection that may yield its slot; others never do."""
        self._newcomers[connection] = connection

    def release(self, connection: Accepted) -> None:
        """Called at least once for each connection that ended: frees its slot."""
        if not connection.has_ended:
            connection.has_ended = True
            self._newcomers.pop(connection, None)
            self._leave(connection.peer)

    def _accept_ready(self, most: int = _AT_ONCE) -> int:
        """Accepts a batch; returns how many have left the kernel's queue, 0 if none did or can now.

        It has a time of its own: those that wait here have no turns yet, and where others use up each iteration, one
        connection in each would let their queue in the kernel grow full.
        """
        now = self.iteration.clock()
        until = now + _SECONDS
        taken = 0
        while taken < most:
            try:
                accepted, address = self.listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                return 0 if self._has_paused(error) else taken + 1
            taken += 1
            self._admit(accepted, Peer(parse_address(address[0].partition("%")[0]), address[1]))
            now = self._count_since(now)
            if now >= until:
                break
        return taken

    def _count_since(self, begun: float) -> float:
        now = self.iteration.clock()
        self.iteration.add(now - begun, 0)
        return now

    def _has_paused(self, error: OSError) -> bool:
        if error.errno not in EXHAUSTED:
            return False  # this client hung up while it waited: accepting goes on
        self.refused["out_of_files"] += 1
        log.error("accepting paused", error=error.strerror)
        self._loop.remove_reader(self.listening)
        self._loop.call_later(REST, self._accept_again)
        return True

    def _accept_again(self) -> None:
        if not self.is_stopped:
            self.start()

    def _admit(self, accepted: socket.socket, peer: Peer) -> None:
        full = self._full(peer)
        if full is not None and not self._has_made_room(full, peer):
            self.refused[full] += 1
            accepted.close()
            return
        self._enter(peer)
        accepted.setblocking(False)
        limits = self._limits()
        opening = Opening(accepted, peer, self._parts, partial(self._over, accepted))
        self._openings[opening] = None
        reads_proxy_header = limits.reads_proxy_header and peer.ip in limits.exempt
        opening.begin(self._loop.time() + limits.handshake, reads_proxy_header=reads_proxy_header)

    def _full(self, peer: Peer) -> str | None:
        if self.connections >= self._limits().most:
            return "too_many"
        return "too_many_of_address" if self._has_its_share(peer) else None

    def _has_its_share(self, peer: Peer) -> bool:
        limits = self._limits()
        return self._by_address[client_prefix(peer.ip)] >= limits.most_of_address and peer.ip not in limits.exempt

    def _has_made_room(self, full: str, peer: Peer) -> bool:
        if not self._limits().makes_room:
            return False
        prefix = client_prefix(peer.ip) if full == "too_many_of_address" else None
        newcomer = who_gives_way(chain(self._newcomers.values(), self._openings), self._by_address, prefix)
        if newcomer is None:
            return False
        self.refused["gave_way"] += 1
        newcomer.give_way()
        return True

    def _enter(self, peer: Peer) -> None:
        self.connections += 1
        self._by_address[client_prefix(peer.ip)] += 1

    def _leave(self, peer: Peer) -> None:
        self.connections -= 1
        prefix = client_prefix(peer.ip)
        self._by_address[prefix] -= 1
        if self._by_address[prefix] <= 0:
            del self._by_address[prefix]

    def _over(self, accepted: socket.socket, opening: Opening, error: BaseException | None) -> None:
        """Called by each opening when it ends: TLS is established, or the connection is refused."""
        self._openings.pop(opening, None)
        if not self._openings:
            self._are_over.set()
        if error is None:
            return
        why = _why(error)
        if why is None:
            self._loop.call_exception_handler({"message": "A connection could not be opened", "exception": error})
            why = "handshake"
        if not isinstance(error, GaveWayError):  # _has_made_room has counted it
            self.refused[why] += 1
        if opening.made is None:
            self._leave(opening.peer)
        else:
            self.release(opening.made)
        accepted.close()
        log.debug("connection refused", peer=str(opening.peer.ip), why=why)
        if isinstance(error, SSLCertVerificationError):
            self._log_bad_certificate(opening.peer, error)

    def _log_bad_certificate(self, peer: Peer, error: SSLCertVerificationError) -> None:
        """One event for each, but not more of them than a log can take: anybody can cause them."""
        now = self._loop.time()
        if not wait_for(self._bad_certificates_tat, now, 1, _EVENTS):
            self._bad_certificates_tat = take(self._bad_certificates_tat, now, 1, _EVENTS)
            log.info("client certificate refused", peer=str(peer.ip), why=error.verify_message)

    def _move(self, peer: Peer, origin: DeclaredClient) -> Peer:
        """Moves a connection's slot, which is one of all, to the client that its PROXY header names."""
        declared = Peer(origin.ip, origin.port, named_by=peer.ip)
        if self._has_its_share(declared):
            raise ProxyHeaderError("too_many_of_address")
        self._leave(peer)
        self._enter(declared)
        return declared


def _why(error: BaseException) -> str | None:
    """Why a connection was refused, as a key of `refused`; None for a bug of ours."""
    if isinstance(error, SilentError):
        return "silent"
    if isinstance(error, ProxyHeaderError):
        return "proxy_header"
    if isinstance(error, GaveWayError):
        return "gave_way"
    if isinstance(error, asyncio.CancelledError):
        return "shutdown"
    # UnicodeError: ssl can't decode a name in the client's certificate.
    return "handshake" if isinstance(error, (OSError, EOFError, UnicodeError)) else None


def bind(address: str, port: int) -> socket.socket:
    """Creates a listening socket.

    Raises:
        OSError: when the port is taken or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setblocking(False)
        limit_unsent(listening)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
