"""way_out.py with the real clocks and the real Drive: who waits for a client that takes nothing, and for how long."""

from types import SimpleNamespace
from typing import Any, Final

import pytest

from gateway.aio.drive import Drive
from gateway.errors import ClientGone, ClientTooSlow
from gateway.listener.clocks import Clocks
from gateway.listener.traffic import Traffic
from gateway.listener.way_out import WayOut

IDLE: Final = 20.0  # seconds without a byte taken
LEAST: Final = 100  # bytes a second
KB: Final = 1024


class Transport:
    """Stands for the client's: it pauses and resumes the way out as asyncio's do. What is written, nobody takes."""

    def __init__(self) -> None:
        self.is_lost = False
        self.unsent = 0
        self.high = 64 * KB
        self.low = 16 * KB
        self.written: list[bytes] = []
        self.out: WayOut | None = None
        self.in_kernel: list[tuple[int, int, int]] = []

    def write(self, data: bytes) -> None:
        assert not self.is_lost
        self.written.append(data)
        self.unsent += len(data)
        self._tell()

    def take(self, size: int) -> None:
        """The client takes so much."""
        self.unsent -= size
        self._tell()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int, low: int | None = None) -> None:
        self.high, self.low = high, high // 4 if low is None else low
        self._tell()

    def _tell(self) -> None:
        assert self.out is not None
        if self.unsent > self.high and not self.out.is_paused:
            self.out.pause()
        elif self.unsent <= self.low and self.out.is_paused:
            self.out.resume()

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return SimpleNamespace(setsockopt=lambda *option: self.in_kernel.append(option))


