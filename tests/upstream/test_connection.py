"""An upstream connection before a scripted upstream, in every order of events that Hypothesis finds.

The invariant: on no connection does the upstream ever see a request that was not sent as one. What it sees is what
h11, a parser that is not the gateway's, makes of the bytes; what was sent is what the exchanges meant.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.aio.drive import Drive
from gateway.aio.iteration import MAX_SECONDS as MAX_SECONDS_OF_ALL
from gateway.aio.iteration import Iteration
from gateway.aio.turn import MAX_SECONDS
from gateway.errors import UpstreamBrokeOff
from gateway.upstream.body_sink import BodySink
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool
from gateway.upstream.target import UpstreamTarget
from tests.support.loop import Loop
from tests.support.pure import examples

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b",
    b"HTTP/1.1 100 A\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-T: a\r\n\r\n",
]


def nobody(connection: UpstreamConnection) -> None:
    """Is told of lost connections, and does not mind."""


def flow(connection: UpstreamConnection, sink: BodySink, *, looks_inside: bool = False) -> list[BaseException | None]:
    """Hands the body to a sink; holds how that ended, once it has."""
    ended: list[BaseException | None] = []
    Drive(connection.flow(sink, looks_inside=looks_inside), ended.append).step()
    return ended


SURPLUS = [b"x", b"\r\n", ANSWERS[0] % (6, b"poison"), b"HTTP/1.1 100 Continue\r\n\r\n"]


class Wire(asyncio.Transport):
    """The far end of a connection: keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_cut = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        if not self.is_cut:
            self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def abort(self) -> None:
        self.is_cut = True

    def is_closing(self) -> bool:
        return self.is_cut

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Back-pressure is not what is looked at here."""

    def pause_reading(self) -> None:
        """Likewise."""

    def resume_reading(self) -> None:
        """Likewise."""


@dataclass
class Request:
    """One request as it was meant; `said` is what its answer will hold."""

    target: bytes
    length: int | None
    said: bytes
    body: bytes = b""
    got: list[bytes] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        self.got.append(data)

    @property
    def head(self) -> bytes:
        framing = b"Transfer-Encoding: chunked" if self.length is None else b"Content-Length: %d" % self.length
        return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (self.target, framing)


class Line:
    """One connection, what was meant on it, and what the upstream saw and has still to say."""

    def __init__(self, lost: Any, iteration: Iteration) -> None:
        self.wire = Wire()
        self.is_lost = False
        self.connection = UpstreamConnection(lost, {}, iteration)
        self.connection.connection_made(self.wire)
        self.requests: list[Request] = []
        self.to_say = b""
        self._parser = h11.Connection(h11.SERVER)
        self._target = self._body = b""
        self._seen: list[tuple[bytes, bytes]] = []

    def seen(self) -> list[tuple[bytes, bytes]]:
        """Target and body of each request that the upstream saw whole; fails when there is anything else."""
        data, self.wire.written = self.wire.written, b""
        if data:
            self._parser.receive_data(data)
        while data:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Request):
                self._target, self._body = bytes(event.target), b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage)
                self._seen.append((self._target, self._body))
                self._parser.send(h11.Response(status_code=204, headers=[]))
                self._parser.send(h11.EndOfMessage())
                self._parser.start_next_cycle()
        return self._seen

    def hear(self, data: bytes) -> None:
        """Bytes of the upstream come, as long as the loop would bring them."""
        if not self.wire.is_cut and not self.is_lost:
            self.connection.data_received(data)

    def lose(self, error: Exception | None = None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.connection.connection_lost(error)


class Exchanges(RuleBasedStateMachine):
    """One exchange at a time, over connections that a real pool hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.iteration = Iteration(lambda: 0.0, self.loop.call_soon)
        target = UpstreamTarget("http", "a", 80, "a", 1.0, 1.0, 1.0, "/", 1.0)
        self.pool = Pool(target, self.loop, self.iteration)
        self.lines: list[Line] = []
        self.line: Line | None = None
        self.count = 0
        self.flows = False

    @property
    def now(self) -> Line:
        assert self.line is not None
        return self.line

    @property
    def request(self) -> Request:
        return self.now.requests[-1]

    is_busy = precondition(lambda self: self.line is not None)
    is_free = precondition(lambda self: self.line is None)

    @is_free
    @rule(length=st.sampled_from([0, 3, 20, None]), size=st.integers(0, 30), form=st.sampled_from(ANSWERS))
    def ask(self, length: int | None, size: int, form: bytes) -> None:
        reused = self.pool.take_idle(0.0)
        line = next((line for line in self.lines if line.connection is reused), None)
        if line is None:
            line = Line(nobody, self.iteration)
            self.lines.append(line)
        assert [(request.target, request.body) for request in line.requests] == line.seen()
        self.count += 1
        request = Request(b"/%d" % self.count, length, b"for %d: " % self.count + b"x" * size)
        line.connection.ask(request.head, length, bodiless=False)
        line.requests.append(request)
        line.to_say = form % (len(request.said), request.said)
        self.line, self.flows = line, False

    @precondition(lambda self: self.line is not None and self.line.connection.wants_body)
    @rule(size=st.integers(1, 20), is_all=st.sampled_from([True, False, True]))
    def send(self, size: int, is_all: bool) -> None:
        request, connection = self.request, self.now.connection
        left = size if request.length is None else request.length - len(request.body)
        data = b"b" * (left if is_all else min(size, left))
        request.body += data
        connection.send(data)
        if is_all:
            connection.send_end()

    @precondition(lambda self: self.line is not None and self.line.connection.head is not None and not self.flows)
    @rule(looks_inside=st.booleans())
    def flow(self, looks_inside: bool) -> None:
        self.flows = True
        flow(self.now.connection, self.request, looks_inside=looks_inside)

    @precondition(lambda self: self.line is not None and self.line.to_say)
    @rule(size=st.integers(1, 80), is_all=st.sampled_from([True, False, True]))
    def say(self, size: int, is_all: bool) -> None:
        """The upstream says more of its answer, before, within or behind the request."""
        line = self.now
        data = line.to_say if is_all else line.to_say[:size]
        line.to_say = line.to_say[len(data) :]
        line.hear(data)

    @precondition(lambda self: any(line.wire.is_cut and not line.is_lost for line in self.lines))
    @rule()
    def notice_cuts(self) -> None:
        """The loop tells of connections that were aborted, a turn later."""
        for line in self.lines:
            if line.wire.is_cut:
                line.lose()

    @precondition(lambda self: self.line is not None and self.line.connection.failure is not None)
    @rule()
    def fail(self) -> None:
        self.give_up()

    @is_busy
    @rule(what=st.sampled_from(["surplus", "close", "reset", "fill", "give_up"]), surplus=st.sampled_from(SURPLUS))
    def disturb(self, what: str, surplus: bytes) -> None:
        line = self.now
        if what == "surplus":
            said, line.to_say = line.to_say, b""
            line.hear(said + surplus)
            assert not line.connection.is_reusable
        elif what == "fill":
            line.wire.unsent = 1 - line.wire.unsent  # what was written stays in the transport's buffer, or not
        elif what == "give_up":
            self.give_up()
        else:
            line.lose(ConnectionResetError() if what == "reset" else None)

    @is_free
    @precondition(lambda self: self.lines)
    @rule(pick=st.integers(0, 3), surplus=st.sampled_from([*SURPLUS, None]))
    def disturb_idle(self, pick: int, surplus: bytes | None) -> None:
        line = self.lines[-1 - pick % len(self.lines)]
        if surplus is None:
            line.lose()
        else:
            line.hear(surplus)

    def give_up(self) -> None:
        self.pool.discard(self.now.connection)
        self.line = None

    @precondition(lambda self: self.line is not None and self.line.connection.is_answered)
    @rule()
    def end(self) -> None:
        line, connection, request = self.now, self.now.connection, self.request
        if not self.flows:
            flow(connection, request)
        assert b"".join(request.got) == request.said
        self.pool.give_back(connection, 0.0)
        is_whole = (request.target, request.body) in line.seen()
        assert is_whole or line.wire.is_cut or line.is_lost, "a connection that owes a body is kept"
        self.line = None

    @invariant()
    def no_request_that_was_not_sent_as_one(self) -> None:
        for line in self.lines:
            seen = line.seen()
            assert seen == [(request.target, request.body) for request in line.requests[: len(seen)]]
            assert len(seen) >= len(line.requests) - 1

    @invariant()
    def nothing_wanted_by_one_that_is_lost(self) -> None:
        for line in self.lines:
            assert not (line.connection.wants_body and (line.is_lost or line.wire.is_cut))

    @invariant()
    def no_answer_of_another(self) -> None:
        for line in self.lines:
            for request in line.requests:
                assert request.said.startswith(b"".join(request.got))

    def teardown(self) -> None:
        self.loop.close()


