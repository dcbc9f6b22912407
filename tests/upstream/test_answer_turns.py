"""What is read in turns: all of it, in order, a bounded part in each turn, and nothing while it is paused."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.aio.iteration import MAX_SECONDS, Iteration
from gateway.aio.turn import MAX_BYTES, SLICE
from gateway.upstream.answer_turns import READ, AnswerTurns
from gateway.upstream.response_reader import AnswerReader


class Socket:
    """A transport that says whether it reads."""

    def __init__(self) -> None:
        self.changes = 0

    def reads(self) -> bool:
        """Whether the socket is read."""
        return self.changes % 2 == 0

    def pause_reading(self) -> None:
        """Called when a turn is over, or nobody wants more."""
        assert self.reads()
        self.changes += 1

    def resume_reading(self) -> None:
        """Called when more is wanted."""
        assert not self.reads()
        self.changes += 1

    def get_extra_info(self, name: str) -> None:
        """There is no socket below."""
        del name


class Connection:
    """What a connection is to its turns."""

    def __init__(self, *, is_counted: bool, socket: Socket | None = None) -> None:
        self.iteration = Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)
        self.socket = socket or Socket()
        self.taken: list[bytes] = []
        self.reader = SimpleNamespace(is_counted=is_counted, is_whole=False)
        reader = cast("AnswerReader", self.reader)
        self.turns = AnswerTurns(self.iteration, cast("Any", self.socket), reader, self.take)
        self.chunks = 0

    def take(self, data: bytes) -> int:
        """Says how many chunks were in this."""
        self.taken.append(data)
        return self.chunks


def sizes(connection: Connection) -> list[int]:
    return list(map(len, connection.taken))


@pytest.mark.parametrize(
    ("is_counted", "looks_inside", "size"),
    [(True, False, 40_000), (True, True, READ), (False, False, SLICE), (False, True, SLICE)],
)
async def test_what_is_looked_into_comes_in_slices(is_counted: bool, looks_inside: bool, size: int) -> None:
    connection = Connection(is_counted=is_counted)
    connection.turns.looks_inside = looks_inside
    connection.turns.add(b"0123456789" * 4000)
    assert max(sizes(connection)) == size
    assert b"".join(connection.taken) == b"0123456789" * 4000
    assert not connection.turns.has_unread


async def test_a_turn_ends_by_bytes_and_by_chunks_and_the_rest_has_the_next() -> None:
    connection = Connection(is_counted=False)
    connection.chunks = 1500
    connection.turns.add(b"a" * SLICE + b"b" * SLICE + b"c" * 5)
    assert (sizes(connection), connection.socket.reads()) == ([SLICE, SLICE], False)
    assert connection.turns.has_unread
    connection.turns.add(b"d")  # a transport may deliver once more
    for _ in range(2):
        await asyncio.sleep(0)
    assert b"".join(connection.taken).endswith(b"bcccccd")
    assert connection.socket.reads()
    big = Connection(is_counted=True)
    big.turns.add(b"x" * MAX_BYTES)
    assert (big.socket.reads(), big.turns.has_unread) == (False, True)


async def test_a_pause_lasts_until_it_is_resumed_whatever_the_turns() -> None:
    connection = Connection(is_counted=True)
    connection.turns.pause()
    connection.turns.pause()
    assert (connection.turns.is_paused, connection.socket.reads()) == (True, False)
    connection.turns.resume()
    assert connection.socket.reads()
    connection.turns.add(b"x" * MAX_BYTES)  # the turn is over: it does not read
    connection.turns.pause()
    for _ in range(2):
        await asyncio.sleep(0)
    assert not connection.socket.reads()
    connection.turns.resume()
    assert connection.socket.reads()


async def test_what_waits_when_the_transport_is_lost_is_taken_before_the_end() -> None:
    connection, ended = Connection(is_counted=False), list[int]()
    connection.iteration.add(1.0, 0)
    connection.turns.add(b"x" * (2 * SLICE + 1))
    connection.turns.lose(reads_rest=True)
    connection.turns.finish(lambda: ended.append(sum(sizes(connection))))
    assert (connection.taken, ended) == ([], [])
    for _ in range(6):
        await asyncio.sleep(0)
    assert sizes(connection) == [SLICE, SLICE, 1]
    assert ended == [2 * SLICE + 1]


class Patient(Socket):
    """One that may be told twice, as transports may."""

    def pause_reading(self) -> None:
        """Called when a turn is over, or nobody wants more."""
        self.changes = 1

    def resume_reading(self) -> None:
        """Called when more is wanted."""
        self.changes = 0


class Costly(Connection):
    """One of many of one loop: what it takes costs time."""

    SECONDS = 0.0002

    def __init__(self, iteration: Iteration, seconds: list[float]) -> None:
        super().__init__(is_counted=True, socket=Patient())
        self.seconds = seconds
        self.turns = AnswerTurns(iteration, cast("Any", self.socket), cast("AnswerReader", self.reader), self.take)
        self.turns.looks_inside = True

    def take(self, data: bytes) -> int:
        """Advances the clock."""
        self.seconds[0] += self.SECONDS
        return super().take(data)


async def until_all_were_served(iteration: Iteration) -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not iteration.is_scheduled


async def test_of_many_clients_that_read_on_at_once_most_wait_for_a_turn() -> None:
    seconds = [0.0]
    iteration = Iteration(lambda: seconds[0], asyncio.get_running_loop().call_soon)
    connections = [Costly(iteration, seconds) for _ in range(400)]  # as many requests as an account has by default
    iteration.add(1.0, 0)
    for connection in connections:
        connection.turns.add(b"x" * 10 * READ)
        connection.turns.pause()
    await until_all_were_served(iteration)
    assert sum(len(sizes(connection)) for connection in connections) == 0
    for connection in connections:
        connection.turns.resume()
    assert seconds[0] <= 2 * MAX_SECONDS + 4 * Costly.SECONDS
    await until_all_were_served(iteration)
    assert all(sizes(connection) == [READ] * 10 for connection in connections)
    assert all(connection.socket.reads() and not connection.turns.has_unread for connection in connections)


class Behind(Connection):
    """One whose sink has so many steps to do after each piece. Each takes a millisecond."""

    def __init__(self, steps: int) -> None:
        super().__init__(is_counted=True, socket=Patient())
        self.now = 0.0
        self.iteration.clock = lambda: self.now
        self.turns.looks_inside = True
        self.steps, self.left = steps, 0
        self.in_turn, self.most_in_turn = 0, 0

    def take(self, data: bytes) -> int:
        """Gets the next piece, with nothing left of the one before."""
        assert self.left == 0
        self.left, self.turns.behind = self.steps, self.go_on
        return super().take(data)

    def go_on(self) -> bool:
        """Does a step."""
        self.left -= 1
        self.in_turn += 1
        self.most_in_turn = max(self.most_in_turn, self.in_turn)
        self.now += 0.001
        return self.left > 0


async def test_a_sink_that_is_behind_catches_up_in_turns_before_it_gets_more() -> None:
    """Of each coded answer 16 MB waited to be undone."""
    behind = Behind(steps=10)
    behind.turns.add(b"x" * 3 * READ)
    assert (sizes(behind), behind.socket.reads()) == ([READ], False)
    for _ in range(40):
        behind.in_turn = 0
        await asyncio.sleep(0)
    assert (sizes(behind), behind.left, behind.socket.reads()) == ([READ] * 3, 0, True)
    assert behind.most_in_turn <= 4


async def test_a_sink_that_is_behind_gets_what_is_not_cut_no_sooner_and_a_pause_lasts() -> None:
    behind = Behind(steps=2)
    behind.turns.add(b"x")
    behind.turns.pause()
    for _ in range(4):
        await asyncio.sleep(0)
    assert (behind.left, behind.socket.reads()) == (2, False)
    behind.turns.resume()
    assert (behind.left, behind.socket.reads()) == (0, True)


async def test_behind_the_end_of_an_answer_nobody_is_waited_for() -> None:
    behind = Behind(steps=2)
    behind.reader.is_whole = True
    behind.turns.add(b"x")
    assert (behind.left, behind.socket.reads(), behind.turns.has_unread) == (2, True, False)


async def test_what_is_dropped_is_taken_by_nobody() -> None:
    connection, ended = Connection(is_counted=False), list[bool]()
    connection.iteration.add(1.0, 0)
    connection.turns.add(b"x" * SLICE)
    connection.turns.drop()
    connection.turns.lose(reads_rest=False)
    connection.turns.finish(lambda: ended.append(True))
    for _ in range(4):
        await asyncio.sleep(0)
    assert (connection.taken, ended) == ([], [True])
