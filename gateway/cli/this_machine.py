"""Which addresses are this machine's."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.model.networks import parse_address

_TABLES: Final = Path("/proc/net")


def local_addresses(tables: Path = _TABLES) -> list[str]:
    """This machine's addresses that other machines could reach, from the kernel's tables (Linux)."""
    found = {parse_address(text) for text in (*_local_ipv4(tables), *_local_ipv6(tables))}
    return sorted(str(address) for address in found if not address.is_loopback and not address.is_link_local)


def _local_ipv4(tables: Path) -> Iterator[str]:
    lines = _lines(tables / "fib_trie")
    for before, line in pairwise(lines):
        if "/32 host LOCAL" in line and "|-- " in before:
            yield before.rpartition("|-- ")[2].strip()


def _local_ipv6(tables: Path) -> Iterator[str]:
    for line in _lines(tables / "if_inet6"):
        yield str(ip_address(bytes.fromhex(line.split()[0])))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def is_this_machine(host: str) -> bool:
    """Whether a host is reached without a network."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(parse_address(str(address).partition("%")[0]).is_loopback for address in addresses)
