import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from gateway.upstream.health import HealthProbe, probe
from gateway.upstream.target import UpstreamTarget


def target_at(port: int) -> UpstreamTarget:
    return UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 1.0, 1.0, 1.0, "/health_check", 3.0)


@contextlib.asynccontextmanager
async def upstream(status: int) -> AsyncIterator[int]:
    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.path == "/health_check"
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    try:
        yield server.addresses[0][1]
    finally:
        await server.cleanup()


@pytest.mark.parametrize(
    ("status", "problem"),
    [(200, None), (503, "/health_check answers 503"), (302, "/health_check answers 302")],
)
async def test_only_a_200_is_health(status: int, problem: str | None) -> None:
    async with upstream(status) as port, aiohttp.ClientSession() as session:
        assert await probe(session, target_at(port)) == problem


async def test_nobody_there_is_a_problem(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        assert await probe(session, target_at(unused_tcp_port)) == "no answer (no connection)"


@pytest.fixture
def plain_structlog() -> Iterator[None]:
    """A gateway that ran in this process before may have set a level that keeps events from being seen."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("plain_structlog")
@pytest.mark.parametrize(("status", "event"), [(200, "upstream is up"), (500, "upstream is down")])
async def test_the_first_look_is_told_either_way(status: int, event: str) -> None:
    async with upstream(status) as port:
        health = HealthProbe(lambda: {"default": target_at(port)})
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


@pytest.mark.usefixtures("plain_structlog")
@pytest.mark.parametrize(("statuses", "is_up"), [((200, 200), True), ((200, 503), False), ((503, 200), False)])
async def test_of_several_upstreams_all_must_be_up(statuses: tuple[int, int], is_up: bool) -> None:
    async with upstream(statuses[0]) as one, upstream(statuses[1]) as two:
        health = HealthProbe(lambda: {"default": target_at(one), "two": target_at(two)})
        events = await first_look(health, count=2)
    assert [entry["upstream"] for entry in events] == ["default", "two"]
    assert health.is_up is is_up
    (family,) = health.collect()
    assert family.name == "gateway_upstream_healthy"
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"upstream": name}, status == 200) for name, status in zip(("default", "two"), statuses, strict=True)
    ]


async def test_how_long_is_waited_is_of_the_target() -> None:
    asked = asyncio.Event()

    async def hang(_: web.BaseRequest) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server = web.ServerRunner(web.Server(hang), shutdown_timeout=0.1)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        target = replace(target_at(server.addresses[0][1]), health_timeout=0.25)
        assert await probe(session, target) == "no answer within 0.25 s"
    assert asked.is_set()
    await server.cleanup()


@pytest.mark.usefixtures("plain_structlog")
async def test_it_survives_whatever_a_probe_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no name is a ValueError of aiohttp's, in the place of its own kind; so may be others."""
    monkeypatch.setattr("gateway.upstream.health._INTERVAL", 0.0)
    async with upstream(200) as port:
        targets = {"odd": replace(target_at(port), authority="[::1"), "good": target_at(port)}
        health = HealthProbe(lambda: targets)
        events = await first_look(health, count=2)
        assert {entry["upstream"]: entry["event"] for entry in events} == {
            "odd": "upstream is down", "good": "upstream is up",
        }  # fmt: skip
        assert health.healthy == {"odd": False, "good": True}


@pytest.mark.usefixtures("plain_structlog")
async def test_it_survives_a_fault_of_ours_and_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.health._INTERVAL", 0.0)
    async with upstream(200) as port:
        looks = iter([RuntimeError("canary")])

        def targets() -> dict[str, UpstreamTarget]:
            for error in looks:
                raise error
            return {"default": target_at(port)}

        health = HealthProbe(targets)
        first, second = (await first_look(health, count=2))[:2]
        assert (first["event"], second["event"]) == ("upstreams could not be asked", "upstream is up")
        assert first["error"].startswith("RuntimeError at gateway/upstream/health.py:")
