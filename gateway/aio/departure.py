"""Whether a connection's peer has left, as the kernel knows it: nobody else does while nothing is read of it."""

import select
import socket
from typing import Final

_BROKEN_OFF: Final = select.POLLERR | select.POLLHUP


class Departure:
    """Asks for one connection; its socket must be open."""

    __slots__ = ("_kernel",)

    def __init__(self, connected: socket.socket) -> None:
        self._kernel = select.poll()
        self._kernel.register(connected.fileno(), select.POLLRDHUP)

    def has_happened(self, *, or_says_no_more: bool) -> bool:
        """Whether the peer broke the connection off.

        `or_says_no_more`: a peer that sends no more counts as one that left.
        """
        left = _BROKEN_OFF | select.POLLRDHUP if or_says_no_more else _BROKEN_OFF
        return any(event & left for _, event in self._kernel.poll(0))
