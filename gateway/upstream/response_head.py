"""Checks the head of an upstream's answer as hostile input: pure.

Facts this file rests on:
- RFC 9112 6.3: 1xx, 204, 304 and answers to HEAD have no body, whatever their headers say. An upstream that sends one
  all the same would put it before its next answer, and the bytes may come later than the head: such an answer is the
  last one of its connection.
- RFC 9112 6.3: Transfer-Encoding beside Content-Length, or any coding but chunked, is an attack or a bug: the bytes
  after it would be misread.
- An answer without either lasts until the connection closes; a complete one and a broken one then look alike.
- httptools (llhttp, strict) has already refused control bytes in names and values.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import UpstreamBrokeOff
from gateway.http.headers import CONTENT_LENGTH, MAX_CONNECTION
from gateway.upstream.location import PLACES

_MAX_HEADERS: Final = 200
_PHRASE: Final = re.compile(rb"[\x20-\x7e]{0,200}\Z")
FIRST_FINAL: Final = 200
_PAST_LAST: Final = 600
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status, phrase, headers (names in lower case), and how the body ends.

    `length` is the body's size in bytes; None when it is chunked or lasts until the connection closes. `stated` is
    the Content-Length as sent: answers to HEAD and 304 state the size of a body that they do not have.
    `has_location`: a Location or Content-Location. `client_heads` caches what client_head.py makes of it, since polls
    get the same head again and again; it has two entries at most, for answers about a job and for others.
    """

    status: int
    phrase: bytes
    headers: list[tuple[bytes, bytes]]
    length: int | None
    stated: int | None
    chunked: bool
    reusable: bool
    has_date: bool
    has_location: bool
    client_heads: dict[bool, tuple[Any, bytes, bytes]] = field(default_factory=dict)


def read_answer_head(
    status: int, phrase: bytes, headers: list[tuple[bytes, bytes]], *, http_1_1: bool, bodiless: bool
) -> ResponseHead:
    """Checks a final answer's head. `bodiless`: the request was a HEAD. Header names are in lower case.

    Raises:
        UpstreamBrokeOff: when it is not HTTP that we accept.
    """
    if not FIRST_FINAL <= status < _PAST_LAST or len(headers) > _MAX_HEADERS:
        raise UpstreamBrokeOff("The upstream's answer has no usable head.", arrived=True)
    length, chunked = _framing(headers, http_1_1)
    stated = None if status == _NO_CONTENT else length
    is_last = bodiless or status in {_NO_CONTENT, _NOT_MODIFIED}
    if is_last:
        length, chunked = 0, False
    connection = [value.lower() for name, value in headers if name == b"connection"]
    if sum(map(len, connection)) > MAX_CONNECTION:
        raise UpstreamBrokeOff("The upstream's answer has too long a Connection header.", arrived=True)
    keeps = http_1_1 and not any(b"close" in value for value in connection)
    return ResponseHead(
        status=status,
        phrase=phrase if _PHRASE.match(phrase) else b"",
        headers=headers,
        length=length,
        stated=stated,
        chunked=chunked,
        reusable=keeps and not is_last and (chunked or length is not None),
        has_date=any(name == b"date" for name, _ in headers) and not any(b"date" in value for value in connection),
        has_location=any(name in PLACES for name, _ in headers),
    )


def _framing(headers: list[tuple[bytes, bytes]], http_1_1: bool) -> tuple[int | None, bool]:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"] or not http_1_1:
            raise UpstreamBrokeOff("The upstream's answer is framed in two ways or in none we know.", arrived=True)
        return None, True
    if not lengths:
        return None, False
    if len(lengths) != 1 or not CONTENT_LENGTH.match(lengths[0]):
        raise UpstreamBrokeOff("The upstream's answer has no usable Content-Length.", arrived=True)
    return int(lengths[0]), False