class Room:
    """The way out of one connection, and the sweep over it; `ended` is how the wait ended."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.traffic = Traffic()
        self.clocks = Clocks(lambda: ClientGone("idle"))
        live: Any = SimpleNamespace(state=SimpleNamespace(pace=SimpleNamespace(send_idle=IDLE)))
        self.out = WayOut(live, self.clocks, self.traffic, lambda: self.now)
        self.ended: list[BaseException | None] = []
        self.transport = Transport()
        self.transport.out = self.out
        transport: Any = self.transport
        self.out.open(transport)

    def begin(self, wait: Any) -> Drive:
        drive = Drive(wait, self.ended.append)
        drive.step()
        return drive

    def sweep(self, seconds: float) -> bool:
        """After so many seconds; whether the wait is overdue."""
        self.now += seconds
        if self.out.is_paused:
            self.out.note_taken(self.now)
        return self.clocks.is_overdue(self.now, self.out.taken, LEAST)


@pytest.fixture
def room() -> Room:
    return Room()


def test_what_is_sent_is_written_at_once_and_counted(room: Room) -> None:
    for data in (b"head", b"body"):
        room.out.send(data)
    assert room.transport.written == [b"head", b"body"]
    assert (room.traffic.sent, room.out.unsent, room.out.taken) == (8, 8, 0)
    room.transport.take(5)
    assert (room.traffic.sent, room.out.unsent, room.out.taken) == (8, 3, 5)


def test_who_is_gone_gets_nothing_and_nothing_of_it_counts(room: Room) -> None:
    room.transport.is_lost = True  # it is told in a later turn
    room.out.send(b"nobody hears it")
    room.out.close()
    room.out.send(b"nor this")
    assert (room.transport.written, room.traffic.sent, room.out.unsent) == ([], 0, 0)


def test_nothing_is_known_to_wait_for_a_client_that_is_gone(room: Room) -> None:
    room.out.send(b"x" * 10)
    room.out.close()
    assert (room.out.unsent, room.out.taken) == (0, 10)


# How much may wait


def test_little_waits_for_a_stranger_and_more_for_whom_is_known(room: Room) -> None:
    room.out.send(b"x" * 32 * KB)
    assert not room.out.is_paused
    room.out.send(b"x")
    assert (room.out.is_paused, room.out.holds_much, room.transport.in_kernel) == (True, False, [])
    room.transport.take(32 * KB)
    room.out.hold_much()
    assert room.out.holds_much
    assert [value for *_, value in room.transport.in_kernel] == [0]  # the kernel, too, takes what it is configured to
    room.out.send(b"x" * (256 * KB - 1))
    assert not room.out.is_paused
    room.out.send(b"x")
    assert room.out.is_paused


def test_who_is_known_after_the_end_is_known_all_the_same(room: Room) -> None:
    room.out.close()
    room.out.hold_much()
    assert (room.out.holds_much, room.transport.in_kernel) == (True, [])


# Who waits for the client


def test_nobody_waits_for_a_client_that_takes_all(room: Room) -> None:
    room.out.send(b"x")
    room.begin(room.out.until_writable())
    assert room.ended == [None]
    assert not room.sweep(1e9)


def test_a_wait_ends_when_the_client_takes_more_again(room: Room) -> None:
    room.out.send(b"x" * 40 * KB)
    room.begin(room.out.until_writable())
    room.transport.take(30 * KB)
    assert room.ended == []
    room.transport.take(2 * KB)
    assert (room.ended, room.out.is_paused) == ([None], False)
    assert not room.sweep(1e9)  # and its deadline with it


def test_a_client_that_takes_nothing_is_too_slow(room: Room) -> None:
    room.out.send(b"x" * 40 * KB)
    drive = room.begin(room.out.until_writable())
    assert not room.sweep(IDLE - 1)
    assert room.sweep(1)
    assert isinstance(room.clocks.late(), ClientTooSlow)
    drive.interrupt(room.clocks.late())
    assert [type(error) for error in room.ended] == [ClientTooSlow]
    room.transport.take(40 * KB)
    assert len(room.ended) == 1  # nobody is woken twice


def test_the_silence_starts_again_whenever_it_took_something(room: Room) -> None:
    room.out.send(b"x" * 200 * KB)
    room.begin(room.out.until_writable())
    for _ in range(9):
        room.transport.take(int(LEAST * IDLE))
        assert not room.sweep(IDLE - 1)
    assert room.sweep(IDLE)


def test_a_client_that_takes_too_little_is_too_slow(room: Room) -> None:
    room.out.send(b"x" * 200 * KB)
    room.begin(room.out.until_writable())
    for _ in range(int(IDLE) - 1):
        room.transport.take(LEAST - 1)
        assert not room.sweep(1)
    room.transport.take(LEAST - 1)
    assert room.sweep(1)


@pytest.mark.parametrize("is_told", [False, True])
def test_nobody_waits_for_a_client_that_is_gone(room: Room, is_told: bool) -> None:
    room.out.send(b"x" * 40 * KB)
    room.transport.is_lost = True
    if is_told:
        room.out.close()
    room.begin(room.out.until_writable())
    room.begin(room.out.until_all_taken())
    assert room.ended == [None, None]


def test_who_goes_within_the_wait_ends_it_by_what_the_transport_says_last(room: Room) -> None:
    room.out.send(b"x" * 40 * KB)
    room.begin(room.out.until_writable())
    room.transport.is_lost = True
    room.out.resume()
    assert room.ended == [None]


def test_all_is_taken_when_nothing_waits_any_more(room: Room) -> None:
    room.out.send(b"x" * 10)
    room.begin(room.out.until_all_taken())
    room.transport.take(9)
    assert (room.ended, room.out.is_paused) == ([], True)
    assert not room.sweep(IDLE - 1)
    room.transport.take(1)
    assert room.ended == [None]
    room.out.send(b"x" * 32 * KB)  # as much may wait as before
    assert not room.out.is_paused


def test_all_was_taken_of_what_was_never_kept_waiting(room: Room) -> None:
    room.out.hold_much()
    room.begin(room.out.until_all_taken())
    assert (room.ended, room.transport.high) == ([None], 256 * KB)


# Who is called instead


def test_who_is_to_be_called_is_called_each_time(room: Room) -> None:
    calls: list[bool] = []
    room.out.on_writable(lambda: calls.append(room.out.is_paused))
    for _ in range(2):
        room.out.send(b"x" * 40 * KB)
        room.transport.take(40 * KB)
    assert calls == [False, False]
    room.out.on_writable(None)
    room.out.send(b"x" * 40 * KB)
    room.transport.take(40 * KB)
    assert len(calls) == 2


def test_a_resumption_that_nobody_awaited_ends_no_later_wait(room: Room) -> None:
    room.out.send(b"x" * 40 * KB)
    room.transport.take(40 * KB)
    room.out.send(b"x" * 40 * KB)
    room.begin(room.out.until_writable())
    assert room.ended == []


def test_nobody_is_called_of_a_connection_that_is_lost(room: Room) -> None:
    calls: list[None] = []
    room.out.on_writable(lambda: calls.append(None))
    room.out.close()
    room.out.resume()
    assert calls == []


def test_who_is_called_has_the_same_clocks(room: Room) -> None:
    room.out.on_writable(lambda: None)
    room.out.send(b"x" * 40 * KB)
    room.out.watch_reader()
    assert not room.sweep(IDLE - 1)
    room.transport.take(int(LEAST * IDLE))
    assert not room.sweep(1)
    assert room.sweep(IDLE)
