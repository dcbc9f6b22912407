"""The admin listener: probes for all, the rest for its token, or without one for this machine alone."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from tests.support.backend import HEALTH_PATH, Backend
from tests.support.gateway import ENVIRON, KEY, Running, Start, request
from tests.support.waiting import eventually

TOKEN = "canary-admin-token"
PROMISED = {
    "gateway_requests", "gateway_request_duration_seconds", "gateway_upstream_duration_seconds",
    "gateway_requests_in_flight",
    "gateway_connections", "gateway_received_bytes", "gateway_sent_bytes", "gateway_authentications",
    "gateway_tls_certificate_not_after_seconds", "gateway_config_last_reload_successful",
    "gateway_config_last_reload_success_timestamp_seconds", "gateway_upstream_up", "gateway_build_info",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "gateway.example.com"])
async def test_probes_need_nothing(path: str, host: str, start: Start) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    status, body = await gateway.admin(path, headers={"Host": host})
    assert status == 200
    assert '"alive"' in body or '"ready"' in body


async def test_readiness_says_whether_the_upstream_is_up(gateway: Running) -> None:
    await eventually(lambda: gateway.metric("gateway_upstream_up") == 1)
    assert '"up"' in (await gateway.admin("/readyz"))[1]


async def test_readiness_does_not_fall_with_the_upstream(start: Start, backend: Backend) -> None:
    await backend.hang_up()
    gateway = await start()
    status, body = await gateway.admin("/readyz")
    assert (status, '"down"' in body) == (200, True)
    assert gateway.metric("gateway_upstream_up") == 0


async def test_metrics_parse_and_are_all_there(gateway: Running) -> None:
    await gateway.ask(request())
    await gateway.ask(request(key="wrong"))
    status, text = await gateway.admin("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) >= PROMISED
    rows = {tuple(sorted(sample.labels.items())): sample.value for sample in families["gateway_requests"].samples}
    assert rows == {
        (("method", "GET"), ("reason", "forwarded"), ("route", "result"), ("status", "200")): 1,
        (("method", "GET"), ("reason", "unauthenticated"), ("route", "result"), ("status", "401")): 1,
    }
    assert KEY not in text
    assert "127.0.0.1" not in text


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain", "*/*"])
async def test_metrics_are_written_in_the_format_asked_for(accept: str, gateway: Running) -> None:
    status, text = await gateway.admin("/metrics", headers={"Accept": accept})
    assert status == 200
    assert ("# EOF" in text) is ("openmetrics" in accept)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"X-API-Key": TOKEN}, 401),
        ({"X-API-Key": KEY}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}", "Host": "gateway.example.com"}, 200),
    ],
)
async def test_the_token_opens_the_metrics(headers: dict[str, str], status: int, start: Start) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    assert (await gateway.admin("/metrics", headers=headers))[0] == status
    assert (await gateway.admin("/metrics?token=" + TOKEN))[0] == 401


async def test_the_token_is_no_credential_on_the_public_listener(start: Start, backend: Backend) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    (await gateway.ask(request(key=TOKEN))).is_refusal(401, "unauthenticated")
    await backend.got_nothing()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:9090", 200), ("127.0.0.1:9090", 200), ("127.9.9.9", 200), ("[::1]:9090", 200),
        ("gateway.example.com", 403), ("localhost.example.com", 403), ("127.0.0.1.example.com", 403), ("10.0.0.1",
        403),
        ("192.0.2.1", 403), ("localhost@evil.example.com", 403),
    ],
)  # fmt: skip
async def test_without_a_token_only_loopback_hosts_are_served(host: str, status: int, gateway: Running) -> None:
    assert (await gateway.admin("/metrics", headers={"Host": host}))[0] in ({status} if status == 200 else {400, 403})


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/marker/job-1",
        "/health_check",
        HEALTH_PATH,
        "/debug",
        "/livez/x",
        "//livez",
        "/readyz/../metrics",
    ],
)
async def test_nothing_else_is_there(path: str, gateway: Running, backend: Backend) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        url = URL(f"http://127.0.0.1:{gateway.admin_port}{path}", encoded=True)
        async with session.get(url) as answer:
            assert answer.status in {404, 200} if path.endswith("metrics") else answer.status == 404
    assert backend.requests == []


async def test_the_metrics_are_not_on_the_public_listener(gateway: Running) -> None:
    for path in ("/metrics", "/livez", "/readyz"):
        (await gateway.ask(request("GET", path))).is_refusal(404, "route_not_found")


async def test_the_admin_listener_speaks_tls_when_it_is_given_a_pair(start: Start, certificates: Path) -> None:
    gateway = await start(
        admin={"tls": {"certificate": f"{certificates}/server.pem", "private_key": f"{certificates}/server.key"}}
    )
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.get(f"https://127.0.0.1:{gateway.admin_port}/livez", ssl=gateway.tls) as answer,
    ):
        assert answer.status == 200


async def test_scrapes_and_requests_at_once(gateway: Running) -> None:
    answers = await asyncio.gather(
        *(gateway.admin("/metrics") for _ in range(5)), *(gateway.ask(request()) for _ in range(5))
    )
    assert len(answers) == 10
    assert gateway.counted(status=200) == 5
    assert isinstance(gateway.tls, ssl.SSLContext)


async def test_an_accept_header_that_can_not_be_read_asks_for_nothing(gateway: Running) -> None:
    status, text = await gateway.admin("/metrics", headers={"Accept": "application/openmetrics-text; version=zzz"})
    assert (status, "gateway_connections" in text) == (200, True)
