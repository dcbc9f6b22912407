"""Lists of addresses in memory, as the C library answers with."""

import ctypes
import socket
import sys

from gateway.aio.host_addresses import AddrInfo, HostAddress, read_first


class AddressList:
    """The entries of these addresses, of IPv6 with a scope behind a %; `then` is what the last one leads to."""

    def __init__(self, *addresses: str, then: int | None = None) -> None:
        self._held: list[object] = []
        self.place = then
        for address in reversed(addresses):
            self.put_first(*_sockaddr(address))

    def put_first(self, family: int, sockaddr: bytes) -> None:
        """Puts another entry before the others."""
        raw = ctypes.create_string_buffer(sockaddr, len(sockaddr))
        entry = AddrInfo(family=family, addrlen=len(sockaddr), addr=ctypes.addressof(raw), next=self.place)
        self._held += raw, entry
        self.place = ctypes.addressof(entry)

    def find(self, _: str, most: int, __: int = 0) -> tuple[HostAddress, ...]:
        """Stands in for find_addresses."""
        return read_first(self.place, most)


def _sockaddr(address: str) -> tuple[int, bytes]:
    text, _, scope = address.partition("%")
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    head, packed = int(family).to_bytes(2, sys.byteorder) + bytes(2), socket.inet_pton(family, text)
    if family == socket.AF_INET:
        return family, head + packed + bytes(8)
    return family, head + bytes(4) + packed + int(scope or 0).to_bytes(4, sys.byteorder)
