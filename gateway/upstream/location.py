"""Where an answer's head leads: the upstream's own addresses in Location and Content-Location, written as ours. Pure.

uvicorn and Starlette make absolute URLs of the Host that we send, with the scheme of our X-Forwarded-Proto. A client
that followed one would go around the gateway, in the clear, and take its key along. So whatever leads to the
upstream's host and port leads to us, with any scheme or none, and whoever it names as its user. All else passes.
"""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.upstream.target import UpstreamTarget

PLACES: Final = frozenset({b"location", b"content-location"})
_DEFAULT_PORTS: Final = frozenset({80, 443})


def public_place(value: bytes, target: UpstreamTarget, origin: str) -> bytes:
    """Writes a URL of the upstream to our origin (empty: without one); gives any other as it is."""
    try:
        parts = urlsplit(value.decode("latin-1").strip(" \t").replace("\\", "/"))
        if not _is_of(parts, target):
            return value
    except ValueError:  # no URL: nobody can follow it
        return value
    rest = parts._replace(scheme="", netloc="", path="/" + parts.path.lstrip("/")).geturl()
    return origin.encode("ascii") + rest.encode("latin-1")


def _is_of(parts: SplitResult, target: UpstreamTarget) -> bool:
    if parts.hostname is None or parts.hostname.rstrip(".") != target.host.lower():
        return False
    return parts.port == target.port or (parts.port is None and target.port in _DEFAULT_PORTS)
