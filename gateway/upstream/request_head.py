"""Writes the heads of requests that go upstream. Pure.

Strip first, then add: headers.py has removed all that the client claims about itself or this hop, so headers added
here can't be forged. The body is framed anew; no framing header is ever copied.
"""

from typing import Final

from gateway.model.request import Headers, Trace
from gateway.model.routes import Kind, Route

VIA: Final = b"Via: 1.1 gateway"
_READ: Final = frozenset({Kind.SUBMIT, Kind.RESULT})


def upstream_head(opening: bytes, trace: Trace) -> bytes:
    """The head of an upstream request; `opening` is the request line and the headers, except those of the trace."""
    state = b"" if trace.tracestate is None else b"\r\ntracestate: " + trace.tracestate
    return b"%b\r\nX-Request-Id: %b\r\ntraceparent: %b%b\r\n\r\n" % (
        opening,
        trace.request_id,
        trace.traceparent,
        state,
    )


def upstream_lines(
    headers: Headers, client_ip: str, key_id: str | None, authority: str, route: Route, origin: str
) -> bytes:
    """The headers that are the same each time: those kept from the client, our own, and the framing.

    `authority` is the upstream's own host and port. The gateway reads the answers to submits and results as they
    pass, so it asks for no content coding. `origin` is our public origin: the upstream may make URLs of it, so it
    must never be a Host that is not one of our names.
    """
    lines = [b"Host: " + authority.encode("ascii")]
    lines += [name + b": " + value for name, value in passed_on(headers, route)]
    if _is_read(route):
        lines.append(b"Accept-Encoding: identity")
    lines += (
        b"X-Forwarded-For: " + client_ip.encode("ascii"),
        b"X-Forwarded-Proto: https",
        *([b"X-Forwarded-Host: " + origin.partition("://")[2].encode("ascii")] if origin else []),
        VIA if headers.http_1_1 else b"Via: 1.0 gateway",
    )
    if key_id is not None:
        lines.append(b"X-Gateway-Key-Id: " + key_id.encode("ascii"))
    length = upstream_body_length(headers, route)
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif headers.content_length is not None:
        lines.append(b"Content-Length: %d" % headers.content_length)
    return b"\r\n".join(lines)


def passed_on(headers: Headers, route: Route) -> list[tuple[bytes, bytes]]:
    """The client's headers that go upstream."""
    if not _is_read(route):
        return headers.kept
    return [(name, value) for name, value in headers.kept if name.lower() != b"accept-encoding"]


def _is_read(route: Route) -> bool:
    return route.kind in _READ or route.rewrites


def upstream_body_length(headers: Headers, route: Route) -> int | None:
    """The body's size upstream; None when it goes in chunks, since fields may be removed from a form."""
    is_inspected = route.kind.is_about_jobs and headers.has_body
    return None if headers.chunked or is_inspected else headers.content_length or 0
