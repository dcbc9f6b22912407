"""Looks up the addresses of hosts that webhooks go to, within a deadline, a few at a time.

The system's resolver (getaddrinfo) knows no deadline and can't be called off: it may hold its thread for a minute.
So each look-up has a thread of its own that nobody has to wait for, not even the end of the process, and there is a
bound of them. All who ask for one host at a time share one look-up.
"""

import asyncio
import socket
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
_MAX_ADDRESSES: Final = 32


class NotFound(GatewayError):
    """A host without an address, or one that was not told in time; the message is in words of ours."""


class Saturated(NotFound):
    """So many look-ups are under way that this host was not asked for."""


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
        most: threads at once.
    """

    def __init__(self, look_up: Lookup = look_up, deadline: float = _DEADLINE, most: int = _MAX_THREADS) -> None:
        self._look_up = look_up
        self._deadline = deadline
        self._most = most
        self._running: dict[tuple[str, int], asyncio.Future[tuple[Address, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Resolver running={len(self._running)}>"

    async def __call__(self, host: str, port: int) -> tuple[Address, ...]:
        """All addresses of a host.

        Raises:
            NotFound: there are none, or it took too long.
            Saturated: too many look-ups are under way.
        """
        running = self._running.get((host, port))
        if running is None:
            if len(self._running) >= self._most:
                raise Saturated("too many look-ups are under way")
            running = self._begin(host, port)
        await asyncio.wait([running], timeout=self._deadline)
        if not running.done():
            raise NotFound("its look-up takes too long")
        return running.result()

    def _begin(self, host: str, port: int) -> "asyncio.Future[tuple[Address, ...]]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Address, ...]] = loop.create_future()
        self._running[host, port] = future

        def work() -> None:
            found = self._addresses(host, port)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(partial(self._ended, host, port, future, found))

        Thread(target=work, name="webhook-lookup", daemon=True).start()
        return future

    def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        try:
            texts = self._look_up(host, port)
            return tuple(dict.fromkeys(map(ip_address, texts)))
        except (OSError, ValueError):  # ValueError: UnicodeError, too
            return ()

    def _ended(
        self, host: str, port: int, future: "asyncio.Future[tuple[Address, ...]]", found: tuple[Address, ...]
    ) -> None:
        del self._running[host, port]
        if not found or len(found) > _MAX_ADDRESSES:
            future.set_exception(NotFound("it has no address that is known here"))
            future.exception()  # looked at here, when nobody waits for it any more
        else:
            future.set_result(found)
