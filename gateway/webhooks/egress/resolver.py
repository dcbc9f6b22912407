"""Looks up the addresses of hosts that webhooks go to (against SSRF), with a deadline and bounded concurrency.

The system's resolver (getaddrinfo) has no deadline and can't be cancelled: it may block its thread for a minute. So
each lookup has a daemon thread to itself, which even the end of the process does not wait for, and the number of
threads is bounded. An owner gets only a share of the threads, so slow names delay only the owner that uses them.
Lookups for which there is no thread wait for one: next is the owner that has the fewest, of equals the one served
longest ago, of its lookups the first. So however many wait for slow names, another owner's waits for one to end.
Owners of whom one took long of late have three quarters of the threads together: of names that no server answers, all
begin and end at the same moments. Concurrent requests for one host share one lookup. It begins as soon as one owner
that waits for it has room, and counts for that one: so an owner that has none left keeps no others waiting by asking
first for what they need.
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
from gateway.limits.served_owners import ServedOwners
from gateway.webhooks.egress.slow_owners import SlowOwners

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

    It counts for `owner` once it has one, from `begun` on.
    """

    __slots__ = ("begun", "found", "owner", "waits")

    def __init__(self, found: "asyncio.Future[_Resolved]") -> None:
        self.waits: dict[str, float] = {}
        self.owner = ""
        self.begun = 0.0
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
        self._waiting: dict[_Place, None] = {}  # of these, those without a thread; those asked for last are last
        self._running: Counter[str] = Counter()
        self._waits: dict[str, dict[_Place, None]] = {}  # of each owner, those that wait without a thread, in order
        self._served = ServedOwners()
        self._slow = SlowOwners()
        self._most_slow = max(1, most - most // _SHARE)

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
            self._note_time(asked)
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
        self._waiting.pop(place, None)
        self._waiting[place] = None
        self._waits.setdefault(owner, {})[place] = None
        asked.waits[owner] = until
        self._begin_some()
        return asked

    def _check_room(self, owner: str) -> None:
        """Refuses one who can neither begin nor wait: others may have all places, not an owner's share."""
        if self._has_room(owner):
            return
        waits = len(self._waits.get(owner, ()))
        fair = MAX_ALL_WAITING // (len(self._waits) or 1)
        if waits >= MAX_WAITING or (waits >= max(1, fair) and len(self._waiting) >= MAX_ALL_WAITING):
            raise _saturated()

    def _has_room(self, owner: str) -> bool:
        now = asyncio.get_running_loop().time()
        has_share = self._running[owner] < self._share
        return (
            self._running.total() < self._most
            and has_share
            and (self._may_be_slow(now) or not self._is_slow(owner, now))
        )

    def _is_slow(self, owner: str, now: float) -> bool:
        return self._slow.holds(owner, now)

    def _may_be_slow(self, now: float) -> bool:
        """Whether a free thread may be given to an owner of whom one took long of late."""
        return sum(count for owner, count in self._running.items() if self._is_slow(owner, now)) < self._most_slow

    def _wait_no_more(self, owner: str, place: _Place) -> None:
        waits = self._asked[place].waits
        del waits[owner]
        self._count_out(owner, place)
        if not waits:
            self._forget(place)

    def _forget(self, place: _Place) -> None:
        self._leave(place)
        del self._asked[place]

    def _leave(self, place: _Place) -> None:
        """It waits no more."""
        del self._waiting[place]
        for owner in self._asked[place].waits:
            self._count_out(owner, place)

    def _count_out(self, owner: str, place: _Place) -> None:
        del self._waits[owner][place]
        if not self._waits[owner]:
            del self._waits[owner]

    def _begin_some(self) -> None:
        """Begins those that wait, as far as there is room; forgets those for which nobody waits."""
        now = asyncio.get_running_loop().time()
        self._forget_late(now)
        while self._running.total() < self._most and (chosen := self._next(now)) is not None:
            owner, place = chosen
            self._leave(place)
            self._begin(place, owner)

    def _forget_late(self, now: float) -> None:
        for place in list(self._waiting):
            if any(until > now for until in self._asked[place].waits.values()):
                return  # those behind it were asked for later
            self._forget(place)

    def _next(self, now: float) -> tuple[str, _Place] | None:
        """The owner whose turn it is, and the first that it waits for. A thousand may wait: not all are looked at."""
        may_be_slow = self._may_be_slow(now)
        able = (
            (owner, place)
            for owner, places in self._waits.items()
            if self._running[owner] < self._share
            and (may_be_slow or not self._is_slow(owner, now))
            and (place := next((one for one in places if self._asked[one].waits[owner] > now), None)) is not None
        )
        return min(able, key=lambda one: (self._running[one[0]], self._served.last(one[0])), default=None)

    def _begin(self, place: _Place, owner: str) -> None:
        loop = asyncio.get_running_loop()
        self._asked[place].owner = owner
        self._asked[place].begun = loop.time()
        self._running[owner] += 1
        self._served.note(owner)

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

    def _note_time(self, asked: _Asked) -> None:
        now = asyncio.get_running_loop().time()
        self._slow.note(asked.owner, now - asked.begun, now)

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
        self._note_time(asked)
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
