"""Looks up the addresses of hosts that webhooks go to, with a deadline and bounded concurrency.

The system's resolver (getaddrinfo) has no deadline and can't be cancelled: it may block its thread for a minute. So
each lookup has its own daemon thread, which even the end of the process does not wait for, and the number of threads
is bounded. Concurrent requests for one host share one lookup. It counts for the owner that began it, and an owner
gets only a share of the threads, so slow names delay only the owner that uses them.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Thread
from typing import Final

from gateway.errors import GatewayError

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], list[str]]
_DEADLINE: Final = 5.0  # seconds
_MAX_THREADS: Final = 16
_SHARE: Final = 4
_MAX_ADDRESSES: Final = 32
_Resolved = tuple[Address, ...]


class NotFound(GatewayError):
    """The host has no address; the message is in our own words."""


class NoAnswer(NotFound):
    """The system has no address now, but can't say that none exists: name servers are down, or fail."""


class Undecided(GatewayError):
    """Nothing is known of a host yet, neither good nor bad."""


class Saturated(Undecided):
    """The host was not looked up: too many lookups are running, in total or for one owner."""


class LookupLate(Undecided):
    """The lookup takes too long."""


def look_up(host: str, port: int) -> list[str]:
    """Asks the system for a host's addresses; blocks.

    Raises:
        OSError: the host has no address, or the lookup failed.
        UnicodeError: the name is not valid for a lookup.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Looks up hosts. May run in a Drive (gateway/aio/drive.py), since it awaits only futures.

    Args:
        look_up: returns the addresses of host and port; called on a thread, and may block.
        deadline: seconds.
        most: maximum number of threads, of which one owner gets at most a quarter.
    """

    def __init__(self, look_up: Lookup = look_up, deadline: float = _DEADLINE, most: int = _MAX_THREADS) -> None:
        self._look_up = look_up
        self._deadline = deadline
        self._most = most
        self._share = max(1, most // _SHARE)
        self._running: dict[tuple[str, int], asyncio.Future[_Resolved]] = {}
        self._by_owner: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Resolver running={len(self._running)} owners={len(self._by_owner)}>"

    async def __call__(self, owner: str, host: str, port: int) -> _Resolved:
        """Returns all addresses of a host, for an owner.

        Raises:
            NotFound: it has no address.
            NoAnswer: the lookup fails now.
            LookupLate: it took too long.
            Saturated: too many lookups are running.
        """
        running = self._running.get((host, port))
        if running is None:
            if len(self._running) >= self._most or self._by_owner[owner] >= self._share:
                raise Saturated("too many look-ups are under way")
            running = self._begin(owner, host, port)
        await asyncio.wait([running], timeout=self._deadline)
        if not running.done():
            raise LookupLate("its look-up takes too long")
        return running.result()

    def _begin(self, owner: str, host: str, port: int) -> "asyncio.Future[_Resolved]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Resolved] = loop.create_future()
        self._running[host, port] = future
        self._by_owner[owner] += 1

        def work() -> None:
            found = self._addresses(host, port)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(partial(self._ended, owner, (host, port), found))

        try:
            Thread(target=work, name="webhook-lookup", daemon=True).start()
        except RuntimeError:  # no more threads can be started now
            self._ended(owner, (host, port), NoAnswer("it can't be looked up just now"))
        return future

    def _addresses(self, host: str, port: int) -> _Resolved | NotFound:
        try:
            found = tuple(dict.fromkeys(map(ip_address, self._look_up(host, port))))
        except (OSError, ValueError) as error:  # ValueError: UnicodeError, too
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                return NoAnswer("nobody can tell its address just now")
            found = ()
        return found if 0 < len(found) <= _MAX_ADDRESSES else NotFound("it has no address that is known here")

    def _ended(self, owner: str, place: tuple[str, int], found: _Resolved | NotFound) -> None:
        future = self._running.pop(place)
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        if isinstance(found, NotFound):
            future.set_exception(found)
            future.exception()  # marks its error as seen when no one waits any more
        else:
            future.set_result(found)
