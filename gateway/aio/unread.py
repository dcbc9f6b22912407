"""What the kernel still holds of a connection that broke off.

A server that refuses a body early answers, and closes what it did not read: the kernel then sends RST. The next write
fails, and the loop ends the connection for that, though the answer came before and waits to be read.
"""

import asyncio
import os
from typing import Final

_MAX: Final = 65_536


def read_unread(transport: asyncio.BaseTransport) -> bytes:
    """Takes up to 64 KB of it, from within connection_lost: later the socket is closed, and its number another's."""
    sock = transport.get_extra_info("socket")
    try:
        return b"" if sock is None else os.read(sock.fileno(), _MAX)
    except OSError:
        return b""
