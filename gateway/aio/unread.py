"""Reads what the kernel still holds of a connection that broke off.

A server that refuses a body early sends its answer, then closes with bytes unread, so its kernel sends RST. Our next
write fails, and the loop ends the connection for that, although the answer came earlier and waits to be read.
"""

import asyncio
import os
from typing import Final

_MAX: Final = 65_536


def read_unread(transport: asyncio.BaseTransport) -> bytes:
    """Reads up to 64 KB, from within connection_lost: later the socket is closed and its descriptor may be reused."""
    sock = transport.get_extra_info("socket")
    try:
        return b"" if sock is None else os.read(sock.fileno(), _MAX)
    except OSError:
        return b""
