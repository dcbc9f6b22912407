"""What we use of aiohttp that it does not promise: its C parser, as it is made here, and its private names.

No other file touches a private name of aiohttp's, or makes its parser; tests/aio/test_aiohttp_internals.py proves the
first, and says in words what a new version of aiohttp has changed. Facts this file rests on (aiohttp 3.14):
- the C parser takes these arguments, and tells a body's reader of its end by `payload_exception`;
- a body asks of its protocol no more than `Unpaused` has;
- a body counts in `_http_chunk_splits` the chunks that it was given and has not delivered;
- a server's connection has in `_messages` what it has not begun: requests, or faults as `exc`, each with a body;
- a connector makes the protocol of each connection by `_factory`, and opens each by `_wrap_create_connection`.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawRequestMessage
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from gateway.aio.tls.transport import TlsTransport
from gateway.errors import without_calls

MAX_LINE: Final = 8190
MAX_HEADERS: Final = 100
MAX_REQUESTS: Final = 32  # that the parser makes of one piece; it keeps the rest
_READ_SIZE: Final = 262_144


class MalformedBody(Exception):
    """How the parser reports a malformed body to the body's reader."""


class Unpaused:
    """The protocol for a body, which may ask it to pause. It need not: a body gets no more than its reader awaits."""

    connected = True
    _reading_paused = False

    def pause_reading(self) -> None:
        """Called by a body that holds half a megabyte."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by a body that was read."""


def new_parser(loop: asyncio.AbstractEventLoop) -> HttpRequestParser:
    """A parser of one client's requests."""
    unpaused: Any = Unpaused()
    return HttpRequestParser(
        unpaused,
        loop,
        _READ_SIZE,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        max_headers=MAX_HEADERS,
        payload_exception=MalformedBody,
        auto_decompress=False,
        max_msg_queue_size=MAX_REQUESTS,
    )


def chunks_of(body: StreamReader) -> int:
    """How many chunks hold the bytes that a body was given and has not delivered yet."""
    splits = None if body is EMPTY_PAYLOAD else body._http_chunk_splits  # noqa: SLF001 -- see the file's head
    return 0 if splits is None else len(splits)


def drop_requests(connection: RequestHandler) -> None:
    """Lets go of what a server's connection has not begun, once it begins nothing more.

    Of input that is no HTTP each piece is a fault there, which is in one of its own calls, and these have the
    connection: a cycle.
    """
    for message, _ in connection._messages:  # noqa: SLF001 -- see the file's head
        if not isinstance(message, RawRequestMessage) and isinstance(message.exc, BaseException):
            without_calls(message.exc)
    connection._messages.clear()  # noqa: SLF001 -- likewise


class OwnTlsConnector(aiohttp.TCPConnector):
    """A connector whose protocols `make` makes; `encrypt` makes TLS beneath one, for a server of that name.

    `untrusted` is told the context that refused a server's certificate.
    """

    def __init__(
        self,
        make: Callable[[], ResponseHandler],
        encrypt: Callable[[ssl.SSLContext, ResponseHandler, str | None], TlsTransport],
        untrusted: Callable[[ssl.SSLContext], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._factory = make  # type: ignore[assignment] # a subclass of the handler that aiohttp's factory makes
        self._encrypt = encrypt
        self._untrusted = untrusted

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """As aiohttp's, but with our TLS transport.

        Raises:
            ClientConnectorSSLError: TLS failed; a refused certificate is one of its reasons.
        """
        context = kwargs.pop("ssl", None)
        name = kwargs.pop("server_hostname", None)
        make, *more = args
        if context is None:
            return await super()._wrap_create_connection(make, *more, **kwargs)
        handler = make()
        tls = self._encrypt(context, handler, name)
        made = [tls]
        try:
            await super()._wrap_create_connection(made.pop, *more, **kwargs)
            await tls.until_open()
        except (ssl.SSLError, UnicodeError) as error:
            why = str(error)
            if self._untrusted is not None and isinstance(error, ssl.SSLCertVerificationError):
                self._untrusted(context)
        except BaseException:
            tls.abort()
            raise
        else:
            return tls, handler
        finally:
            made.clear()
            del tls, handler  # aiohttp keeps an error, in whose traceback this call is, until a garbage collection
        raise aiohttp.ClientConnectorSSLError(kwargs["req"].connection_key, OSError(why))
