"""Requests of the gateway's own, over real sockets: a whole answer, or why there is none, told once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.errors import UpstreamBrokeOff, UpstreamFailed, UpstreamTimeout, UpstreamUnreachable
from gateway.jobs.retention import DroppedAnswer
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.pool import Upstreams
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget
from tests.support.backend import Backend, Connection, Script, answer, answering, chunked, closing_after, silent
from tests.support.iteration import iteration_now
from tests.support.waiting import Facts

GET = UpstreamCall("GET", "/api/v1/marker/job")
OK = answer(b'{"status": "processing"}', b"Content-Type: application/json")


class Asked:
    """One errand: what was taken of the answer, and what `done` was told."""

    def __init__(self, office: "Office", call: UpstreamCall, within: float, longest: float | None) -> None:
        self.body = b""
        self.head: ResponseHead | None = None
        self.has_ended = False
        self.told: list[ResponseHead | UpstreamFailed] = []
        self._office = office
        office.upstream_client.run(office.target, call, self, within, self._done, longest=longest)

    def begin(self, head: ResponseHead) -> None:
        assert self.head is None
        self.head = head

    def take(self, data: bytes) -> None:
        self.body += data

    async def end(self) -> None:
        await asyncio.sleep(0)
        self.has_ended = True

    def _done(self, outcome: ResponseHead | UpstreamFailed) -> None:
        self.told.append(outcome)
        self._office.facts.changed()

    async def over(self) -> ResponseHead | UpstreamFailed:
        """Waits until it is, and for whatever should not come behind that."""
        await self._office.facts.until(lambda: bool(self.told))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(self.told) == 1
        return self.told[0]

    async def answered(self) -> ResponseHead:
        outcome = await self.over()
        assert isinstance(outcome, ResponseHead)
        assert (self.head, self.has_ended) == (outcome, True)
        return outcome

    async def failed(self) -> UpstreamFailed:
        outcome = await self.over()
        assert isinstance(outcome, UpstreamFailed)
        return outcome


class Office:
    """UpstreamClient to one upstream, on a clock that tests move."""

    def __init__(self, port: int) -> None:
        self.now = 100.0
        self.facts = Facts()
        self.upstreams = Upstreams(asyncio.get_running_loop(), iteration_now())
        self.upstream_client = UpstreamClient(self.upstreams, lambda: self.now, lambda: "f" * 32)
        self.target = UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 5.0, 5.0, 3.0, "/health", 3.0)

    def run(self, call: UpstreamCall = GET, within: float = 10.0, longest: float | None = None) -> Asked:
        return Asked(self, call, within, longest)


@pytest.fixture
async def office(backend: Backend) -> AsyncIterator[Office]:
    made = Office(backend.port)
    yield made
    made.upstream_client.close()
    assert repr(made.upstream_client) == "<UpstreamClient running=0>"
    made.upstreams.close()


async def test_it_asks_and_takes_the_answer(office: Office, backend: Backend) -> None:
    backend.script = answering(OK)
    asked = office.run()
    assert (await asked.answered()).status == 200
    assert asked.body == b'{"status": "processing"}'
    (request,) = backend.requests
    assert (request.method, request.target, request.body) == (b"GET", b"/api/v1/marker/job", b"")
    assert request.headers == [
        (b"host", office.target.authority.encode()),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"x-request-id", b"f" * 32),
        (b"via", b"1.1 gateway"),
    ]


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 Internal Server Error", b"302 Found"])
async def test_any_status_is_an_answer(office: Office, backend: Backend, status: bytes) -> None:
    backend.script = answering(answer(b"text", status=status))
    asked = office.run()
    assert (await asked.answered()).status == int(status[:3])
    assert asked.body == b"text"


async def test_what_changes_something_gets_a_connection_of_its_own(office: Office, backend: Backend) -> None:
    backend.script = answering(answer(b""))
    await office.run().answered()
    await office.run(UpstreamCall("POST", "/clear", b'{"id": "job"}')).answered()
    await office.run(UpstreamCall("DELETE", "/job")).answered()
    assert [len(connection.requests) for connection in backend.connections] == [1, 1, 1]
    request = backend.requests[1]
    assert (request.method, request.body) == (b"POST", b'{"id": "job"}')
    assert request.value(b"content-type") == b"application/json"
    assert request.value(b"content-length") == b"13"
    assert backend.requests[2].value(b"content-length") is None


async def test_what_was_not_sent_in_time_is_not_sent(office: Office, backend: Backend) -> None:
    backend.script = answering(OK)
    assert (await office.run(UpstreamCall("DELETE", "/job", None, 100.1)).answered()).status == 200
    failure = await office.run(UpstreamCall("DELETE", "/job", None, 100.0)).failed()
    assert isinstance(failure, UpstreamTimeout)
    assert len(backend.requests) == 1


async def test_connections_are_used_again_while_they_surely_stand(office: Office, backend: Backend) -> None:
    backend.script = answering(OK)
    for _ in range(3):
        await office.run().answered()
    assert len(backend.connections) == 1
    office.now += 3.0
    await office.run().answered()
    assert len(backend.connections) == 2


async def test_one_that_was_closed_while_it_was_idle_is_replaced(office: Office, backend: Backend) -> None:
    async def once(connection: Connection) -> None:
        await connection.request()
        connection.send(OK)
        await connection.request()
        connection.finish()

    backend.script = once
    await office.run().answered()
    backend.script = answering(OK)
    assert (await office.run().answered()).status == 200
    assert [len(connection.requests) for connection in backend.connections] == [2, 1]


async def test_one_that_broke_off_within_its_answer_is_not_asked_again(office: Office, backend: Backend) -> None:
    async def half(connection: Connection) -> None:
        await connection.request()
        connection.send(OK)
        await connection.request()
        connection.send(OK[:60])
        connection.finish()

    backend.script = half
    await office.run().answered()
    failure = await office.run().failed()
    assert isinstance(failure, UpstreamBrokeOff)
    assert failure.arrived
    assert len(backend.connections) == 1


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (chunked(b"one", b"two"), b"onetwo"),
        (answer(b""), b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b'{"status": "processing"}'),
        (answer(b"x" * 400_000), b"x" * 400_000),
    ],
    ids=["chunked", "empty", "204", "interim", "large"],
)
async def test_answers_of_every_kind(office: Office, backend: Backend, raw: bytes, body: bytes) -> None:
    backend.script = answering(raw)
    for _ in range(2):
        asked = office.run()
        await asked.answered()
        assert asked.body == body


async def test_an_answer_that_ends_with_its_connection_is_whole(office: Office, backend: Backend) -> None:
    backend.script = closing_after(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    asked = office.run()
    assert (await asked.answered()).status == 200
    assert asked.body == b"all of it"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"HTTP/1.1 200 OK\r\nContent-Le", answer(b"whole")[:-1], b"SSH-2.0-OpenSSH\r\n\r\n", OK[:-20],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "head", "short", "ssh", "cut", "lengths", "chunk", "huge"],
)  # fmt: skip
async def test_what_is_no_whole_answer_is_none(office: Office, backend: Backend, raw: bytes) -> None:
    backend.script = closing_after(raw)
    assert isinstance(await office.run().failed(), UpstreamBrokeOff)
    await backend.all_closed()
    assert len(office.upstreams.pool_of(office.target)) == 0


async def test_an_upstream_that_is_away_is_unreachable(office: Office, backend: Backend) -> None:
    await backend.hang_up()
    assert isinstance(await office.run().failed(), UpstreamUnreachable)


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf"])
async def test_silence_is_not_waited_for(office: Office, backend: Backend, begins: bytes) -> None:
    async def slow(connection: Connection) -> None:
        await connection.request()
        connection.send(begins)
        await silent(connection)

    backend.script = slow
    assert isinstance(await office.run(within=0.05).failed(), UpstreamTimeout)
    await backend.all_closed()


async def test_bytes_without_end_are_not_waited_for(office: Office, backend: Backend) -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not connection.ended:
            await connection.sent(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await asyncio.sleep(0)

    backend.script = endless
    assert isinstance(await office.run(within=0.2).failed(), UpstreamTimeout)
    await backend.all_closed()


def dripping(pieces: int, size: int, pause: float) -> Script:
    """An answer of so many pieces, with a pause after each."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * size))
        for _ in range(pieces):
            if connection.ended:
                return
            connection.send(b"x" * size)
            await asyncio.sleep(pause)
        await silent(connection)

    return script


