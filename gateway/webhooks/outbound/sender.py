"""One attempt to deliver a webhook.

Until it has answered, the receiver is hostile: it may be silent, send without an end or byte by byte, or redirect
elsewhere. The whole attempt has one deadline, only the status and Retry-After are kept of what the receiver sends,
and it costs others only one of dispatcher.py's slots. The connection goes to the addresses that were checked,
whatever the name resolves to by then (SSRF); the certificate is verified against the name.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.aio.bounded_connector import USER_AGENT, BoundedConnector, bounded_context, make_session
from gateway.aio.iteration import Iteration
from gateway.aio.named_files import require_named
from gateway.aio.tls.buffers import TlsBuffers
from gateway.errors import ConfigurationError, Fault, FileUnusable
from gateway.webhooks.egress.destination import Address, Destination
from gateway.webhooks.outbound.outcome import DeliveryAttempt, Result, Trouble, judge

_MAX_READ: Final = 4096
READ_SECONDS: Final = 1.0
_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class _Checked(AbstractResolver):
    """Returns the checked addresses for any name."""

    def __init__(self, addresses: tuple[Address, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,  # noqa: PLR2004 -- IPv4
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Does nothing."""


class Link(NamedTuple):
    """What all connections share: the SSL context for receivers' certificates, the loop's iteration, and buffers."""

    context: ssl.SSLContext
    iteration: Iteration
    buffers: TlsBuffers


def make_context(ca: Path | None) -> ssl.SSLContext:
    """Builds the SSL context for receivers' certificates: the system's CAs and those of a file. Reads files.

    Raises:
        ConfigurationError: the file can't be read, or holds no certificate.
    """
    context = bounded_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca is not None:
        _trust(context, ca)
    return context


def require_ca(ca: Path) -> None:
    """Reads such a file as `make_context` does, without the system's CAs.

    Raises:
        ConfigurationError: the file can't be read, or holds no certificate.
    """
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca)


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        require_named(ca)
        context.load_verify_locations(ca)
    except (FileUnusable, OSError, ssl.SSLError):  # SSLError is an OSError, whose text is of no use
        fault = Fault("webhooks.out.ca", f"{ca} can't be read, or holds no PEM certificate")
        raise ConfigurationError([fault]) from None


async def send(
    destination: Destination, link: Link, headers: Mapping[str, str], body: bytes, deadline: float
) -> DeliveryAttempt:
    """Sends a webhook once: at most `deadline` seconds until the answer's head, and one more for the rest.

    Returns an attempt whatever the receiver does.
    """
    try:
        return await _exchange(destination, link, headers, body, deadline)
    except TimeoutError:
        return DeliveryAttempt(Result.RETRIED, None, Trouble.TIMEOUT)
    except (aiohttp.ClientSSLError, ssl.SSLError):
        return DeliveryAttempt(Result.RETRIED, None, Trouble.TLS)
    except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, ValueError):  # ValueError: what resembles HTTP
        return DeliveryAttempt(Result.RETRIED, None, Trouble.PROTOCOL)
    except (aiohttp.ClientError, OSError):
        return DeliveryAttempt(Result.RETRIED, None, Trouble.CONNECTION)


async def _exchange(
    destination: Destination, link: Link, headers: Mapping[str, str], body: bytes, deadline: float
) -> DeliveryAttempt:
    url = URL(destination.target.url, encoded=True)
    async with _session(destination, link) as session:
        async with asyncio.timeout(deadline):
            response = await session.post(url, data=body, headers={**_HEADERS, **headers}, allow_redirects=False)
        try:
            await _take_leave(response)
            return judge(response.status, response.headers.get("Retry-After"))
        finally:
            response.close()


def _session(destination: Destination, link: Link) -> aiohttp.ClientSession:
    # One session per attempt: receivers never share a connection or a cookie.
    connector = BoundedConnector(
        link.iteration,
        destination.target.url,
        buffers=link.buffers,
        resolver=_Checked(destination.addresses),
        use_dns_cache=False,
        force_close=True,
        ssl=link.context,
    )
    return make_session(connector)


async def _take_leave(response: aiohttp.ClientResponse) -> None:
    """Reads a little of the answer's body, so that a well-behaved receiver sees no connection reset."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(READ_SECONDS):
            left = _MAX_READ
            while left > 0 and (piece := await response.content.read(left)):
                left -= len(piece)


def body_of(request_id: str, check_url: str | None, status: str) -> bytes:
    """The body in Datalab's format, plus the status: complete or failed. It contains no result."""
    members = {"request_id": request_id, "request_check_url": check_url, "status": status}
    return json.dumps(members, separators=(",", ":")).encode()
