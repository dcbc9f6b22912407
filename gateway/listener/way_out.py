"""What a client is sent waits until it takes it, at its least rate: the part of a connection that writes.

- What is written goes to the transport at once; what the kernel does not take waits there. When that is too much, the
  way out is paused: whoever writes waits here, or stops what feeds it until it is called. Until a client has shown
  who it is, little may wait here and in the kernel; then more.
- A wait for the client has its clocks (clocks.py): `watch_reader` starts them, the connection's sweep checks them.
  The silence starts again at each sweep that finds more taken (`note_taken`); the rate is measured on.

What can't happen: somebody waits here without a deadline; a transport that is lost is written to.

It knows the transport until that is lost: references in a circle would leave both to the garbage collection.
"""

from collections.abc import Callable
from typing import Final

from gateway.aio.drive import Signal
from gateway.aio.tls.transport import TlsTransport
from gateway.config.state import Live
from gateway.errors import ClientTooSlow
from gateway.listener.clocks import Clocks
from gateway.listener.traffic import Traffic
from gateway.listener.unsent import unlimit_unsent

_HIGH_WATER: Final = 262_144  # bytes of answers that wait for the client, from which on its request waits, too
_STRANGERS_HIGH_WATER: Final = 32_768  # until the client is known: there may be many who take nothing


class WayOut:
    """Writes for one connection, by its clocks. `clock` is the loop's, in seconds."""

    __slots__ = (
        "_clock",
        "_clocks",
        "_live",
        "_on_writable",
        "_traffic",
        "_transport",
        "_writable",
        "_written",
        "holds_much",
        "is_paused",
    )

    def __init__(self, live: Live, clocks: Clocks, traffic: Traffic, clock: Callable[[], float]) -> None:
        self.is_paused = False  # more is written than the client takes
        self.holds_much = False  # more may wait than of a stranger's
        self._live = live
        self._clocks = clocks
        self._traffic = traffic
        self._clock = clock
        self._transport: TlsTransport | None = None
        self._writable = Signal()
        self._on_writable: Callable[[], None] | None = None
        self._written = 0

    def open(self, transport: TlsTransport) -> None:
        """Writes to this one from now on."""
        self._transport = transport
        self._bound(transport)

    def close(self) -> None:
        """Drops the transport, which is lost, and whoever waits to be called."""
        self._transport = None
        self._on_writable = None

    def hold_much(self) -> None:
        """Lets more wait than of a stranger's, also in the kernel: the client has shown who it is."""
        self.holds_much = True
        if self._transport is not None:
            self._bound(self._transport)
            unlimit_unsent(self._transport.get_extra_info("socket"))

    def _bound(self, transport: TlsTransport) -> None:
        transport.set_write_buffer_limits(high=_HIGH_WATER if self.holds_much else _STRANGERS_HIGH_WATER)

    # What is written

    def send(self, data: bytes) -> None:
        """Writes to the client; a client that is gone gets nothing, which `is_gone` of its connection tells."""
        if self._transport is not None and not self._transport.is_lost:
            size = len(data)
            self._written += size
            self._traffic.sent += size
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that were written, and that the client's kernel has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """Bytes that it has taken."""
        return self._written - self.unsent

    # The waits for the client

    async def until_writable(self) -> None:
        """Waits until the client took what was written, at its least rate.

        Raises:
            ClientTooSlow: when it did not.
        """
        while self.is_paused and self._transport is not None and not self._transport.is_lost:
            self.watch_reader()
            await self._writable
        self._clocks.stop()

    async def until_all_taken(self) -> None:
        """Waits until the client took all that was written, at its least rate.

        Raises:
            ClientTooSlow: when it did not.
        """
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=1, low=0)
            await self.until_writable()
        if self._transport is not None:
            self._bound(self._transport)

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """Calls this whenever the client takes more again, for who does not wait here; until the next call."""
        self._on_writable = callback

    def pause(self) -> None:
        """Called when more is written than the client takes."""
        self.is_paused = True

    def resume(self) -> None:
        """Called when it takes more."""
        self.is_paused = False
        if self._on_writable is not None:
            self._on_writable()
        elif self._writable.is_awaited:
            self._writable.set()

    # Deadlines

    def watch_reader(self) -> None:
        """Starts the clocks of a client that does not take what was written."""
        idle = self._live.state.pace.send_idle
        self._clocks.expect(self._clock() + idle, ClientTooSlow)
        self._clocks.measure(self._clock(), idle, self.taken)

    def note_taken(self, now: float) -> None:
        """Starts the silence again, if the client took something while it is waited for."""
        self._clocks.note(self.taken, now + self._live.state.pace.send_idle)
