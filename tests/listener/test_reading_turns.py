"""reading_turns.py with the real parser, and a clock and a loop by hand: what waits for whom, and who has a turn."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple
from weakref import ref

import pytest

from gateway.aio.drive import Drive
from gateway.aio.iteration import Iteration
from gateway.aio.tls.transport import STRANGERS_READ
from gateway.aio.turn import LITTLE_WORK_BYTES, MAX_BYTES, MAX_CHUNKS, SLICE
from gateway.errors import Refused
from gateway.http.headers import MAX_HEAD_BYTES
from gateway.listener.reading_turns import ReadingTurns
from gateway.model.reasons import Reason

HEAD = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
SIZED = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = 1.0  # more seconds than any turn has


class Left(Exception):
    """Whoever waited has gone."""


class Waiter:
    """Waits for a head; counts what it is told."""

    def __init__(self) -> None:
        self.is_deaf = self.has_left = False
        self.checks = self.notes = 0

    def check_still_waits(self) -> None:
        self.checks += 1
        if self.has_left:
            raise Left

    def note_head(self) -> None:
        self.notes += 1


class Socket:
    """Stands for the transport: what it was told last."""

    is_read = True
    reads_much = False

    def pause_reading(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.is_read
        self.is_read = True

    def read_much(self) -> None:
        self.reads_much = True


class Timers:
    """Stands for the loop: what it is to call later, by the seconds."""

    def __init__(self) -> None:
        self.due: dict[float, Callable[[], None]] = {}

    def call_later(self, seconds: float, call: Callable[[], None]) -> "Timer":
        assert seconds not in self.due
        self.due[seconds] = call
        return Timer(self, seconds)


class Timer(NamedTuple):
    """One of them."""

    timers: Timers
    seconds: float

    def cancel(self) -> None:
        self.timers.due.pop(self.seconds, None)


class Room:
    """One connection's reading. `step` is what the clock advances by each time that it is looked at."""

    def __init__(self) -> None:
        self.now = self.step = 0.0
        self.calls: list[Callable[[], None]] = []
        self.iteration = Iteration(self._clock, self.calls.append)
        self.waiter = Waiter()
        self.ended: list[BaseException | None] = []
        self.pieces: list[bytes] = []
        self.open()

    def open(self) -> None:
        self.timers = Timers()
        loop: Any = self.timers
        self.socket = Socket()
        transport: Any = self.socket
        self.reading = ReadingTurns(loop, self.iteration, b"prefix")
        self.reading.transport = transport

    def _clock(self) -> float:
        self.now += self.step
        return self.now

    def drive(self, coroutine: Coroutine[Any, Any, None]) -> None:
        Drive(coroutine, self.ended.append).step()

    def iterate(self) -> None:
        """The loop's next iteration."""
        calls = [*self.calls]
        self.calls.clear()
        for call in calls:
            call()

    def await_head(self) -> None:
        self.drive(self.reading.until_head(self.waiter))

    def take_body(self, head: bytes, length: int | None = None) -> None:
        """Has a request's head, and reads its body in the background until its end."""
        self.reading.take(head)
        self.await_head()
        assert self.ended == [None]
        self.ended.clear()
        _, body = self.reading.reader.take()
        self.reading.reader.expect_body(length)

        async def read() -> None:
            while piece := await self.reading.next_piece(body):
                self.pieces.append(piece)

        self.drive(read())


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_head_is_awaited_until_it_is_whole_and_its_begin_is_told(room: Room) -> None:
    room.await_head()
    assert (room.reading.awaits_head, room.waiter.notes, room.ended) == (True, 0, [])
    room.reading.take(HEAD[:9])
    assert (room.reading.awaits_head, room.waiter.notes, room.ended) == (True, 1, [])
    room.reading.take(HEAD[9:])
    assert (room.reading.awaits_head, room.ended) == (False, [None])
    request, _ = room.reading.reader.take()
    assert not isinstance(request, Refused)
    assert request.path == "/a"


def test_a_request_that_came_again_ends_the_wait_too(room: Room) -> None:
    room.reading.take(HEAD)
    room.await_head()
    first, _ = room.reading.reader.take()
    room.reading.reader.begin()
    room.await_head()
    room.reading.take(HEAD)
    assert room.ended == [None, None]
    assert room.reading.reader.take()[0] is first  # it was not parsed again


def test_who_wants_no_further_request_waits_for_none(room: Room) -> None:
    room.waiter.is_deaf = True
    room.await_head()
    assert room.ended == [None]
    assert not room.reading.reader.has_request


def test_a_head_that_is_too_large_ends_the_wait(room: Room) -> None:
    room.await_head()
    room.reading.take(HEAD[:-2])
    while not room.ended:
        room.reading.take(b"X-A: " + b"a" * 4096 + b"\r\n")
        room.iterate()
    (refused,) = room.ended
    assert isinstance(refused, Refused)
    assert refused.denial.reason is Reason.HEADERS_TOO_LARGE


