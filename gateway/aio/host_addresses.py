"""Asks the system for a host's addresses. Python's lock is free while the system works, and few of them are read.

Whoever answers for a name chooses how many addresses it has: 6,410 fit into answers over TCP. `socket.getaddrinfo`
makes Python's objects of all of them under Python's lock, and the loop stood still for up to half a second where many
threads did so. So the C library is called here: ctypes gives the lock up meanwhile, also while the list is freed, and
of the list only its beginning is read.

Threads that call it have the loop's priority. A lower one was worse: for an instant each needs Python's lock, and the
loop then waits for a thread that waits for a processor, three times as long where processors are busy (measured).
"""

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

_PORT: Final = None  # says nothing of a host


class HostAddress(NamedTuple):
    """An address of a host, and its family (AF_INET or AF_INET6)."""

    family: int
    address: str


class AddrInfo(ctypes.Structure):
    """One entry of the list that the C library answers with: its `struct addrinfo`, as on Linux (glibc, musl)."""

    _fields_ = (
        ("flags", ctypes.c_int),
        ("family", ctypes.c_int),
        ("socktype", ctypes.c_int),
        ("protocol", ctypes.c_int),
        ("addrlen", ctypes.c_uint32),
        ("addr", ctypes.c_void_p),
        ("canonname", ctypes.c_void_p),
        ("next", ctypes.c_void_p),
    )


def find_addresses(host: str, most: int, flags: int = 0) -> tuple[HostAddress, ...]:
    """Returns the first addresses of a host, `most` of them at the most, in the system's order; blocks.

    An address that holds on one network interface alone names that, as in `fe80::1%2`.

    Raises:
        OSError: it has no address, or the look-up failed; a socket.gaierror, if the system says why.
        UnicodeError: the name is not valid for a look-up.
    """
    name = host.encode("idna")
    if b"\0" in name:
        raise UnicodeError("the name of a host holds a NUL")  # where C would end it
    library = c_library() if sys.platform == "linux" else None
    return _by_python(name, most, flags) if library is None else _by_c(library, name, most, flags)


@cache
def c_library() -> ctypes.CDLL | None:
    """What is called of the C library; None, where it can't be called."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        entry, place = ctypes.POINTER(AddrInfo), ctypes.POINTER(ctypes.c_void_p)
        library.getaddrinfo.argtypes = (ctypes.c_char_p, ctypes.c_char_p, entry, place)
        library.freeaddrinfo.argtypes = (ctypes.c_void_p,)
        library.freeaddrinfo.restype = None
        library.gai_strerror.restype = ctypes.c_char_p
    except (OSError, AttributeError):  # all is linked statically
        return None
    return library


def _by_c(library: ctypes.CDLL, name: bytes, most: int, flags: int) -> tuple[HostAddress, ...]:
    hints, first = AddrInfo(flags=flags, socktype=socket.SOCK_STREAM), ctypes.c_void_p()
    code = library.getaddrinfo(name, _PORT, ctypes.byref(hints), ctypes.byref(first))
    if code:
        raise _fault(library, code)
    try:
        return read_first(first.value, most)
    finally:
        library.freeaddrinfo(first)


def _fault(library: ctypes.CDLL, code: int) -> OSError:
    if code == socket.EAI_SYSTEM:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number))
    return socket.gaierror(code, library.gai_strerror(code).decode(errors="replace"))


def read_first(place: int | None, most: int) -> tuple[HostAddress, ...]:
    """Returns the addresses in the first `most` entries of a list that begins at a place in memory."""
    return tuple(address for entry in islice(_entries(place), most) if (address := _address_in(entry)) is not None)


def _entries(place: int | None) -> Iterator[AddrInfo]:
    while place:
        entry = AddrInfo.from_address(place)
        yield entry
        place = entry.next


def _address_in(entry: AddrInfo) -> HostAddress | None:
    raw = ctypes.string_at(entry.addr, entry.addrlen)  # a struct sockaddr_in or sockaddr_in6
    if entry.family == socket.AF_INET:
        return HostAddress(socket.AF_INET, socket.inet_ntop(socket.AF_INET, raw[4:8]))
    if entry.family == socket.AF_INET6:
        address, scope = socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[24:28], sys.byteorder)
        return HostAddress(socket.AF_INET6, _with_scope(address, scope))
    return None


def _by_python(name: bytes, most: int, flags: int) -> tuple[HostAddress, ...]:
    """The same on other systems, whose structures differ."""
    found = socket.getaddrinfo(name, _PORT, type=socket.SOCK_STREAM, flags=flags)[:most]
    return tuple(HostAddress(family, _with_scope(*address[:1], *address[3:])) for family, *_, address in found)


def _with_scope(address: str | int, scope: str | int = 0) -> str:
    return f"{address}%{scope}" if scope else f"{address}"
