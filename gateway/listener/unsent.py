"""How much of its answers the kernel keeps for a client that takes none of them.

By default up to 4 MB (net.ipv4.tcp_wmem), which counts as the container's memory in Kubernetes. What is on its way to
the client is not limited here, so a client that is far away gets its answers no later.
"""

import contextlib
import socket
from typing import Final

_STRANGERS_UNSENT: Final = 65_536
_AS_CONFIGURED: Final = 0  # by net.ipv4.tcp_notsent_lowat: no limit but that of the buffer


def limit_unsent(listening: socket.socket) -> None:
    """Limits what waits to be sent on each connection that will be accepted there, if the kernel can.

    They inherit it. The admin listener never takes it back: its answers are short.
    """
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _STRANGERS_UNSENT)


def unlimit_unsent(accepted: socket.socket) -> None:
    """Takes that limit back for one connection; it stays where the kernel says no."""
    with contextlib.suppress(OSError):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _AS_CONFIGURED)
