"""Rewrites the upstream's own addresses in Location and Content-Location to our origin. Pure.

uvicorn and Starlette make absolute URLs from the Host that we send and the scheme of our X-Forwarded-Proto. A client
that followed one would bypass the gateway, unencrypted, and send its key along. So any URL of the upstream's host and
port is rewritten to ours, with any scheme or none, and any userinfo. All other values pass unchanged.
"""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.upstream.target import UpstreamTarget

PLACES: Final = frozenset({b"location", b"content-location"})
_DEFAULT_PORTS: Final = frozenset({80, 443})


def public_place(value: bytes, target: UpstreamTarget, origin: str) -> bytes:
    """Rewrites a URL of the upstream to our origin (to a path alone if it is empty); returns others unchanged."""
    try:
        parts = urlsplit(value.decode("latin-1").strip(" \t").replace("\\", "/"))
        if not _is_of(parts, target):
            return value
    except ValueError:  # not a URL: no client can follow it
        return value
    rest = parts._replace(scheme="", netloc="", path="/" + parts.path.lstrip("/")).geturl()
    return origin.encode("ascii") + rest.encode("latin-1")


def _is_of(parts: SplitResult, target: UpstreamTarget) -> bool:
    if parts.hostname is None or parts.hostname.rstrip(".") != target.host.lower():
        return False
    return parts.port == target.port or (parts.port is None and target.port in _DEFAULT_PORTS)
