"""The way out: nothing that runs is lost, nothing new is kept waiting."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.listener.connection import ClientConnection
from tests.support.backend import OK, Backend, Connection, obliging, silent
from tests.support.forms import UPLOADS, Upload, form, pdf
from tests.support.gateway import Running, Start, request, submit
from tests.support.jobs import Used, comes_to, ledger_path
from tests.support.waiting import eventually

SLOWLY = {"drain_delay": "2s", "drain_timeout": "5s"}


@asynccontextmanager
async def draining(gateway: Running, at_once: asyncio.Event | None = None) -> AsyncIterator[asyncio.Task[None]]:
    """A drain beside the body of the with; it is over at its end."""
    task = asyncio.get_running_loop().create_task(gateway.gateway.drain(at_once or asyncio.Event()))
    await gateway.says("draining")
    try:
        yield task
    finally:
        async with asyncio.timeout(10):
            await task


async def test_requests_are_served_through_a_drain_and_told_to_go(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown=SLOWLY)
    client = await gateway.connect()
    assert (await client.ask(request())).value(b"connection") is None
    async with draining(gateway):
        status, body = await gateway.admin("/readyz")
        assert (status, '"draining"' in body) == (503, True)
        assert (await gateway.admin("/livez"))[0] == 200
        response = await client.ask(request())
        assert (response.status, response.value(b"connection")) == (200, b"close")
        await client.is_closed()
        newcomer = await gateway.connect()
        response = await newcomer.ask(request())
        assert (response.status, response.value(b"connection")) == (200, b"close")
        refused = await gateway.ask(request(key=None))
        refused.is_refusal(401, "unauthenticated")
        assert refused.value(b"connection") == b"close"
    assert (await gateway.says("drained"))["cut_off"] == 0
    assert len(backend.requests) == 3


async def test_idle_connections_are_closed(start: Start) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"}, listen={"head_timeout": "200ms"})
    used = await gateway.connect()
    assert (await used.ask(request())).status == 200
    unused = await gateway.connect()
    async with draining(gateway):
        await used.is_closed()
        await unused.is_closed()  # by its head_timeout: its first request may be on its way
    assert (await gateway.says("drained"))["cut_off"] == 0
    await gateway.finished(1)


async def test_of_many_connections_a_portion_is_told_at_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.gateway.PORTION", 2)
    told, turns = list[int](), [0]
    close_idle = ClientConnection.close_idle

    def tell(connection: ClientConnection) -> None:
        told.append(turns[0])
        close_idle(connection)

    async def count_turns() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"})
    clients = [await gateway.connect() for _ in range(5)]
    for client in clients:
        assert (await client.ask(request())).status == 200
    monkeypatch.setattr(ClientConnection, "close_idle", tell)
    counting = asyncio.get_running_loop().create_task(count_turns())
    async with draining(gateway):
        for client in clients:
            await client.is_closed()
    counting.cancel()
    assert max(Counter(told).values()) == 2
    assert (await gateway.says("drained"))["cut_off"] == 0


async def test_nobody_new_is_accepted_after_the_delay(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"})
    backend.script = silent
    client = await gateway.connect()
    client.send(request())
    await backend.got(1)
    async with draining(gateway):
        for _ in range(100):
            try:
                newcomer = await gateway.connect()
            except OSError:
                break
            newcomer.abort()
        else:
            pytest.fail("connections are still accepted")
        client.abort()


@pytest.mark.parametrize("waits_for", ["body", "answer"])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upload_under_way_finishes(sort: Upload, waits_for: str, start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"})
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    body = sort.body(b"hello, world")
    half, rest = body[: len(body) // 2], body[len(body) // 2 :]
    client.send(request("POST", sort.target, f"Content-Length: {len(body)}", *sort.headers) + half)
    await backend.connected()
    if waits_for == "answer":
        client.send(rest)
        await backend.got(1)
    async with draining(gateway) as drain:
        await eventually(lambda: gateway.gateway.listeners.public.is_stopped)
        assert not drain.done()
        if waits_for == "body":
            client.send(rest)
        answers.set()
        response = await client.response(b"POST")
        assert (response.status, response.value(b"connection")) == (200, b"close")
        await client.is_closed()
    assert backend.requests[0].body == body
    assert (await gateway.says("drained"))["cut_off"] == 0


async def test_a_released_submit_whose_client_left_finishes(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"})
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    client.send(submit())
    await backend.got(1)
    client.abort()
    async with draining(gateway) as drain:
        await eventually(
            lambda: all(connection.is_gone for connection in gateway.gateway.listeners.connections.all())
        )
        assert not drain.done()
        answers.set()
        (event,) = await gateway.finished(1)
        assert event["reason"] == "client_gone"
    assert (await gateway.says("drained"))["cut_off"] == 0


async def test_a_head_under_way_is_served(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "5s"})
    client = await gateway.connect()
    sent = request()
    client.send(sent[:50])
    await eventually(lambda: gateway.metric("gateway_received_bytes_total") > 0)
    async with draining(gateway):
        response = await client.ask(sent[50:])
        assert (response.status, response.value(b"connection")) == (200, b"close")
    assert len(backend.requests) == 1


async def test_what_takes_too_long_is_cut_off(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "0s", "drain_timeout": "200ms"})
    backend.script = silent
    client = await gateway.connect()
    client.send(request())
    await backend.got(1)
    async with draining(gateway):
        pass
    assert (await gateway.says("drained"))["cut_off"] == 1


@pytest.mark.parametrize("released", [False, True], ids=["within-its-body", "released"])
async def test_a_submit_that_is_cut_off_is_accounted_for(released: bool, start: Start, backend: Backend) -> None:
    """The next gateway finds a place that was given back, or pages that may be owed."""
    backend.script = silent
    shutdown = {"drain_delay": "0s", "drain_timeout": "200ms"}
    sent = submit(form(pdf(3)))
    gateway = await start(shutdown=shutdown)
    client = await gateway.connect()
    client.send(sent if released else sent[:-10])
    await backend.connected()
    await (backend.got(1) if released else eventually(lambda: b"filename" in backend.connections[0].received))
    async with draining(gateway):
        pass
    assert (await gateway.says("drained"))["cut_off"] == 1
    await gateway.end()
    (event,) = gateway.requests
    assert (event["status"], event["reason"]) == (499, "client_gone")
    following = await start(ledger={"url": f"sqlite:///{ledger_path(gateway)}"})
    await comes_to(following, Used(0, 3, 3, 1) if released else Used())


async def test_a_second_signal_ends_it_at_once(start: Start, backend: Backend) -> None:
    gateway = await start(shutdown={"drain_delay": "60s", "drain_timeout": "60s"})
    backend.script = silent
    client = await gateway.connect()
    client.send(request())
    await backend.got(1)
    at_once = asyncio.Event()
    async with draining(gateway, at_once):
        at_once.set()
    assert (await gateway.says("drained"))["cut_off"] == 1
