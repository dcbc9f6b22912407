"""Maps errors of aiohttp's parser in a head or a body to our own answers.

An answer never contains the client's input: aiohttp's errors quote it, so only their first words are read.
"""

from typing import Final

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway.errors import Refused, refuse
from gateway.model.reasons import Reason

_END: Final = b"\r\n\r\n"


def ends_in_http_1_0(head: bytes) -> bool:
    """Whether a head's first line says HTTP/1.0: llhttp reports RTSP/1.0 and ICE/1.0 as 1.0, too.

    A pipelined 1.0 request that came in one piece with its predecessor has no head here, and is refused, too.
    """
    return head.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r").endswith(b" HTTP/1.0")


def parser_fault(error: BaseException) -> Refused:
    """The answer to an error of aiohttp's parser; it contains nothing of the input."""
    text = error.message if isinstance(error, HttpProcessingError) else ""
    what = text.partition("\n\n")[0]  # the rest is the input itself
    if isinstance(error, LineTooLong) or what.startswith("Too many headers"):
        return refuse(Reason.HEADERS_TOO_LARGE, "A line of the request's head is too long, or there are too many.")
    if "HTTP version" in what:
        return refuse(Reason.VERSION_NOT_SUPPORTED, "This server speaks HTTP/1.1 and HTTP/1.0.")
    if "Content-Length" in what or "Transfer-Encoding" in what:
        return refuse(Reason.BAD_REQUEST, "The request's framing is not one Content-Length, or chunked alone.")
    if "'Host'" in what:
        return refuse(Reason.BAD_REQUEST, "A request needs exactly one valid Host header.")
    return refuse(Reason.BAD_REQUEST, "The request is not valid HTTP/1.1.")


def is_whole_head(data: bytes, message: RawRequestMessage) -> bool:
    """Whether a message was parsed from exactly these bytes, so that the same bytes will mean the same again.

    The parser may have received the beginning of a head earlier: then the request line differs, or the message has
    more headers than there are lines here.
    """
    line = f"{message.method} {message.path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    lines = len(message.raw_headers) + 2
    return data.startswith(line) and data.find(_END) == len(data) - len(_END) and data.count(b"\r\n") == lines


def head_too_slow() -> Refused:
    """The refusal of a head that did not arrive in time."""
    return refuse(Reason.HEAD_TOO_SLOW, "The request's head did not arrive in time (listen.head_timeout).")


def body_too_slow() -> Refused:
    """The refusal of a body that arrived too slowly, or not at all."""
    return refuse(
        Reason.BODY_TOO_SLOW,
        "The request's body came too slowly (listen.body_idle_timeout, listen.body_min_rate).",
    )
