"""Rewrites the upstream's own addresses in Location and Content-Location to our origin. Pure.

uvicorn and Starlette make absolute URLs from the Host that we send and the scheme of our X-Forwarded-Proto. A client
that followed one would bypass the gateway, unencrypted, and send its key along. So any URL of the upstream's host and
port is rewritten to ours, with any scheme or none, and any userinfo. All other values pass unchanged.

urlsplit normalizes (NFKC) an authority that is not ASCII, which takes 0.4 microseconds a byte. So it gets none.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.upstream.target import UpstreamTarget

PLACES: Final = frozenset({b"location", b"content-location"})
_DEFAULT_PORTS: Final = frozenset({80, 443})
_AUTHORITY: Final = re.compile("[^/?#]*")


def public_place(value: bytes, target: UpstreamTarget, origin: str) -> bytes:
    """Rewrites a URL of the upstream to our origin (to a path alone if it is empty); returns others unchanged."""
    text = _without_userinfo(value.decode("latin-1").replace("\t", "").strip(" ").replace("\\", "/"))
    if text is None:
        return value
    try:
        parts = urlsplit(text)
        if not _is_of(parts, target):
            return value
    except ValueError:  # not a URL: no client can follow it
        return value
    rest = parts._replace(scheme="", netloc="", path="/" + parts.path.lstrip("/")).geturl()
    return origin.encode("ascii") + rest.encode("latin-1")


def _without_userinfo(text: str) -> str | None:
    """A URL without its userinfo; None if its host is not ASCII, as the upstream's always is.

    Of a path with `//` in it a part may be lost: it has no host.
    """
    before, slashes, after = text.partition("//")
    found = _AUTHORITY.match(after)
    end = found.end() if found else 0
    host = after[:end].rpartition("@")[2]
    return before + slashes + host + after[end:] if host.isascii() else None


def _is_of(parts: SplitResult, target: UpstreamTarget) -> bool:
    if parts.hostname is None or parts.hostname.rstrip(".") != target.host.lower():
        return False
    return parts.port == target.port or (parts.port is None and target.port in _DEFAULT_PORTS)
