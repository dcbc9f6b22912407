import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient, AiohttpRawServer
from structlog.testing import capture_logs

from gateway.aio.bounded_connector import BoundedConnector
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import PAUSE
from gateway.tls.dev_certificates import make_development_certificates
from gateway.upstream.health import HealthProbe, probe
from gateway.upstream.target import UpstreamTarget
from tests.support.iteration import iteration_now

MOST = 50_000_000  # bytes


def target_at(port: int) -> UpstreamTarget:
    return UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 1.0, 1.0, 1.0, "/health_check", 3.0)


Upstream = Callable[[int], Awaitable[int]]


async def answer_with(status: int, request: web.BaseRequest) -> web.Response:
    assert request.path == "/health_check"
    return web.Response(status=status, headers={"Location": "/elsewhere"})


@pytest.fixture
def upstream(aiohttp_raw_server: AiohttpRawServer) -> Upstream:
    """Begins a container whose health has this status; gives its port."""

    async def begin(status: int) -> int:
        return (await aiohttp_raw_server(partial(answer_with, status))).port or 0

    return begin


@pytest.mark.parametrize(
    ("status", "problem"),
    [(200, None), (503, "/health_check answers 503"), (302, "/health_check answers 302")],
)
async def test_only_a_200_is_health(
    aiohttp_raw_server: AiohttpRawServer, aiohttp_client: AiohttpClient, status: int, problem: str | None
) -> None:
    client: TestClient[Any, Any] = await aiohttp_client(await aiohttp_raw_server(partial(answer_with, status)))
    assert await probe(client.session, target_at(client.port or 0)) == problem


async def test_nobody_there_is_a_problem(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        assert await probe(session, target_at(unused_tcp_port)) == "no answer (no connection)"


@pytest.mark.usefixtures("plain_log")
@pytest.mark.parametrize(("status", "event"), [(200, "upstream is up"), (500, "upstream is down")])
async def test_the_first_look_is_told_either_way(upstream: Upstream, status: int, event: str) -> None:
    port = await upstream(status)
    health = HealthProbe(lambda: {"default": target_at(port)}, iteration_now())
    assert not health.is_up
    events = await first_look(health)
    assert [(entry["event"], entry["upstream"]) for entry in events] == [(event, "default")]
    assert health.is_up is (status == 200)
    assert list(health.collect()) == []  # gateway_upstream_up says it all


async def first_look(health: HealthProbe, count: int = 1) -> Sequence[MutableMapping[str, Any]]:
    """What is told of the first time that all are asked."""
    with capture_logs() as events:
        task = asyncio.get_running_loop().create_task(health.run())
        async with asyncio.timeout(10):
            while len(events) < count:  # noqa: ASYNC110 -- capture_logs tells nobody
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return events


@pytest.mark.usefixtures("plain_log")
@pytest.mark.parametrize(("statuses", "is_up"), [((200, 200), True), ((200, 503), False), ((503, 200), False)])
async def test_of_several_upstreams_all_must_be_up(
    upstream: Upstream, statuses: tuple[int, int], is_up: bool
) -> None:
    one = await upstream(statuses[0])
    two = await upstream(statuses[1])
    health = HealthProbe(lambda: {"default": target_at(one), "two": target_at(two)}, iteration_now())
    events = await first_look(health, count=2)
    assert [entry["upstream"] for entry in events] == ["default", "two"]
    assert health.is_up is is_up
    (family,) = health.collect()
    assert family.name == "gateway_upstream_healthy"
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"upstream": name}, status == 200) for name, status in zip(("default", "two"), statuses, strict=True)
    ]