def test_what_nobody_awaits_is_bounded_and_read_on_once_it_is_parsed(room: Room) -> None:
    room.reading.take(b"\r\n" * (STRANGERS_READ // 2))
    assert (room.socket.is_read, room.reading.is_paused) == (True, False)
    room.reading.take(b"\r\n")
    assert (room.socket.is_read, room.reading.is_paused) == (False, True)
    assert not room.reading.turn.is_at_work
    room.reading.listen()
    assert not room.socket.is_read  # as much waits as before
    room.await_head()
    while room.reading.awaits_turn:
        room.iterate()
    assert room.reading.awaits_head
    assert (room.socket.is_read, room.reading.is_paused) == (True, False)


def test_a_client_that_has_shown_who_it_is_may_send_more_ahead(room: Room) -> None:
    room.reading.read_much()
    assert room.socket.reads_much
    room.reading.take(b"x" * MAX_HEAD_BYTES)
    assert room.socket.is_read
    room.reading.take(b"x")
    assert not room.socket.is_read


def test_who_listens_reads_on_when_little_waits(room: Room) -> None:
    room.reading.take(b"x" * (STRANGERS_READ + 1))
    room.reading.read_much()
    room.reading.listen()
    assert room.socket.is_read
    room.reading.listen()  # it reads already


def test_a_turn_that_is_over_waits_for_the_next_and_reads_no_more_meanwhile(room: Room) -> None:
    room.reading.take(HEAD)
    room.step = LONG
    room.await_head()
    room.step = 0.0
    assert (room.reading.awaits_turn, room.socket.is_read, room.reading.reader.has_request) == (True, False, False)
    assert (room.waiter.checks, room.ended) == (0, [])
    assert not room.reading.turn.is_at_work
    room.iterate()
    assert (room.reading.awaits_turn, room.waiter.checks, room.ended) == (False, 1, [None])
    assert room.reading.reader.has_request


def test_who_has_gone_while_others_had_their_turn_reads_nothing(room: Room) -> None:
    room.reading.take(HEAD)
    room.step = LONG
    room.await_head()
    room.waiter.has_left = True
    room.iterate()
    assert [type(error) for error in room.ended] == [Left]
    assert not room.reading.reader.has_request


def test_a_body_comes_piece_by_piece_until_its_end(room: Room) -> None:
    room.take_body(SIZED % 6, 6)
    assert (room.pieces, room.ended) == ([], [])
    room.reading.take(b"ab")
    room.reading.take(b"cd")
    assert (room.pieces, room.ended) == ([b"ab", b"cd"], [])
    room.reading.take(b"ef" + HEAD)
    assert (b"".join(room.pieces), room.ended) == (b"abcdef", [None])
    assert room.reading.reader.has_more  # the next request is none of the body's


def test_a_body_that_is_malformed_ends_the_wait(room: Room) -> None:
    room.take_body(CHUNKED)
    room.reading.take(b"1\r\na\r\nz\r\n")
    (refused,) = room.ended
    assert isinstance(refused, Refused)
    assert refused.denial.reason is Reason.BODY_MALFORMED
    assert room.pieces == [b"a"]


def test_a_turn_reads_a_bounded_number_of_chunks(room: Room) -> None:
    """No time passes here: it is their number that ends the turn."""
    room.take_body(CHUNKED)
    count = 3 * MAX_CHUNKS
    room.reading.read_much()
    room.reading.take(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    read = [sum(map(len, room.pieces))]
    while not room.ended:
        assert room.reading.awaits_turn
        room.iterate()
        read.append(sum(map(len, room.pieces)))
    assert read[-1] == count
    turns = [after - before for before, after in zip([0, *read], read, strict=False)]
    assert len([turn for turn in turns if turn]) >= 3
    assert max(turns) < MAX_CHUNKS + SLICE


def test_a_turn_reads_a_bounded_number_of_bytes(room: Room) -> None:
    size = 3 * MAX_BYTES
    room.take_body(SIZED % size, size)
    room.reading.take(b"x" * (size - 1))
    first = sum(map(len, room.pieces))
    assert 0 < first <= MAX_BYTES
    assert (room.reading.awaits_turn, room.socket.is_read) == (True, False)
    while room.reading.awaits_turn:
        room.iterate()
    assert (sum(map(len, room.pieces)), room.ended, room.socket.is_read) == (size - 1, [], True)
    room.reading.take(b"x")
    while not room.ended:
        room.iterate()
    assert sum(map(len, room.pieces)) == size


def test_time_counts_only_while_it_works(room: Room) -> None:
    room.await_head()
    assert not room.reading.turn.is_at_work
    room.reading.take(HEAD[:9])
    assert not room.reading.turn.is_at_work
    room.step = LONG
    room.reading.take(HEAD[9:-2])
    assert (room.reading.awaits_turn, room.reading.turn.is_at_work) == (True, False)
    room.step = 0.0
    room.iterate()
    assert (room.reading.awaits_head, room.reading.turn.is_at_work) == (True, False)


def test_time_does_not_count_while_a_body_is_awaited(room: Room) -> None:
    room.take_body(SIZED % 6, 6)
    assert not room.reading.turn.is_at_work
    room.reading.take(b"ab")
    assert not room.reading.turn.is_at_work


@pytest.mark.parametrize(("size", "is_over", "waits"), [
    (LITTLE_WORK_BYTES, True, False), (LITTLE_WORK_BYTES + 1, True, True), (LITTLE_WORK_BYTES + 1, False, False),
])  # fmt: skip
def test_for_a_large_piece_one_waits_for_an_iteration_with_time(
    size: int, is_over: bool, waits: bool, room: Room
) -> None:
    if is_over:
        room.iteration.add(LONG, 0)
    room.drive(room.reading.time_for(size))
    assert (room.reading.awaits_turn, room.ended) == ((True, []) if waits else (False, [None]))
    while not room.ended:
        room.iterate()
    assert room.ended == [None]
    assert not room.reading.turn.is_at_work  # whoever was called may wait for something else now


def test_what_needs_little_goes_before_what_is_large(room: Room) -> None:
    order: list[str] = []

    async def wait(name: str, reading: ReadingTurns, *, is_large: bool) -> None:
        await reading.wait_for_turn(is_large=is_large)
        order.append(name)

    for name in ("large", "much", "little"):
        room.open()
        room.reading.take(b"x" * (LITTLE_WORK_BYTES + (name == "much")))
        room.drive(wait(name, room.reading, is_large=name == "large"))
    while len(room.ended) < 3:
        room.iterate()
    assert order == ["little", "large", "much"]


def test_nothing_is_kept_of_a_connection_that_is_lost(room: Room) -> None:
    room.reading.take(HEAD)
    socket = room.socket
    room.reading.close()
    assert (room.reading.transport, room.reading.reader.waiting) == (None, 0)
    room.reading.take(b"x" * (STRANGERS_READ + 1))
    room.reading.listen()
    assert socket.is_read  # nobody is told to stop


def test_who_awaited_a_head_is_forgotten_with_it(room: Room) -> None:
    """At once, not by the garbage collection."""
    room.reading.take(HEAD)
    room.await_head()
    waited = ref(room.waiter)
    room.waiter = Waiter()
    assert waited() is None


# A body that may have come with its head


def asked(room: Room, *came: bytes, length: int = 100) -> list[bool]:
    """Whether the body of a request has come, once that is known; the head came first."""
    for piece in came:
        room.reading.take(piece)
    room.await_head()
    _, body = room.reading.reader.take()
    found: list[bool] = []

    async def ask() -> None:
        found.append(await room.reading.has_come(body, length, LONG))

    room.drive(ask())
    return found


@pytest.mark.parametrize("size", [100, 60_000, MAX_HEAD_BYTES])
def test_a_body_that_came_with_its_head_is_known_without_a_wait(room: Room, size: int) -> None:
    assert asked(room, SIZED % size + b"x" * size, length=size) == [True]
    assert room.timers.due == {}


def test_a_body_is_waited_for_until_it_is_whole(room: Room) -> None:
    found = asked(room, SIZED % 100)
    for _ in range(99):
        room.reading.take(b"x")
        assert found == []
    room.reading.take(b"x")
    assert found == [True]
    assert room.timers.due == {}


def test_a_body_that_is_late_is_waited_for_no_longer(room: Room) -> None:
    found = asked(room, SIZED % 100 + b"x" * 99)
    room.timers.due[LONG]()
    assert found == [False]


def test_a_body_is_read_after_the_wait_as_ever(room: Room) -> None:
    room.take_body(SIZED % 100, 100)
    for _ in range(2):
        room.reading.take(b"x" * 50)
    assert b"".join(room.pieces) == b"x" * 100


def test_who_leaves_while_his_body_is_waited_for_leaves_no_timer(room: Room) -> None:
    room.reading.take(SIZED % 100)
    room.await_head()
    _, body = room.reading.reader.take()

    async def ask() -> None:
        await room.reading.has_come(body, 100, LONG)

    drive = Drive(ask(), room.ended.append)
    drive.step()
    drive.interrupt(Left())
    assert isinstance(room.ended[-1], Left)
    assert room.timers.due == {}


def test_what_comes_behind_a_body_does_not_count_as_missing(room: Room) -> None:
    assert asked(room, SIZED % 100 + b"x" * 100 + HEAD) == [True]


def test_a_body_is_let_come_on_a_connection_that_was_not_read(room: Room) -> None:
    found = asked(room, SIZED % 100)
    room.socket.is_read, room.reading.is_paused = False, True
    room.reading.take(b"x" * 40)
    assert room.socket.is_read
    room.reading.take(b"x" * 60)
    assert found == [True]
