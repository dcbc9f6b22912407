"""Looks up the addresses of hosts that webhooks go to, within a deadline, a few at a time.

The system's resolver (getaddrinfo) knows no deadline and can't be called off: it may hold its thread for a minute.
So each look-up has a thread of its own that nobody has to wait for, not even the end of the process, and there is a
bound of them. All who ask for one host at a time share one look-up; whoever began it holds its thread, and no owner
holds more than a share of them: names that are slow hold up none but him who names them.
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
_DEADLINE: Final = 5.0
_MAX_THREADS: Final = 16
_SHARE: Final = 4
_MAX_ADDRESSES: Final = 32
_Found = tuple[Address, ...]


class NotFound(GatewayError):
    """A host without an address; the message is in words of ours."""


class NoAnswer(NotFound):
    """The system has no address just now, and can't say that there is none: name servers are away, or fail."""


class Undecided(GatewayError):
    """Nothing is known of a host yet, neither good nor bad."""


class Saturated(Undecided):
    """So many look-ups are under way, in all or of one owner, that this host was not asked for."""


class Late(Undecided):
    """The look-up takes too long."""


def look_up(host: str, port: int) -> list[str]:
    """Asks the system for the addresses of a host; blocks.

    Raises:
        OSError: there are none, or nobody tells.
        UnicodeError: the name is none that can be asked for.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Looks hosts up. It may be awaited in a Drive (gateway/aio/drive.py): only futures are.

    Args:
        look_up: asks for the addresses of host and port; it is called on a thread, and may block.
        deadline: seconds.
        most: threads at once, of which one owner has a quarter at the most.
    """

    def __init__(self, look_up: Lookup = look_up, deadline: float = _DEADLINE, most: int = _MAX_THREADS) -> None:
        self._look_up = look_up
        self._deadline = deadline
        self._most = most
        self._share = max(1, most // _SHARE)
        self._running: dict[tuple[str, int], asyncio.Future[_Found]] = {}
        self._by_owner: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Resolver running={len(self._running)} owners={len(self._by_owner)}>"

    async def __call__(self, owner: str, host: str, port: int) -> _Found:
        """All addresses of a host, for an owner.

        Raises:
            NotFound: there are none.
            NoAnswer: nobody can say just now.
            Late: it took too long.
            Saturated: too many look-ups are under way.
        """
        running = self._running.get((host, port))
        if running is None:
            if len(self._running) >= self._most or self._by_owner[owner] >= self._share:
                raise Saturated("too many look-ups are under way")
            running = self._begin(owner, host, port)
        await asyncio.wait([running], timeout=self._deadline)
        if not running.done():
            raise Late("its look-up takes too long")
        return running.result()

    def _begin(self, owner: str, host: str, port: int) -> "asyncio.Future[_Found]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Found] = loop.create_future()
        self._running[host, port] = future
        self._by_owner[owner] += 1

        def work() -> None:
            found = self._addresses(host, port)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(partial(self._ended, owner, (host, port), found))

        try:
            Thread(target=work, name="webhook-lookup", daemon=True).start()
        except RuntimeError:  # there may be no more threads just now
            self._ended(owner, (host, port), NoAnswer("it can't be looked up just now"))
        return future

    def _addresses(self, host: str, port: int) -> _Found | NotFound:
        try:
            found = tuple(dict.fromkeys(map(ip_address, self._look_up(host, port))))
        except (OSError, ValueError) as error:  # ValueError: UnicodeError, too
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                return NoAnswer("nobody can tell its address just now")
            found = ()
        return found if 0 < len(found) <= _MAX_ADDRESSES else NotFound("it has no address that is known here")

    def _ended(self, owner: str, place: tuple[str, int], found: _Found | NotFound) -> None:
        future = self._running.pop(place)
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        if isinstance(found, NotFound):
            future.set_exception(found)
            future.exception()  # looked at here, when nobody waits for it any more
        else:
            future.set_result(found)