@pytest.mark.usefixtures("plain_log")
async def test_a_few_begin_in_one_turn_of_the_loop(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred held all requests for 30 ms."""
    begun = 0

    class Counted(BoundedConnector):
        def __init__(self, *given: Any, **named: Any) -> None:
            nonlocal begun
            begun += 1
            super().__init__(*given, **named)

    monkeypatch.setattr("gateway.upstream.health.BoundedConnector", Counted)
    targets = {f"u{number}": target_at(unused_tcp_port) for number in range(21)}
    health = HealthProbe(lambda: targets, iteration_now())
    steps: list[int] = []
    looking = asyncio.ensure_future(first_look(health, count=21))
    while not looking.done():
        steps.append(begun)
        await asyncio.sleep(0)
    assert [entry["upstream"] for entry in await looking] == list(targets)
    assert max(after - before for before, after in pairwise(steps)) <= 2
    assert begun >= 21


async def test_who_stops_the_checks_stops_those_that_have_begun(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = 0

    async def hang(*_: object) -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    monkeypatch.setattr("gateway.upstream.health.probe", hang)
    targets = {f"u{number}": target_at(unused_tcp_port) for number in range(20)}
    task = asyncio.ensure_future(HealthProbe(lambda: targets, iteration_now()).run())
    for _ in range(6):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert 2 <= ended < 20


async def test_how_long_is_waited_is_of_the_target(
    aiohttp_raw_server: AiohttpRawServer, aiohttp_client: AiohttpClient
) -> None:
    asked, ends = asyncio.Event(), asyncio.Event()

    async def hang(_: web.BaseRequest) -> web.Response:
        asked.set()
        await ends.wait()
        return web.Response()

    client: TestClient[Any, Any] = await aiohttp_client(await aiohttp_raw_server(hang))
    target = replace(target_at(client.port or 0), health_timeout=0.25)
    assert await probe(client.session, target) == "no answer within 0.25 s"
    assert asked.is_set()
    ends.set()


@pytest.mark.usefixtures("plain_log")
async def test_it_survives_whatever_a_probe_raises(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no name is a ValueError of aiohttp's, in the place of its own kind; so may be others."""
    monkeypatch.setattr("gateway.upstream.health.INTERVAL", 0.001)
    port = await upstream(200)
    targets = {"odd": replace(target_at(port), authority="[::1"), "good": target_at(port)}
    health = HealthProbe(lambda: targets, iteration_now())
    events = await first_look(health, count=2)
    assert {entry["upstream"]: entry["event"] for entry in events} == {
        "odd": "upstream is down", "good": "upstream is up",
    }  # fmt: skip
    assert health.healthy == {"odd": False, "good": True}


@pytest.mark.usefixtures("plain_log")
async def test_it_survives_a_fault_of_ours_and_asks_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.upstream.health.INTERVAL", 0.001)
    port = await upstream(200)
    looks = iter([RuntimeError("canary")])

    def targets() -> dict[str, UpstreamTarget]:
        for error in looks:
            raise error
        return {"default": target_at(port)}

    health = HealthProbe(targets, iteration_now())
    first, second = (await first_look(health, count=2))[:2]
    assert (first["event"], second["event"]) == ("upstreams could not be asked", "upstream is up")
    assert first["error"].startswith("RuntimeError at gateway/upstream/health.py:")


async def test_an_answer_without_an_end_is_given_up_after_a_bounded_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interim answers, which aiohttp skips however many there are."""
    monkeypatch.setattr("gateway.upstream.health.INTERVAL", 0.001)
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            while sent < MOST:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                sent += 25_000
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        health = HealthProbe(lambda: {"default": target_at(server.sockets[0].getsockname()[1])}, iteration_now())
        events = await first_look(health, count=1)
    assert events[0]["why"].startswith("no answer")
    assert sent < MOST


async def test_it_follows_the_systems_cas(
    aiohttp_raw_server: AiohttpRawServer, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose CA was replaced was down until a restart."""
    file, now = tmp_path / "ca.pem", [1000.0]
    make_development_certificates(tmp_path / "another", ["localhost"])
    shutil.copy(tmp_path / "another" / "ca.pem", file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("gateway.upstream.health.INTERVAL", 0.02)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    port = (await aiohttp_raw_server(partial(answer_with, 200), ssl=server)).port or 0
    target = replace(target_at(port), scheme="https", authority=f"localhost:{port}", host="localhost")
    health = HealthProbe(lambda: {"default": target}, Iteration(lambda: now[0], asyncio.get_running_loop().call_soon))
    task = asyncio.get_running_loop().create_task(health.run())
    async with asyncio.timeout(10):
        while not health.states:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
        trouble = health.states["default"].trouble
        assert trouble == "no answer (its TLS certificate is not trusted, or it speaks no TLS)"
        shutil.copy(certificates / "ca.pem", file)
        now[0] += PAUSE
        while not health.is_up:  # noqa: ASYNC110 -- likewise
            await asyncio.sleep(0.01)
    task.cancel()


@pytest.mark.usefixtures("plain_log")
async def test_since_when_it_is_so_and_what_was_wrong_last_is_kept(
    aiohttp_raw_server: AiohttpRawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.upstream.health.INTERVAL", 0.02)
    now, status = [100.0], [200]

    async def handle(request: web.BaseRequest) -> web.Response:
        return await answer_with(status[0], request)

    port = (await aiohttp_raw_server(handle)).port or 0
    iteration = Iteration(lambda: now[0], asyncio.get_running_loop().call_soon)
    health = HealthProbe(lambda: {"default": target_at(port)}, iteration)
    task = asyncio.get_running_loop().create_task(health.run())

    async def becomes(*state: object) -> None:
        async with asyncio.timeout(10):
            while health.states.get("default") != state:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0.01)

    await becomes(None, 100.0, None, None)
    now[0], status[0] = 110.0, 503
    await becomes("/health_check answers 503", 110.0, "/health_check answers 503", 110.0)
    now[0], status[0] = 120.0, 500
    await becomes("/health_check answers 500", 110.0, "/health_check answers 500", 120.0)
    status[0], now[0] = 200, 130.0
    await becomes(None, 130.0, "/health_check answers 500", 120.0)
    now[0] = 140.0
    await becomes(None, 130.0, "/health_check answers 500", 120.0)
    assert health.age(health.states["default"].since) == 10
    task.cancel()


async def test_where_the_systems_cas_can_not_be_read_that_is_told() -> None:
    health = HealthProbe(lambda: {"default": replace(target_at(1), scheme="https")}, iteration_now())
    with patch("gateway.aio.shared_context.bounded_context", side_effect=OSError):
        events = await first_look(health, 2)
    assert health.states["default"].trouble == "the system's CAs can't be read"
    assert events[-1]["why"] == "the system's CAs can't be read"