Exchanges.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=40, deadline=None)
TestExchanges = Exchanges.TestCase


# Single moves


def line_asked(length: int | None = 0) -> Line:
    line = Line(nobody, Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon))
    line.requests.append(Request(b"/1", length, b""))
    line.connection.ask(line.requests[0].head, length, bodiless=False)
    return line


async def test_it_says_how_it_stands() -> None:
    line = Line(nobody, Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon))
    assert repr(line.connection) == "<UpstreamConnection ours=IDLE theirs=IDLE>"
    line = line_asked(5)
    assert repr(line.connection) == "<UpstreamConnection ours=SENDING_BODY theirs=HEAD>"
    line.lose()
    assert repr(line.connection) == "<UpstreamConnection ours=CLOSED theirs=CLOSED lost>"


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_connection_that_ended_before_it_was_used_was_not_reached(speaks: bool) -> None:
    line = Line(nobody, Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon))
    if speaks:
        line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    else:
        line.lose()
    with pytest.raises(UpstreamBrokeOff) as caught:
        line.connection.ask(b"GET / HTTP/1.1\r\n\r\n", 0, bodiless=False)
    assert not caught.value.arrived


async def test_chunks_of_one_byte_wait_for_their_turn() -> None:
    line = line_asked()
    turns = 0
    chunks = 20_000
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    flow(line.connection, line.requests[0])
    line.connection.data_received(b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
    most = before = len(b"".join(line.requests[0].got))
    while not line.connection.is_answered:
        await asyncio.sleep(0)
        turns += 1
        got = sum(map(len, line.requests[0].got))
        most, before = max(most, got - before), got
    assert before == chunks
    assert most <= 4_000
    assert turns >= 5
    assert len(line.requests[0].got) < 200  # joined: a client pays no write for each
    assert line.connection.is_reusable


class Slow:
    """Reads what it takes, a megabyte in a second of its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.got = b""

    def take(self, data: bytes) -> None:
        self.now += len(data) / 1_000_000
        self.got += data


READ_AT_ONCE = 20_000


@pytest.mark.parametrize("form", [ANSWERS[0], ANSWERS[2]], ids=["length", "chunk"])
@pytest.mark.parametrize("when", ["before", "between", "behind"])
async def test_one_that_reads_a_body_gets_little_of_it_at_once_whenever_it_comes(form: bytes, when: str) -> None:
    """What a scanner costs depends on what it is given: a whole read of it once held everybody for 0.1 s."""
    reader, said = Slow(), bytes(range(256)) * 400
    line = Line(nobody, Iteration(lambda: reader.now, asyncio.get_running_loop().call_soon))
    line.connection.ask(Request(b"/1", 0, b"").head, 0, bodiless=False)
    wire = form % (len(said), said)
    cut = {"before": 60, "between": 50_000, "behind": len(wire)}[when]
    line.connection.data_received(wire[:cut])
    for _ in range(20):
        await asyncio.sleep(0)
    is_reusable: list[bool] = []

    async def exchange() -> None:
        await line.connection.flow(reader, looks_inside=True)
        is_reusable.append(line.connection.is_reusable)

    ended: list[BaseException | None] = []
    Drive(exchange(), ended.append).step()
    takes = [0, len(reader.got)]
    line.connection.data_received(wire[cut:])
    while not ended:
        takes.append(len(reader.got))
        await asyncio.sleep(0)
        takes.append(len(reader.got))
    assert (ended, is_reusable) == ([None], [True])
    assert reader.got == said
    assert max(after - before for before, after in pairwise(takes)) <= READ_AT_ONCE + MAX_SECONDS * 1_000_000


async def test_one_whose_body_has_waited_for_its_turn_carries_another_exchange() -> None:
    reader, is_reusable = Slow(), []
    line = Line(nobody, Iteration(lambda: reader.now, asyncio.get_running_loop().call_soon))
    line.connection.ask(Request(b"/1", 0, b"").head, 0, bodiless=False)

    async def exchange() -> None:
        await line.connection.answered
        reader.now += 1.0  # what is done at the head takes all of the turn
        await line.connection.flow(reader, looks_inside=True)
        is_reusable.append(line.connection.is_reusable)

    Drive(exchange(), lambda _: None).step()
    line.connection.data_received(ANSWERS[2] % (5, b"hello"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (reader.got, is_reusable) == (b"hello", [True])


async def test_what_fails_while_the_body_waits_for_its_turn_is_told_behind_it() -> None:
    reader = Slow()
    line = Line(nobody, Iteration(lambda: reader.now, asyncio.get_running_loop().call_soon))
    line.connection.ask(Request(b"/1", 0, b"").head, 0, bodiless=False)
    line.connection.data_received(ANSWERS[0] % (100_000, b"x" * 60_000))
    ended = flow(line.connection, reader, looks_inside=True)
    line.lose()
    for _ in range(20):
        await asyncio.sleep(0)
    assert ended == [line.connection.failure]
    assert len(reader.got) == 60_000
    assert line.connection.failure is not None


@pytest.mark.parametrize("looks_inside", [False, True])
async def test_what_came_a_byte_at_a_time_before_somebody_wanted_it_is_handed_on_as_one(looks_inside: bool) -> None:
    """120,000 pieces, sent while the request's body was on its way, held everybody for 350 ms."""
    line = line_asked()
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n")
    for place in range(30_000):
        line.connection.data_received(b"%d" % (place % 10))
    assert not line.connection.is_held_whole
    ended = flow(line.connection, line.requests[0], looks_inside=looks_inside)
    assert ended == [None]
    assert b"".join(line.requests[0].got) == b"0123456789" * 3000
    assert len(line.requests[0].got) <= 2


async def test_what_nobody_reads_passes_whole() -> None:
    line = line_asked()
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
    flow(line.connection, line.requests[0])
    line.connection.data_received(b"x" * 300_000)
    assert list(map(len, line.requests[0].got)) == [300_000]


async def test_what_waits_for_its_turn_is_taken_when_the_connection_ends() -> None:
    line = line_asked()
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    flow(line.connection, line.requests[0])
    line.connection.data_received(b"1\r\nx\r\n" * 9_000)
    line.connection.data_received(b"0\r\n\r\n")
    line.lose()
    known = [line.connection.is_answered]
    for _ in range(8):
        await asyncio.sleep(0)
        known.append(line.connection.is_answered)
    assert (known[0], known[-1]) == (False, True)  # a slice in each turn: it is no longer for being the last
    assert sum(map(len, line.requests[0].got)) == 9_000


async def test_while_a_turn_is_over_nobody_else_gets_the_connection() -> None:
    """What follows the answer may have come, and is not looked at before the next turn."""
    line = line_asked()
    line.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n")
    flow(line.connection, line.requests[0])
    line.connection.data_received(b"x" * 600_000)
    is_reusable = [line.connection.is_reusable]
    assert line.connection.is_answered
    for _ in range(2):
        await asyncio.sleep(0)
    is_reusable.append(line.connection.is_reusable)
    assert is_reusable == [False, True]
    line.connection.recycle()
    assert line.connection.is_idle


async def test_one_that_is_lost_wants_no_more_of_a_body_though_its_end_waits_for_a_turn() -> None:
    iteration = Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)
    line = Line(nobody, iteration)
    line.requests.append(Request(b"/1", None, b""))
    line.connection.ask(line.requests[0].head, None, bodiless=False)
    wanted = [line.connection.wants_body]
    iteration.add(1.0, 0)
    line.lose()
    wanted.append(line.connection.wants_body)
    has_failed = [line.connection.failure is not None]
    for _ in range(3):
        await asyncio.sleep(0)
    wanted.append(line.connection.wants_body)
    has_failed.append(line.connection.failure is not None)
    assert (wanted, has_failed) == ([True, False, False], [False, True])