async def test_a_long_answer_has_the_time_that_it_needs_while_it_comes(office: Office, backend: Backend) -> None:
    """A result of 200 MB over a slow network was cut after 30 s, however much had come, and fetched anew."""
    backend.script = dripping(10, 100_000, 0.1)
    asked = office.run(within=0.6, longest=30.0)
    await asked.answered()
    assert len(asked.body) == 1_000_000
    assert isinstance(await office.run(within=0.6).failed(), UpstreamTimeout)


@pytest.mark.parametrize(
    ("script", "longest"),
    [(dripping(100, 1, 0.05), 30.0), (dripping(100, 100_000, 0.05), 0.5), (dripping(2, 100_000, 5.0), 30.0)],
    ids=["slower than the least rate", "longer than it may", "silent in between"],
)
async def test_what_comes_too_slowly_is_not_waited_for(
    office: Office, backend: Backend, script: Script, longest: float
) -> None:
    backend.script = script
    asked = office.run(within=0.2, longest=longest)
    async with asyncio.timeout(3.0):
        assert isinstance(await asked.failed(), UpstreamTimeout)
    assert asked.body
    await backend.all_closed()


async def test_a_connection_that_is_not_made_in_time_is_not_waited_for(office: Office) -> None:
    office.target = replace(office.target, host="192.0.2.1")  # nobody is there (RFC 5737)
    assert isinstance(await office.run(within=0.05).failed(), UpstreamFailed)


