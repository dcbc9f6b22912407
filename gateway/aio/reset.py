"""Ends connections by RST instead of FIN, so that nothing of them stays in the kernel.

The side that closes first keeps the port for a minute (TIME_WAIT), and there are 28,000 for each address and port of
a server. A RST drops what the peer has not read: it is only for connections on which nothing is left to be read.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Final

from gateway.aio.tls.transport import TlsTransport

_NO_LINGERING: Final = struct.pack("ii", 1, 0)  # l_onoff, l_linger


def reset_at_end(transport: asyncio.Transport | TlsTransport) -> None:
    """Lets the abort that follows send RST; where the kernel says no, it is a FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
