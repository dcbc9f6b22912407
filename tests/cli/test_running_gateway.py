"""What is asked of a running gateway, and what becomes of an answer that does not come."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from pytest_aiohttp import AiohttpRawServer

from gateway.cli import running_gateway
from gateway.cli.health_facts import facts_of
from gateway.cli.main import cli
from gateway.cli.running_gateway import ask
from gateway.cli.samples import Samples
from gateway.errors import SetupError
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.pure import document, make_settings, write

Asked = Callable[..., Awaitable[Samples]]
METRICS = 'gateway_limit_used_ratio{key="acme",limit="pages_per_day"} 0.9\n'
OVERVIEW, NEAR = "/admin/v1/overview", "/admin/v1/near-limits"
ANSWERS: Mapping[str, Any] = {"/readyz": {"status": "ready"}, OVERVIEW: {"version": "1"}, NEAR: {"near": []}}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_gateway, "PATIENCE_BESIDE", 0.3)


@pytest.fixture
def asked(tmp_path: Path, aiohttp_raw_server: AiohttpRawServer) -> Iterator[Asked]:
    """What is learnt of one whose answer of a path never comes, or is no JSON."""
    never = asyncio.Event()

    async def begin(hanging: str = "", faulty: str = "") -> Samples:
        async def handle(request: web.BaseRequest) -> web.Response:
            if request.path == hanging:
                await never.wait()
            if request.path in {"/metrics", faulty}:
                return web.Response(text=METRICS)
            return web.json_response(ANSWERS[request.path])

        port = (await aiohttp_raw_server(handle)).port
        settings = make_settings(tmp_path, admin={"address": "127.0.0.1", "port": port})
        return await ask(settings, tmp_path / "gateway.yaml")

    yield begin
    never.set()


async def test_all_is_learnt_of_one_that_is_well(asked: Asked) -> None:
    found = await asked()
    assert (found.readiness, found.overview, found.near) == (ANSWERS["/readyz"], ANSWERS[OVERVIEW], ANSWERS[NEAR])
    assert facts_of(found, 0).limits == []


async def test_what_holds_the_port_moves_no_cursor(tmp_path: Path, aiohttp_raw_server: AiohttpRawServer) -> None:
    """Without a token anybody of this machine may hold it while no gateway runs."""
    escape = "\x1b]0;owned\x07"
    issuer = {
        "issuer": escape, "keys": None, "trouble": escape, "source": escape, "next_fetch_at": escape,
        "dropped_at": None,
    }  # fmt: skip

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path == "/metrics":
            return web.Response(text=METRICS)
        told = {"status": "ready", "issuers_without_keys": [escape], "waits_for_restart": [escape]}
        return web.json_response({**told, "version": escape, "issuers": [issuer]})

    port = (await aiohttp_raw_server(handle)).port
    path = write(tmp_path, document(tmp_path, admin={"address": "127.0.0.1", "port": port}))
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--config", str(path)])
    assert "problem: tokens of " in result.output
    assert "\x1b" not in result.output


async def test_who_is_near_a_limit_is_told_by_metric_while_the_ledger_hangs(asked: Asked) -> None:
    for found in (await asked(hanging=NEAR), await asked(faulty=NEAR)):
        assert (found.readiness, found.overview, found.near) == (ANSWERS["/readyz"], ANSWERS[OVERVIEW], {})
        assert facts_of(found, 0).limits == [("acme", "pages_per_day", 0.9)]


async def test_an_overview_that_does_not_come_hides_nothing_else(asked: Asked) -> None:
    found = await asked(hanging=OVERVIEW)
    assert (found.overview, found.near) == ({}, ANSWERS[NEAR])


async def test_no_metrics_are_no_answer(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_gateway, "PATIENCE", 0.3)
    with pytest.raises(SetupError, match=r"no answer from http://127.0.0.1:\d+, .* within 0.3 s"):
        await asked(hanging="/metrics")


async def test_what_speaks_no_tls_is_told_so(tmp_path: Path, aiohttp_raw_server: AiohttpRawServer) -> None:
    """It was explained by "Operation not permitted": the number of a TLS fault is none of the system's."""

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(text=METRICS)

    port = (await aiohttp_raw_server(handle)).port
    make_development_certificates(tmp_path, ["localhost", "127.0.0.1"])
    tls = {"certificate": str(tmp_path / "server.pem"), "private_key": str(tmp_path / "server.key")}
    settings = make_settings(tmp_path, admin={"address": "127.0.0.1", "port": port, "tls": tls})
    with pytest.raises(SetupError, match=r"speaks no TLS, which admin\.tls asks for"):
        await ask(settings, tmp_path / "gateway.yaml")


async def test_a_handshake_that_fails_is_told_in_its_words(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # a fatal alert: handshake_failure
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    make_development_certificates(tmp_path, ["localhost", "127.0.0.1"])
    tls = {"certificate": str(tmp_path / "server.pem"), "private_key": str(tmp_path / "server.key")}
    place = {"address": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "tls": tls}
    with pytest.raises(SetupError, match=r"TLS with it fails: .*handshake failure"):
        await ask(make_settings(tmp_path, admin=place), tmp_path / "gateway.yaml")
    server.close()
    await server.wait_closed()
