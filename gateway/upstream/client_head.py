"""Writes the head of an upstream's answer for the client: the body is framed anew, no framing header copied. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.http.headers import HOP_BY_HOP
from gateway.model.routes import Kind
from gateway.upstream.location import PLACES, public_place
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

# Headers that an upstream may not set in our name, besides the hop-by-hop and framing headers.
_NOT_PASSED: Final = HOP_BY_HOP | {b"content-length", b"x-request-id", b"x-gateway-reason"}
_PHRASES: Final = {
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 304: b"Not Modified", 400: b"Bad Request",
    401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 409: b"Conflict",
    413: b"Content Too Large", 422: b"Unprocessable Content", 423: b"Locked", 429: b"Too Many Requests",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip


class BodyFraming(NamedTuple):
    """How the answer's body ends for the client: by `length`, by chunks, or, if neither, by closing."""

    length: int | None
    chunked: bool
    closes: bool


def client_head(
    answer: ResponseHead, framing: BodyFraming, request_id: bytes, kind: Kind, date: Callable[[], bytes]
) -> bytes:
    """The head of an upstream's answer for the client. `date` is called only if the upstream sent no Date."""
    parts = answer.client_heads.get(kind.is_of_a_job)
    if parts is None or parts[0] != framing:
        parts = _keep_parts(answer, framing, kind)
    if answer.has_date:
        return b"%b%b%b" % (parts[1], request_id, parts[2])
    return b"%b%b\r\nDate: %b%b" % (parts[1], request_id, date(), parts[2])


def _keep_parts(answer: ResponseHead, framing: BodyFraming, kind: Kind) -> tuple[BodyFraming, bytes, bytes]:
    """What comes before the request's id, and after it; only for the last framing, of which there may be many."""
    kept = answer.client_heads.get(kind.is_of_a_job)
    before = _before_id(answer, kind) if kept is None else kept[1]
    parts = answer.client_heads[kind.is_of_a_job] = framing, before, _after_id(framing)
    return parts


def with_public_location(answer: ResponseHead, target: UpstreamTarget, origin: str) -> ResponseHead:
    """A copy of the head in which addresses of the upstream lead to our origin. Its cache starts empty."""
    headers = [
        (name, public_place(value, target, origin) if name in PLACES else value) for name, value in answer.headers
    ]
    return replace(answer, headers=headers, client_heads={})


def _before_id(answer: ResponseHead, kind: Kind) -> bytes:
    return _client_lines(answer, is_result=kind.is_of_a_job) + b"\r\nX-Request-Id: "


def _after_id(framing: BodyFraming) -> bytes:
    if framing.chunked:
        end = b"\r\nTransfer-Encoding: chunked"
    else:
        end = b"" if framing.length is None else b"\r\nContent-Length: %d" % framing.length
    return end + (b"\r\nConnection: close\r\n\r\n" if framing.closes else b"\r\n\r\n")


def _client_lines(answer: ResponseHead, *, is_result: bool) -> bytes:
    """The status line and the headers passed on: the same for every answer with this head."""
    connection = b",".join(value for name, value in answer.headers if name == b"connection")
    named = {token.strip().lower() for token in connection.split(b",")}
    lines = [b"HTTP/1.1 %d %b" % (answer.status, answer.phrase or _PHRASES.get(answer.status, b""))]
    for name, value in answer.headers:
        if name not in _NOT_PASSED and name not in named and not (is_result and name == b"cache-control"):
            lines.append(name + b": " + value)
    if is_result:
        lines.append(b"Cache-Control: no-store")
    return b"\r\n".join(lines)
