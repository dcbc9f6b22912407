"""Reports the service's state to systemd (sd_notify(3)): datagrams to the socket that systemd names.

Without a socket it sends nothing; a datagram that can't be sent is logged and is never an error. The event loop
itself feeds the watchdog, so systemd notices a loop that is stuck.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

TICK: Final = 1.0
_SHORTEST_TICK: Final = 0.05
_EXTENSION: Final = "EXTEND_TIMEOUT_USEC=30000000"
log = structlog.get_logger()


class Notifier:
    """Sends notifications to systemd. READY=1 goes out once, when everything that /readyz requires is there."""

    def __init__(self, environ: Mapping[str, str], missing: Callable[[], list[str]]) -> None:
        """`missing` names what /readyz still waits for."""
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # `@` marks an abstract socket
        self._watchdog = _watchdog(environ)
        self._missing = missing
        self._status = ""
        self._is_ready = False
        self._is_stopping = False
        self._has_failed = False

    async def run(self, port: int) -> None:
        """Reports readiness, what is missing, and that the loop is alive, until it is cancelled.

        A ledger that is down at start does not run into TimeoutStartSec: the timeout is extended until the ledger is
        back.
        """
        while self._address:
            self._turn(port, self._missing())
            await asyncio.sleep(max(_SHORTEST_TICK, min(TICK, self._watchdog / 2)))

    def notify_reloading(self) -> None:
        """A reload begins; `notify_reloaded` follows."""
        if self._is_serving:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def notify_reloaded(self, *, in_force: bool) -> None:
        """The reload has ended, accepted or not: systemd has no state for a refused reload."""
        if self._is_serving:
            said = "Reloaded" if in_force else "Reload refused, the old configuration stays in force: see the log"
            self._send("READY=1", f"STATUS={said}")

    def notify_stopping(self) -> None:
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
    """How many seconds systemd waits for a sign of life of this process; infinite without a watchdog."""
    with suppress(ValueError):
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            return max(0.0, int(environ.get("WATCHDOG_USEC", "")) / 1_000_000) or float("inf")
    return float("inf")
