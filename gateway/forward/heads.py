"""The heads that we write: what goes upstream and what goes back to the client. Pure.

Strip first, then add: what the client says of itself or of this hop was taken out by headers.py, so nothing that is
added here can be forged. Bodies are framed anew on both sides; no framing header is ever copied.
"""

from typing import Final, NamedTuple

from gateway.forward.answer import AnswerHead
from gateway.headers import HOP_BY_HOP
from gateway.model import Head, Kind, Permit, Trace

# What an upstream may not say in our name, beside what is for one hop alone and the framing.
_NOT_PASSED: Final = HOP_BY_HOP | {b"content-length", b"x-request-id", b"x-gateway-reason"}
_PHRASES: Final = {
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 304: b"Not Modified", 400: b"Bad Request",
    401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 409: b"Conflict",
    413: b"Content Too Large", 422: b"Unprocessable Content", 423: b"Locked", 429: b"Too Many Requests",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip


def upstream_head(head: Head, permit: Permit, authority: str, trace: Trace) -> bytes:
    """The head of the request as the upstream gets it. `authority` is the upstream's own host and port."""
    lines = [f"{head.method} {permit.path}{head.query} HTTP/1.1\r\nHost: {authority}".encode("ascii")]
    if permit.route.kind is Kind.SUBMIT:  # the answer is read on its way, so it may come in no coding
        lines.append(b"\r\nAccept-Encoding: identity")
        kept = [pair for pair in head.kept if pair[0].lower() != b"accept-encoding"]
    else:
        kept = head.kept
    for name, value in kept:
        lines += (b"\r\n", name, b": ", value)
    lines.append(
        b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %b\r\nVia: %b gateway"
        b"\r\nX-Request-Id: %b\r\ntraceparent: %b"
        % (
            str(permit.client.ip).encode("ascii"),
            head.host.encode("ascii"),
            b"1.1" if head.http_1_1 else b"1.0",
            trace.request_id,
            trace.traceparent,
        )
    )
    if trace.tracestate is not None:
        lines += (b"\r\ntracestate: ", trace.tracestate)
    if permit.identity is not None:
        lines += (b"\r\nX-Gateway-Key-Id: ", permit.identity.key_id.encode("ascii"))
    if head.chunked:
        lines.append(b"\r\nTransfer-Encoding: chunked")
    elif head.content_length is not None:
        lines.append(b"\r\nContent-Length: %d" % head.content_length)
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


class Framing(NamedTuple):
    """How the answer's body ends for the client: by `length`, by chunks, or (neither) by closing."""

    length: int | None
    chunked: bool
    closes: bool


def client_head(answer: AnswerHead, framing: Framing, request_id: bytes, kind: Kind, date: bytes) -> bytes:
    """The head of an upstream's answer as the client gets it. `date` is used when the upstream sent none."""
    named = {
        token.strip().lower()
        for name, value in answer.headers
        if name == b"connection"
        for token in value.split(b",")
    }
    phrase = answer.phrase or _PHRASES.get(answer.status, b"")
    lines = [b"HTTP/1.1 %d %b" % (answer.status, phrase)]
    has_date = False
    for name, value in answer.headers:
        if name in _NOT_PASSED or name in named or (kind is Kind.RESULT and name == b"cache-control"):
            continue
        has_date = has_date or name == b"date"
        lines += (b"\r\n", name, b": ", value)
    if not has_date:
        lines += (b"\r\ndate: ", date)
    lines += (b"\r\nX-Request-Id: ", request_id)
    if kind is Kind.RESULT:
        lines.append(b"\r\nCache-Control: no-store")
    if framing.chunked:
        lines.append(b"\r\nTransfer-Encoding: chunked")
    elif framing.length is not None:
        lines.append(b"\r\nContent-Length: %d" % framing.length)
    if framing.closes:
        lines.append(b"\r\nConnection: close")
    lines.append(b"\r\n\r\n")
    return b"".join(lines)