async def test_one_whose_transport_is_closing_wants_no_more_of_a_body() -> None:
    line = line_asked(None)
    line.wire.abort()
    assert not line.connection.wants_body


async def test_answers_that_come_when_no_time_is_left_wait_for_their_turn() -> None:
    """Many may be answered, or lost, in one iteration of the loop."""
    iteration = Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)
    lines = [Line(nobody, iteration) for _ in range(2)]
    for line in lines:
        line.requests.append(Request(b"/1", 0, b""))
        line.connection.ask(line.requests[0].head, 0, bodiless=False)
    iteration.add(1.0, 0)
    lines[0].connection.data_received(ANSWERS[0] % (2, b"ok"))
    lines[1].lose()
    told = [(line.connection.is_answered, line.connection.failure is not None) for line in lines]
    assert told == [(False, False)] * 2
    for _ in range(3):
        await asyncio.sleep(0)
    assert lines[0].connection.is_answered
    assert lines[1].connection.failure is not None
    assert lines[0].connection.is_reusable


async def test_uploads_that_may_go_on_at_the_same_moment_share_an_iteration() -> None:
    """Four hundred did so in one iteration when a container read on from all of them: a piece of each was sent."""
    loop, gone_on, ended = Loop(), list[int](), list[BaseException | None]()
    iteration = Iteration(loop.clock, loop.call_soon)
    lines = [Line(nobody, iteration) for _ in range(4)]

    async def upload(number: int, connection: UpstreamConnection) -> None:
        while connection.writing_paused:
            await connection.writable
        loop.now += 2 * MAX_SECONDS_OF_ALL
        gone_on.append(number)

    for number, line in enumerate(lines):
        line.connection.pause_writing()
        Drive(upload(number, line.connection), ended.append).step()
    for line in lines:
        line.connection.resume_writing()
    lines[2].connection.pause_writing()
    for expected in ([0], [0, 1], [0, 1, 3]):
        assert gone_on == expected
        loop.iterate()
    lines[2].connection.resume_writing()
    assert gone_on == [0, 1, 3, 2]
    assert ended == [None] * 4
