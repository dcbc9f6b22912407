"""Tells systemd how the service is, by the protocol of sd_notify(3): datagrams to the socket that it names.

Where there is no socket nobody is told, and a datagram that can't be sent is a reason to log, never to fail. The
watchdog is fed by the loop itself, so a loop that no longer turns is noticed.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

_TICK: Final = 1.0
_SHORTEST_TICK: Final = 0.05
_EXTENSION: Final = "EXTEND_TIMEOUT_USEC=30000000"
log = structlog.get_logger()


class Notifier:
    """What systemd is told. READY=1 goes out once, when all that /readyz asks for is there."""

    def __init__(self, environ: Mapping[str, str], missing: Callable[[], list[str]]) -> None:
        """`missing` names what /readyz still waits for."""
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # `@` is how an abstract one is written
        self._watchdog = _watchdog(environ)
        self._missing = missing
        self._status = ""
        self._is_ready = False
        self._is_stopping = False
        self._has_failed = False

    async def run(self, port: int) -> None:
        """Tells of readiness, of what it waits for and that the loop turns, until it is cancelled.

        A ledger that is away at the start does not run into TimeoutStartSec: it is waited for as long as it takes.
        """
        while self._address:
            self._turn(port, self._missing())
            await asyncio.sleep(max(_SHORTEST_TICK, min(_TICK, self._watchdog / 2)))

    def reloading(self) -> None:
        """A new configuration is looked at; `reloaded` follows."""
        if self._is_serving:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def reloaded(self, *, in_force: bool) -> None:
        """That is over, whatever came of it: systemd knows no reload that was refused."""
        if self._is_serving:
            said = "Reloaded" if in_force else "Reload refused, the old configuration stays in force: see the log"
            self._send("READY=1", f"STATUS={said}")

    def stopping(self) -> None:
        """The drain begins."""
        self._is_stopping = True
        self._send("STOPPING=1", "STATUS=Draining")

    @property
    def _is_serving(self) -> bool:
        return self._is_ready and not self._is_stopping

    def _turn(self, port: int, missing: list[str]) -> None:
        lines = ["WATCHDOG=1"] if self._watchdog != float("inf") else []
        if missing and not self._is_ready:
            lines.append(_EXTENSION)
        elif not self._is_ready:
            self._is_ready = True
            lines.append("READY=1")
        status = f"Serving port {port}" + (f", waiting for: {', '.join(missing)}" if missing else "")
        if status != self._status and not self._is_stopping:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send(*lines)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), self._address)
        except (OSError, ValueError) as error:
            self._failed(error)
        else:
            self._has_failed = False

    def _failed(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("systemd could not be told", error=getattr(error, "strerror", None) or type(error).__name__)


def _watchdog(environ: Mapping[str, str]) -> float:
    """How many seconds systemd waits for a sign of life of this process; infinite when it does not."""
    with suppress(ValueError):
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            return max(0.0, int(environ.get("WATCHDOG_USEC", "")) / 1_000_000) or float("inf")
    return float("inf")