async def test_many_at_once_do_not_mix(office: Office, backend: Backend) -> None:
    async def echo(connection: Connection) -> None:
        while True:
            connection.send(answer((await connection.request()).target))

    backend.script = echo
    upstream_client = [office.run(UpstreamCall("GET", f"/job-{number}")) for number in range(50)]
    for number, asked in enumerate(upstream_client):
        await asked.answered()
        assert asked.body == b"/job-%d" % number
    assert repr(office.upstream_client) == "<UpstreamClient running=0>"


async def test_closing_gives_up_what_runs_and_tells_nobody(office: Office, backend: Backend) -> None:
    backend.script = silent
    asked = [office.run(within=0.1) for _ in range(3)]
    await backend.got(3)
    late = office.run(within=0.1)  # it still connects
    office.upstream_client.close()
    assert repr(office.upstream_client) == "<UpstreamClient running=0>"
    await backend.all_closed()
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.15, over.set_result, None)
    await over
    assert [one.told for one in (*asked, late)] == [[]] * 4


async def test_a_sink_that_fails_is_told_as_a_failure(office: Office, backend: Backend) -> None:
    """A fault of ours must not leave whoever asked waiting for ever."""
    backend.script = answering(answer(b"x" * 200_000))
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(str(context["exception"])))
    told: list[ResponseHead | UpstreamFailed] = []

    class Failing(DroppedAnswer):
        def take(self, data: bytes) -> None:
            raise ValueError(len(data))

    office.upstream_client.run(office.target, GET, Failing(), 5.0, told.append)
    asked = office.run()
    await asked.answered()
    await office.facts.until(lambda: bool(told))
    assert isinstance(told[0], UpstreamBrokeOff)
    assert failures
    assert repr(office.upstream_client) == "<UpstreamClient running=0>"
