"""The PROXY protocol, versions 1 and 2: pure parsing.

A load balancer that passes TLS through can't write X-Forwarded-For, so it names the client in a header before the
first TLS byte. The reader must not take a byte too many, since the next ones belong to TLS. So it peeks (MSG_PEEK),
and asks how many of the bytes belong to the header.
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from gateway.model.networks import parse_address, unmapped

_FIRST: Final = 12  # no valid header is shorter
_FIXED_V2: Final = 16
_BEGIN_V1: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1: Final = 107
_MAX_V2: Final = 2048
MAX_BYTES: Final = _FIXED_V2 + _MAX_V2
_V1_FIELDS: Final = 6
_VERSION_2: Final = 2
_TCP4, _TCP6 = 0x11, 0x21


class ProxyHeaderError(ValueError):
    """The bytes are not a PROXY protocol header."""


class DeclaredClient(NamedTuple):
    """The client that connected to the proxy."""

    ip: IPv4Address | IPv6Address
    port: int


def header_end(data: bytes) -> int | None:
    """How many of the bytes are the header; None: it is incomplete, and all of the bytes belong to it.

    Raises:
        ProxyHeaderError: the bytes can't be the beginning of a header.
    """
    if data.startswith(_SIGNATURE):
        if len(data) < _FIXED_V2:
            return None
        (length,) = struct.unpack_from("!H", data, _FIXED_V2 - 2)
        if length > _MAX_V2:
            raise ProxyHeaderError("a header of more than 2048 bytes")
        return _FIXED_V2 + length if len(data) >= _FIXED_V2 + length else None
    if not data.startswith(_BEGIN_V1):
        if len(data) < _FIRST and (_SIGNATURE.startswith(data) or _BEGIN_V1.startswith(data)):
            return None
        raise ProxyHeaderError("no PROXY protocol header")
    end = data.find(b"\r\n", 0, _MAX_V1)
    if end < 0 and len(data) >= _MAX_V1:
        raise ProxyHeaderError("a line without an end")
    return None if end < 0 else end + 2


def read_header(header: bytes) -> DeclaredClient | None:
    """Reads a whole header. None: the connection is the proxy's own (LOCAL, UNKNOWN), as for health checks.

    Raises:
        ProxyHeaderError: it is malformed.
    """
    if not header.startswith(_SIGNATURE):
        return parse_v1(header)
    version, family = struct.unpack_from("!BB", header, len(_SIGNATURE))
    return parse_v2(version, family, header[_FIXED_V2:])


def parse_v1(line: bytes) -> DeclaredClient | None:
    """Reads a version 1 line, such as `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, line end included.

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
    return DeclaredClient(source, ports[0])


def parse_v2(version: int, family: int, rest: bytes) -> DeclaredClient | None:
    """Reads the part after the signature: version and command, family and protocol, addresses and TLVs.

    Raises:
        ProxyHeaderError: when it is malformed, or of a kind that can't reach a TLS listener.
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
    return DeclaredClient(unmapped(ip_address(rest[:width])), port)
