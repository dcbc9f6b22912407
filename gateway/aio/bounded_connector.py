"""An HTTP client connection that limits what a response can cost: for webhook receivers and key (JWKS) providers.

aiohttp skips any number of interim answers (1xx), and hands its parser everything that has arrived, a quarter of a
megabyte at once: thousands of small answers, parsed in one go while the event loop stands still. Here the parser
gets small pieces in turns (turn.py), and few bytes and interim answers in all; TLS is decrypted in turns, too. What
the peer has not taken of a request when its exchange has ended is dropped two seconds later (held_transport.py).
"""

import asyncio
import ssl
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from http.cookies import SimpleCookie
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from gateway.aio.aiohttp_internals import OwnTlsConnector
from gateway.aio.held_transport import HeldTransport
from gateway.aio.host_lookups import HostLookups, LookupsResolver
from gateway.aio.iteration import Iteration
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.aio.tls.transport import TlsTransport
from gateway.aio.turn import Turn
from gateway.model.statuses import MAX_INTERIM

USER_AGENT: Final = "document-gateway"
_PIECE: Final = 512
_MAX_OF_A_HEAD: Final = 64 * 1024
_MAX_BEHIND: Final = 16 * 1024
_SWITCHING: Final = 101
LINGER: Final = 2.0  # seconds: a receiver may have answered before it had read the rest


def bounded_context() -> ssl.SSLContext:
    """The TLS context that checks servers' certificates, with the system's CAs. Reads files."""
    context = ssl.create_default_context()
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # nor for a Diffie-Hellman group of its own: a second
    context.set_ecdh_curve("prime256v1")  # or a server may ask for an ffdhe8192 key: a quarter of a second
    context.options |= ssl.OP_NO_RENEGOTIATION  # as openssl.py has it: its certificates would be read in the loop
    return context


class BoundedHandler(ResponseHandler):
    """Reads one answer: at most 64 KB and 8 interim answers up to the end of its head, then `most` bytes.

    An answer that exceeds this before its head ends is aborted as not HTTP. Bytes after `most` are not read: the
    connection is aborted as soon as the reader of the body has taken what came before and asks for more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iteration: Iteration, peer: Hashable, most: int) -> None:
        super().__init__(loop)
        self._iteration = iteration
        self._peer = peer
        self._turn = Turn(iteration)
        self._rest = b""  # to be parsed in the next turn
        self._waits = False
        self._most = most
        self._left = _MAX_OF_A_HEAD
        self._interim = 0
        self._has_head = False
        self._is_over = False

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called by the parent for each message that is parsed."""
        code = data[0].code
        if 100 <= code < 200 and code != _SWITCHING:  # noqa: PLR2004 -- interim
            self._interim += 1
            return  # not passed on: no caller awaits an interim answer
        if not self._has_head:
            self._has_head = True
            self._left = self._most
            super().feed_data(data, size)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport, or by the loop."""
        self._reading = HeldTransport(cast("asyncio.Transport", transport), self._end_if_over, LINGER)
        super().connection_made(cast("asyncio.Transport", self._reading))  # a transport by what it has

    def data_received(self, data: bytes) -> None:
        """Called by the transport; the parent calls it with no data when reading is resumed."""
        if not data:
            super().data_received(data)
        elif self._waits:
            self._rest += data
        else:
            self._go_on(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport. Still reads the rest of a small answer."""
        if self._rest and len(self._rest) <= _MAX_BEHIND:
            self._parse(self._rest, in_turns=False)
        self._rest = b""
        super().connection_lost(exc)
        self._reading.forget()

    def _go_on(self, data: bytes) -> None:
        """Parses until the turn is over. The rest waits for the next turn, and reading pauses."""
        self._rest = self._parse(data, in_turns=True)
        if self._rest:
            self._waits = True
            self._reading.hold()
            self._iteration.call_in_turn(self._begin_turn, self._peer)

    def _begin_turn(self) -> None:
        self._waits = False
        rest, self._rest = self._rest, b""
        self._go_on(rest)
        if not (self._waits or self.transport is None):
            self._reading.let_go()

    def _parse(self, data: bytes, *, in_turns: bool) -> bytes:
        turn, place = self._turn, 0
        turn.work()
        while not (place >= len(data) or self._is_over or self.exception() or (in_turns and turn.is_over)):
            piece = data[place : place + min(_PIECE, self._left)]
            place += len(piece)
            self._left -= len(piece)
            super().data_received(piece)
            turn.spend(len(piece), piece.count(b"\n") // 2)  # a chunk has two line ends
            if not self._has_head and (self._left == 0 or self._interim > MAX_INTERIM):
                self._break_off()
            self._is_over |= self._left == 0
        turn.rest()
        self._end_if_over()
        return b"" if self._is_over or self.exception() is not None else data[place:]

    def _end_if_over(self) -> None:
        if self._is_over and self.transport is not None and not self._reading.is_paused:
            self._reading.abort()

    def _break_off(self) -> None:
        self._is_over = True
        self.set_exception(HttpProcessingError(code=400, message="too much before an answer"))


class BoundedConnector(OwnTlsConnector):
    """Makes such connections, with TLS in turns: asyncio's own TLS would decrypt a receiver's whole flood."""

    def __init__(
        self,
        iteration: Iteration,
        peer: Hashable,
        most: int = _MAX_BEHIND,
        buffers: TlsBuffers | None = None,
        lookups: HostLookups | None = None,
        untrusted: Callable[[ssl.SSLContext], None] | None = None,
        **options: Any,
    ) -> None:
        """`peer` is whose turns it takes (fair queueing); `most` limits the bytes on the wire after an answer's head.

        Connectors that are made again and again share `buffers`, with the threads that read certificates: 540 KB that
        are made anew cost half a millisecond. So they do `lookups`, which find hosts where there is no `resolver`.
        `untrusted` is told the context that refused a server's certificate.
        """
        if "resolver" not in options:
            options["resolver"] = LookupsResolver(lookups or HostLookups())
        shared = TlsBuffers(StepThreads(iteration.clock)) if buffers is None else buffers

        def encrypt(context: ssl.SSLContext, handler: ResponseHandler, name: str | None) -> TlsTransport:
            return TlsTransport(context, handler, shared, iteration, peer=peer, server=name)

        super().__init__(
            partial(BoundedHandler, asyncio.get_running_loop(), iteration, peer, most), encrypt, untrusted, **options
        )


class NoCookies:
    """A jar that reads none; aiohttp's own without cookies parses them all the same, 56 KB for ten milliseconds."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: Any) -> None:
        """Called with the answer's `Set-Cookie`."""

    def filter_cookies(self, request_url: Any) -> SimpleCookie:
        """The cookies of a request."""
        del request_url
        return SimpleCookie()


def make_session(connector: BoundedConnector, *, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    """A stateless session that trusts nothing: no cookies, no proxies from the environment, no decompression.

    It sets no timeout: the caller does.
    """
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=cast("aiohttp.abc.AbstractCookieJar", NoCookies()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        trust_env=False,
    )
