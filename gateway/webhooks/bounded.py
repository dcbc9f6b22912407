"""A connection that bounds what a receiver can make of an answer.

aiohttp skips interim answers (1xx) without an end, and hands the parser whatever has come, a quarter of a megabyte at
once: thousands of small answers, which are parsed in one go while the loop stands still. Here the parser gets small
pieces, and it gets no more than a few of them in all; what is encrypted is decrypted in turns.
"""

import asyncio
import ssl
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from gateway.iteration import Iteration
from gateway.tlstransport import TlsBuffers, TlsTransport

_PIECE: Final = 512
_MOST_OF_A_HEAD: Final = 64 * 1024
_MOST_BEHIND: Final = 16 * 1024
_MOST_INTERIM: Final = 8
_SWITCHING: Final = 101


class BoundedHandler(ResponseHandler):
    """Reads one answer: 64 KB until its head has ended, with 8 interim answers, and 16 KB from then on.

    What asks for more before that is broken off, as something that is no HTTP; what comes behind is dropped unread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left = _MOST_OF_A_HEAD
        self._interim = 0
        self._has_head = False
        self._is_over = False

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called by the parent for each message that is parsed."""
        code = data[0].code
        if 100 <= code < 200 and code != _SWITCHING:  # noqa: PLR2004 -- interim
            self._interim += 1
            return  # nobody waits for one
        if not self._has_head:
            self._has_head = True
            self._left = _MOST_BEHIND
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called by the transport; and by the parent, with nothing, when reading is resumed."""
        if not data:
            super().data_received(data)
        rest = memoryview(data)
        while rest and not self._is_over and self._exception is None:
            piece = rest[: min(_PIECE, self._left)]
            rest = rest[len(piece) :]
            self._left -= len(piece)
            super().data_received(bytes(piece))
            if not self._has_head and (self._left == 0 or self._interim > _MOST_INTERIM):
                self._break_off()
            self._is_over |= self._left == 0

    def _break_off(self) -> None:
        self._is_over = True
        self.set_exception(HttpProcessingError(code=400, message="too much before an answer"))
        if self.transport is not None:
            self.transport.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """Makes such connections, and TLS in turns: the loop's own would decrypt all that a receiver floods it with."""

    def __init__(self, iteration: Iteration, **options: Any) -> None:
        super().__init__(**options)
        self._iteration = iteration
        self._factory = partial(BoundedHandler, loop=self._loop)  # type: ignore[assignment] # a subclass will do

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """As aiohttp's, but for TLS.

        Raises:
            ClientConnectorSSLError: also for a certificate.
        """
        context = kwargs.pop("ssl", None)
        name = kwargs.pop("server_hostname", None)
        make, *more = args
        if context is None:
            return await super()._wrap_create_connection(make, *more, **kwargs)
        handler = make()
        tls = TlsTransport(context, handler, TlsBuffers(), self._loop, self._iteration, server=name)
        try:
            await super()._wrap_create_connection(lambda: tls, *more, **kwargs)
            await tls.opened
        except (ssl.SSLError, UnicodeError) as error:
            raise aiohttp.ClientConnectorSSLError(kwargs["req"].connection_key, OSError(str(error))) from error
        except BaseException:
            tls.abort()
            raise
        return tls, handler
