"""Whose process listens on a port of this machine, as Linux tells in /proc/net/tcp and tcp6.

Facts this file rests on:
- A line has the local address as `0100007F:2382` (each four bytes of the address in the machine's order), in its
  fourth column the state (0A: it listens), in its eighth the user id.
- A listener on all addresses takes the connections of one for which there is no other.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS: Final = "0A"
_LOCAL, _STATE, _USER = 1, 3, 7
_GROUP: Final = 4


class _Listener(NamedTuple):
    address: IPv4Address | IPv6Address
    port: int
    user: int


def listening_users(host: str, port: int) -> set[int]:
    """Who listens there; empty where the kernel does not tell, or nobody does."""
    return users_in(tables(), host, port)


def tables() -> str:
    """What the kernel tells of all sockets, if anything."""
    text = ""
    for path in _TABLES:
        with suppress(OSError):
            text += path.read_text(encoding="ascii")
    return text


def users_in(text: str, host: str, port: int) -> set[int]:
    """The user ids of those in a table that a connection to this place may reach."""
    wanted = _plain(ip_address(host))
    return {
        found.user
        for found in _listeners(text)
        if found.port == port and (found.address == wanted or found.address.is_unspecified)
    }


def _listeners(text: str) -> Iterator[_Listener]:
    for line in text.splitlines():
        columns = line.split()
        if len(columns) > _USER and columns[_STATE] == _LISTENS:
            address, _, port = columns[_LOCAL].rpartition(":")
            yield _Listener(_address(bytes.fromhex(address)), int(port, 16), int(columns[_USER]))


def _address(raw: bytes) -> IPv4Address | IPv6Address:
    step = -1 if sys.byteorder == "little" else 1
    return _plain(ip_address(b"".join(raw[i : i + _GROUP][::step] for i in range(0, len(raw), _GROUP))))


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that is written as one of IPv6 is itself."""
    return getattr(address, "ipv4_mapped", None) or address
