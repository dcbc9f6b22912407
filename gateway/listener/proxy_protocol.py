"""The PROXY protocol, versions 1 and 2: pure parsing, fed by exact reads.

A load balancer that passes TLS through can't write X-Forwarded-For, so it says who connected in a header before the
first TLS byte. Not one byte too many may be read: what follows belongs to TLS. Hence 12 bytes first (no valid header
is shorter), and then what these say.
"""

import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from gateway.model.networks import parse_address, unmapped

_FIRST: Final = 12
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_V1: Final = 107
_LONGEST_V2: Final = 2048
_V1_FIELDS: Final = 6
_VERSION_2: Final = 2
_TCP4, _TCP6 = 0x11, 0x21


class ProxyHeaderError(ValueError):
    """What came is no PROXY protocol header."""


class Origin(NamedTuple):
    """Who connected to the proxy."""

    ip: IPv4Address | IPv6Address
    port: int


async def read_proxy_header(read: Callable[[int], Awaitable[bytes]]) -> Origin | None:
    """Reads one header by `read`, which gives exactly as many bytes as asked for.

    Returns None when the proxy speaks for itself (LOCAL, UNKNOWN), as health checks do.

    Raises:
        ProxyHeaderError: when it is none.
    """
    first = await read(_FIRST)
    if first == _SIGNATURE:
        version, family, length = struct.unpack("!BBH", await read(4))
        if length > _LONGEST_V2:
            raise ProxyHeaderError("a header of more than 2048 bytes")
        return parse_v2(version, family, await read(length))
    if not first.startswith(b"PROXY "):
        raise ProxyHeaderError("no PROXY protocol header")
    line = first
    while not line.endswith(b"\r\n"):
        if len(line) >= _LONGEST_V1:
            raise ProxyHeaderError("a line without an end")
        line += await read(1)
    return parse_v1(line)


def parse_v1(line: bytes) -> Origin | None:
    """Reads `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and its kin, line end included.

    Raises:
        ProxyHeaderError: when it is malformed.
    """
    fields = line[:-2].split(b" ")
    if len(fields) > 1 and fields[1] == b"UNKNOWN":
        return None
    if len(fields) != _V1_FIELDS or fields[1] not in {b"TCP4", b"TCP6"}:
        raise ProxyHeaderError("a malformed line")
    try:
        source, _ = (parse_address(field.decode("ascii")) for field in fields[2:4])
        ports = [int(field) for field in fields[4:] if field.isdigit() and int(field) <= 0xFFFF]  # noqa: PLR2004 -- a port
    except ValueError:
        raise ProxyHeaderError("a malformed address") from None
    if len(ports) != 2:  # noqa: PLR2004 -- the source's and the destination's
        raise ProxyHeaderError("a malformed port")
    if (b":" in fields[2]) != (fields[1] == b"TCP6") or (b":" in fields[3]) != (fields[1] == b"TCP6"):
        raise ProxyHeaderError("an address of the other family")
    return Origin(source, ports[0])


def parse_v2(version: int, family: int, rest: bytes) -> Origin | None:
    """Reads what follows the signature: version and command, family and protocol, addresses and TLVs.

    Raises:
        ProxyHeaderError: when it is malformed or of a kind that a TLS listener can't have.
    """
    if version >> 4 != _VERSION_2 or version & 0xF > 1:
        raise ProxyHeaderError("an unknown version or command")
    if version & 0xF == 0 or family == 0:
        return None
    if family not in {_TCP4, _TCP6}:
        raise ProxyHeaderError("an address family that is not TCP")
    width = 4 if family == _TCP4 else 16
    if len(rest) < 2 * width + 4:
        raise ProxyHeaderError("a truncated address")
    (port,) = struct.unpack_from("!H", rest, 2 * width)
    return Origin(unmapped(ip_address(rest[:width])), port)
