"""The headers of a request that goes upstream: strip first, then add. Pure.

What the client says of itself or of this hop was taken out by headers.py, so nothing that is added here can have been
forged. The body is framed anew; no framing header is ever copied.
"""

from typing import Final

from gateway.model import Fields, Kind, Route

_READ: Final = frozenset({Kind.SUBMIT, Kind.RESULT})


def upstream_lines(
    fields: Fields, client_ip: str, key_id: str | None, authority: str, route: Route, origin: str
) -> bytes:
    """The headers that are the same each time: what is kept of the client's, what is ours, and the framing.

    `authority` is the upstream's own host and port. What submits and results are answered is read on its way, so it
    may come in no coding. `origin` is what clients know us by: the upstream may make URLs of it, so never of a Host
    that is no name of ours.
    """
    is_read = route.kind in _READ or route.rewrites
    lines = [b"Host: " + authority.encode("ascii")]
    for name, value in fields.kept:
        if not (is_read and name.lower() == b"accept-encoding"):
            lines.append(name + b": " + value)
    if is_read:
        lines.append(b"Accept-Encoding: identity")
    lines += (
        b"X-Forwarded-For: " + client_ip.encode("ascii"),
        b"X-Forwarded-Proto: https",
        *([b"X-Forwarded-Host: " + origin.partition("://")[2].encode("ascii")] if origin else []),
        b"Via: 1.1 gateway" if fields.http_1_1 else b"Via: 1.0 gateway",
    )
    if key_id is not None:
        lines.append(b"X-Gateway-Key-Id: " + key_id.encode("ascii"))
    length = upstream_body_length(fields, route)
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif fields.content_length is not None:
        lines.append(b"Content-Length: %d" % fields.content_length)
    return b"\r\n".join(lines)


def upstream_body_length(fields: Fields, route: Route) -> int | None:
    """How many bytes the body has upstream; None when it goes in chunks: fields may be taken out of a form."""
    is_inspected = route.kind is Kind.SUBMIT or route.kind.is_of_a_job
    return None if fields.chunked or (is_inspected and fields.has_body) else fields.content_length or 0
