"""Looks up the addresses of hosts that the operator or an issuer of tokens names: containers, key sets, `forward_to`.

The loop's own look-ups (uvloop's, that is) run two at a time, for everybody, and can't be cancelled: one name server
that is silent holds one of these places for ten seconds and more, and soon no other host is found either. So look-ups
run on daemon threads here. A host has one at a time, which all who want its addresses await: a host whose name server
is silent takes one thread, however many ask. They go on a few at a time. Nothing is kept: a container that is moved
is found at once.

There is no deadline: who asks has one. A look-up goes on when nobody awaits it any more, and counts until it ends.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Final, NamedTuple

from aiohttp.abc import ResolveResult

from gateway.aio.daemon_threads import DaemonThreads, Workers
from gateway.aio.host_addresses import HostAddress, find_addresses
from gateway.aio.waiters import Waiters

MOST_ADDRESSES: Final = 16
_MOST_THREADS: Final = 32
_KEPT_THREADS: Final = 4
_MOST_ASKED: Final = 256
_Addresses = tuple[HostAddress, ...]
_Fault = OSError | UnicodeError
_AskSystem = Callable[[str], _Addresses]


def look_up(host: str, flags: int = socket.AI_ADDRCONFIG) -> _Addresses:
    """Asks the system for a host's addresses, of which it returns the first 16; blocks.

    By its flags none are of IPv6, not even localhost's, where this machine has only ::1 of that.

    Raises:
        OSError: the host has no address, or the look-up failed.
        UnicodeError: the name is not valid for a look-up.
    """
    return find_addresses(host, MOST_ADDRESSES, flags)


def literal_address(host: str) -> _Addresses | None:
    """A host that is an address itself; None for a name."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return (HostAddress(socket.AF_INET if version == 4 else socket.AF_INET6, host),)  # noqa: PLR2004 -- IPv4


class _Running(NamedTuple):
    """A look-up under way, and all who wait for it."""

    task: "asyncio.Task[_Addresses | _Fault]"
    waiters: Waiters


class HostLookups:
    """Looks up hosts. Belongs to one event loop.

    Args:
        look_up: returns the addresses of a host; called on a thread, and may block.
        most: maximum number of threads. Look-ups for which there is none wait, in order.
    """

    def __init__(self, look_up: _AskSystem = look_up, most: int = _MOST_THREADS) -> None:
        self._look_up = look_up
        self._threads = DaemonThreads(most, Workers(_KEPT_THREADS, "host-lookup"))
        self._running: dict[str, _Running] = {}

    def __repr__(self) -> str:
        return f"<HostLookups running={len(self._running)}>"

    async def __call__(self, host: str) -> _Addresses:
        """Returns the first addresses of a host, at least one; an address is its own.

        Raises:
            OSError: it has none, or can't be looked up.
            UnicodeError: it is no name.
        """
        found: _Addresses | _Fault | None = literal_address(host)
        if found is None:
            running = self._running.get(host) or self._begin(host)
            await running.waiters.wait()  # who gives up does not end what others wait for
            found = running.task.result()
        if not isinstance(found, tuple):
            raise type(found)(*found.args)  # each has one of his own, or its traceback would grow with them
        return found

    def _begin(self, host: str) -> _Running:
        if len(self._running) >= _MOST_ASKED:
            raise socket.gaierror(socket.EAI_AGAIN, "too many hosts are being looked up")
        task = asyncio.get_running_loop().create_task(self._find(host))
        running = self._running[host] = _Running(task, Waiters())
        task.add_done_callback(lambda _: self._running.pop(host).waiters.release())
        return running

    async def _find(self, host: str) -> _Addresses | _Fault:
        try:
            return await self._threads.run(partial(self._answer, host), None)
        except RuntimeError:
            return socket.gaierror(socket.EAI_AGAIN, "no thread is left to look it up")

    def _answer(self, host: str) -> _Addresses | _Fault:
        try:
            return self._look_up(host)
        except (OSError, UnicodeError) as error:
            return error.with_traceback(None)


class LookupsResolver:
    """What aiohttp's connections ask for addresses (its AbstractResolver, by what it has)."""

    def __init__(self, lookups: HostLookups) -> None:
        self._lookups = lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. OSError: it has none."""
        return [
            ResolveResult(hostname=host, host=address, port=port, family=found, proto=0, flags=socket.AI_NUMERICHOST)
            for found, address in await self._lookups(host)
            if family in (socket.AF_UNSPEC, found)
        ]

    async def close(self) -> None:
        """Does nothing."""
