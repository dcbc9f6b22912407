"""Looks up the addresses of hosts that webhooks go to (against SSRF), with a deadline and bounded concurrency.

The system's resolver (getaddrinfo) has no deadline and can't be cancelled: it may block its thread for a minute. So
each lookup has a daemon thread to itself, which even the end of the process does not wait for, and the number of
threads is bounded. An owner gets only a share of the threads, so slow names delay only the owner that uses them.
Lookups for which there is no thread wait for one, in the order in which they came: most take milliseconds. Concurrent
requests for one host share one lookup. It begins as soon as one owner that waits for it has room, and counts for that
one: so an owner that has none left keeps no others waiting by asking first for what they need.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.aio.daemon_threads import Worker, Workers
from gateway.aio.host_addresses import find_addresses
from gateway.errors import GatewayError

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], list[str]]
_DEADLINE: Final = 5.0  # seconds
_MAX_THREADS: Final = 16
_SHARE: Final = 4
MAX_WAITING: Final = 64
MAX_ALL_WAITING: Final = 1024
_MAX_ADDRESSES: Final = 32
_Place = tuple[str, int]
_Resolved = tuple[Address, ...]


class NotFound(GatewayError):
    """The host has no address; the message is in our own words."""


class NoAnswer(NotFound):
    """The system has no address now, but can't say that none exists: name servers are down, or fail."""


class Undecided(GatewayError):
    """Nothing is known of a host yet, neither good nor bad."""


class Saturated(Undecided):
    """The host was not looked up within the deadline: too many lookups are running, in total or for one owner."""


class LookupLate(Undecided):
    """The lookup takes too long."""


def look_up(host: str, _: int) -> list[str]:
    """Asks the system for a host's addresses, of which it returns one more than may be used; blocks.

    Raises:
        OSError: the host has no address, or the lookup failed.
        UnicodeError: the name is not valid for a lookup.
    """
    return [found.address.partition("%")[0] for found in find_addresses(host, _MAX_ADDRESSES + 1)]


class _Asked:
    """A lookup that was asked for: owners that wait for a thread for it, and how long, by the loop's clock.

    It counts for `owner` once it has one.
    """

    __slots__ = ("found", "owner", "waits")

    def __init__(self, found: "asyncio.Future[_Resolved]") -> None:
        self.waits: dict[str, float] = {}
        self.owner = ""
        self.found = found


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
        self._workers = Workers(self._share, "webhook-lookup")
        self._asked: dict[_Place, _Asked] = {}
        self._waiting: dict[_Place, None] = {}  # of these, those without a thread, in order
        self._running: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()  # of each owner, those that wait without a thread

    def __repr__(self) -> str:
        return f"<Resolver running={self._running.total()} waiting={len(self._waiting)} owners={len(self._running)}>"

    async def __call__(self, owner: str, host: str, port: int) -> _Resolved:
        """Returns all addresses of a host, for an owner.

        Raises:
            NotFound: it has no address.
            NoAnswer: the lookup fails now.
            LookupLate: it took too long.
            Saturated: too many lookups are running.
        """
        place = host, port
        until = asyncio.get_running_loop().time() + self._deadline
        asked = self._ask(owner, place, until)
        await asyncio.wait([asked.found], timeout=self._deadline)
        if asked.found.done():
            try:
                return asked.found.result()
            finally:
                del asked  # an error has this call in its traceback, and this has the error
        is_known = self._asked.get(place) is asked
        if is_known and place not in self._waiting:
            raise LookupLate("its look-up takes too long")
        if is_known and asked.waits.get(owner) == until:  # nobody of this owner came later
            self._wait_no_more(owner, place)
        raise _saturated()

    def _ask(self, owner: str, place: _Place, until: float) -> _Asked:
        asked = self._asked.get(place)
        if asked is not None and place not in self._waiting:
            return asked
        if asked is None or owner not in asked.waits:
            self._check_room(owner)
        if asked is None:
            asked = self._asked[place] = _Asked(asyncio.get_running_loop().create_future())
            self._waiting[place] = None
        if owner not in asked.waits:
            self._waits[owner] += 1
        asked.waits[owner] = until
        self._begin_some()
        return asked

    def _check_room(self, owner: str) -> None:
        """Refuses one who can neither begin nor wait."""
        if self._has_room(owner):
            return
        if self._waits[owner] >= MAX_WAITING or len(self._waiting) >= MAX_ALL_WAITING:
            raise _saturated()

    def _has_room(self, owner: str) -> bool:
        return self._running.total() < self._most and self._running[owner] < self._share

    def _wait_no_more(self, owner: str, place: _Place) -> None:
        waits = self._asked[place].waits
        del waits[owner]
        self._count_out(owner)
        if not waits:
            self._forget(place)

    def _forget(self, place: _Place) -> None:
        self._leave(place)
        del self._asked[place]

    def _leave(self, place: _Place) -> None:
        """It waits no more."""
        del self._waiting[place]
        for owner in self._asked[place].waits:
            self._count_out(owner)

    def _count_out(self, owner: str) -> None:
        self._waits[owner] -= 1
        if not self._waits[owner]:
            del self._waits[owner]

    def _begin_some(self) -> None:
        """Begins those that wait, the first first, as far as there is room; forgets those for which nobody waits."""
        now = asyncio.get_running_loop().time()
        for place in list(self._waiting):
            asked = self._asked[place]
            owners = [owner for owner, until in asked.waits.items() if until > now]
            if not owners:
                self._forget(place)
            elif self._running.total() >= self._most:
                return  # a thousand may wait, and many look-ups end at once
            elif (begins := next(filter(self._has_room, owners), None)) is not None:
                self._leave(place)
                self._begin(place, begins)

    def _begin(self, place: _Place, owner: str) -> None:
        loop = asyncio.get_running_loop()
        self._asked[place].owner = owner
        self._running[owner] += 1

        def work() -> None:
            found = self._addresses(*place)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._ended, place, found, worker)

        try:
            worker = self._workers.take()
        except RuntimeError:  # no more threads can be started now
            loop.call_soon(self._ended, place, NoAnswer("it can't be looked up just now"))
        else:
            worker.put(work)

    def _addresses(self, host: str, port: int) -> _Resolved | NotFound:
        try:
            texts = self._look_up(host, port)
            found = tuple(dict.fromkeys(map(ip_address, texts))) if len(texts) <= _MAX_ADDRESSES else ()
        except (OSError, ValueError) as error:  # ValueError: UnicodeError, too
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                return NoAnswer("nobody can tell its address just now")
            found = ()
        return found or NotFound("it has no address that is known here")

    def _ended(self, place: _Place, found: _Resolved | NotFound, worker: Worker | None = None) -> None:
        if worker is not None:
            self._workers.give_back(worker)
        asked = self._asked.pop(place)
        self._running[asked.owner] -= 1
        if not self._running[asked.owner]:
            del self._running[asked.owner]
        if isinstance(found, NotFound):
            asked.found.set_exception(found)
            asked.found.exception()  # marks its error as seen when no one waits any more
        else:
            asked.found.set_result(found)
        self._begin_some()


def _saturated() -> Saturated:
    return Saturated("too many look-ups are under way")
