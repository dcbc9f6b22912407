"""systemd's end of sd_notify: a real datagram socket, and what came to it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

DEADLINE: Final = 60.0
_MAX: Final = 65536


class ServiceManager:
    """Listens at a path, or at an abstract address that begins with `@`; `messages` are those of before."""

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        self.messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._socket.close()

    def next(self, within: float = DEADLINE) -> dict[str, str]:
        """Waits for the next message: its assignments."""
        self._socket.settimeout(within)
        text = self._socket.recv(_MAX).decode()
        message = dict(line.split("=", 1) for line in text.split("\n"))
        self.messages.append(message)
        return message

    def until(self, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Waits for a message."""
        deadline = time.monotonic() + DEADLINE
        while not holds(message := self.next(max(0.1, deadline - time.monotonic()))):
            pass
        return message

    def rest(self) -> list[dict[str, str]]:
        """All that came and was not read yet."""
        found = []
        while True:
            try:
                found.append(self.next(0.0))
            except BlockingIOError:
                return found
