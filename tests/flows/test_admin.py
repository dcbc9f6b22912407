"""The admin listener: probes for all, the rest for its token, or without one for this machine alone."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import idna
import pytest
from aiohttp.web import Request, UrlDispatcher, UrlMappingMatchInfo
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from gateway.listener.accept import AcceptLimits
from tests.support.backend import HEALTH_PATH, Backend
from tests.support.client import Client
from tests.support.gateway import ENVIRON, KEY, Running, Start, request, shared
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


@shared
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


@shared
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


@shared
@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/metrics", "localhost", 200),
        ("HTTP://127.0.0.1:9090/metrics", "evil.example", 200),
        ("https://[::1]/metrics?a", "evil.example", 200),
        ("http://evil.example/metrics", "localhost", 403),
        ("http://evil.example", "localhost", 403),
        ("http://localhost.evil.example/metrics", "127.0.0.1", 403),
        ("http://localhost@evil.example/metrics", "localhost", 400),
        ("http:///metrics", "localhost", 400),
        ("ftp://evil.example/metrics", "localhost", 400),
    ],
)
async def test_a_target_in_absolute_form_says_which_host_is_meant(
    target: str, host: str, status: int, gateway: Running
) -> None:
    """As on the public listener (RFC 9112 3.2.2): whatever Host says then."""
    async with connected(gateway) as client:
        answer = await client.ask(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.status == status


@shared
@pytest.mark.parametrize(
    "path",
    [
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


# The API, and the listener itself: tests/admin has what needs but one loop.

CREATE = b'{"id": "acme"}'


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST /admin/v1/keys HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    if length is None or length >= 0:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@asynccontextmanager
async def connected(gateway: Running, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    client = await Client.connect(gateway.admin_port, None, source=source, before=b"", receive_buffer=4096)
    try:
        yield client
    finally:
        await client.close()


def warnings_of(gateway: Running) -> list[str]:
    return [str(event["event"]) for event in gateway.events if event["level"] in {"warning", "error"}]


async def test_a_key_is_made_used_and_revoked_at_once(gateway: Running) -> None:
    gateway.own("job-1", "key:acme")
    async with connected(gateway) as client:
        made = await client.ask(post(CREATE), b"POST")
        assert made.status == 201
        secret = json.loads(made.body)["secret"]
        assert (await gateway.ask(request(key=secret))).status == 200
        gone = await client.ask(post(b'{"force": true}').replace(b"/keys ", b"/keys/acme/revoke "), b"POST")
        assert gone.status == 200
        (await gateway.ask(request(key=secret))).is_refusal(401, "unauthenticated")
    assert secret not in str(gateway.events)


@shared
@pytest.mark.parametrize(
    "data",
    [
        b"canary\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03canary", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /canary HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\ncanary\r\n\r\n",
        b"GET /" + b"canary" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", struct.pack(">100Q", *range(100)),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: canary\r\n\r\n", b"SSH-2.0-canary\r\n",
    ],
    ids=range(9),
)  # fmt: skip
async def test_what_is_no_http_is_one_warning_without_its_bytes(
    data: bytes, gateway: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(gateway) as client:
        client.send(data)
        answer = await client.response()
        problem = json.loads(answer.body)
        assert (problem["status"], problem["reason"]) == (answer.status, answer.reason)
        assert answer.status in {400, 431, 505}
        assert answer.value(b"server") is None
        assert b"canary" not in answer.body
        await client.is_closed()
    assert warnings_of(gateway) == ["admin request refused"]
    assert "canary" not in str(gateway.events)
    assert [*capfd.readouterr(), caplog.text] == ["", "", ""]


@shared
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /admin/v1/audit?\xff=1 HTTP/1.1", 400), (b"GET /admin/v1/keys/\xff HTTP/1.1", 400),
        (b"GET /admin/v1/audit?%ff=1&%ff=2 HTTP/1.1", 422), (b"GET /admin/v1/audit?%ED%A0%80=1 HTTP/1.1", 422),
        (b"GET /admin/v1/audit?key=%ED%A0%80 HTTP/1.1", 422), (b"GET /admin/v1/audit?limit=%00 HTTP/1.1", 422),
        (b"POST /admin/v1/keys/a/rotate HTTP/1.1\r\nIdempotency-Key: \xff\r\nContent-Type: application/json", 422),
        (b"POST /admin/v1/keys/a/rotate HTTP/1.1\r\nContent-Type: application/json; charset=\xff", 404),
        (b"POST /admin/v1/keys/a/rotate HTTP/1.1\r\nContent-Type: \xff", 415),
        (b"GET http://localhost/admin/v1/keys/%zz HTTP/1.1", 422), (b"GET * HTTP/1.1", 400),
        (b"BREW /admin/v1/keys HTTP/1.1", 400), (b"GET /admin/v1/keys HTTP/1.1\r\nOrigin: \xff", 403),
        (b"GET /admin/v1/keys HTTP/1.1\r\nAuthorization: \xff", 200),
    ],
    ids=range(14),
)  # fmt: skip
async def test_bytes_that_are_no_text_are_answered(head: bytes, status: int, gateway: Running) -> None:
    async with connected(gateway) as client:
        answer = await client.ask(head + b"\r\nHost: localhost\r\n\r\n")
        assert (answer.status, json.loads(answer.body).get("status", 200)) == (status, status)


@pytest.mark.parametrize(("login", "status"), [((), 401), ((f"Authorization: Bearer {TOKEN}",), 404)])
async def test_a_path_of_slashes_is_answered_as_any_other_and_looked_for_once(
    login: tuple[str, ...], status: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp looks for a route at each of them, before anybody knows who asks: 17 ms for 8 KB."""
    looked_at, resolve = list[str](), UrlDispatcher.resolve

    async def counted(self: UrlDispatcher, asked: Request) -> UrlMappingMatchInfo:
        looked_at.append(asked.rel_url.raw_path)
        return await resolve(self, asked)

    monkeypatch.setattr(UrlDispatcher, "resolve", counted)
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with connected(gateway) as client:
        assert (await client.ask(get("/admin/v1" + "/" * 8000, *login))).status == status
        await client.is_closed()
    assert [path.count("/") < 20 for path in looked_at] == [True]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://xn--q1-lh" + "a" * 7000 + "/", 400),
        ("http://xn--q1-lh" + "a" * 7000 + "/livez", 200),
        ("http://localhost/livez?verbose=1", 200),
        ("http://localhost", 200),
    ],
    ids=["punycode", "punycode-of-a-probe", "origin", "no-path"],
)
async def test_the_host_of_a_target_is_not_decoded(
    target: str, status: int, gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Punycode is quadratic, and its faults ended a request without an answer."""
    decoded: list[str] = []
    monkeypatch.setattr(idna, "decode", lambda name: decoded.append(str(name)))
    async with connected(gateway) as client:
        assert (await client.ask(get(target))).status == status
    assert decoded == []


async def test_a_head_has_a_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.connection.HEAD", 0.3)
    gateway = await start()
    async with connected(gateway) as silent, connected(gateway) as slow, connected(gateway) as later:
        assert (await later.ask(get("/metrics"))).status == 200
        later.send(b"GET /livez HTT")
        for byte in b"GET /":
            slow.send(bytes([byte]))
            await asyncio.sleep(0.05)
        await asyncio.gather(silent.is_closed(), slow.is_closed(), later.is_closed())
    assert warnings_of(gateway) == []


async def test_an_idle_connection_outlives_the_head_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.connection.HEAD", 0.2)
    gateway = await start()
    async with connected(gateway) as client:
        for _ in range(2):
            assert (await client.ask(get("/metrics"))).status == 200
            await asyncio.sleep(0.4)


async def test_an_idle_connection_is_closed_at_last(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.connection.IDLE", 0.3)
    gateway = await start()
    async with connected(gateway) as client:
        assert (await client.ask(get("/metrics"))).status == 200
        await client.is_closed()
    assert warnings_of(gateway) == []


@pytest.mark.parametrize("data", [b"GET /livez HTTP/1.1\r\nHost: canary\r\n\r\n", b"\x16\x03\x01canary", b"canary"])
async def test_what_is_no_tls_leaves_no_trace(
    data: bytes, start: Start, certificates: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(
        admin={"tls": {"certificate": f"{certificates}/server.pem", "private_key": f"{certificates}/server.key"}}
    )
    loop, told = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    async with connected(gateway) as client:
        client.send(data)
        client.writer.write_eof()
        assert b"canary" not in await client.rest()  # an alert, or nothing
    assert told == [] or loop.get_debug()  # asyncio tells of it when it debugs, and then alone
    assert warnings_of(gateway) == []
    assert [*capfd.readouterr(), caplog.text] == ["", "", ""]


async def test_a_body_has_a_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.parsing.SECONDS", 0.2)
    monkeypatch.setattr("gateway.admin.connection.DRAIN_SECONDS", 0.1)
    gateway = await start()
    chunked = "Transfer-Encoding: chunked"
    for data in (post(b"{", length=10), post(b"1\r\n{\r\n", chunked, length=-1)):
        async with connected(gateway) as client:
            client.send(data)
            answer = await client.response(b"POST")
            assert (answer.status, json.loads(answer.body)["reason"]) == (408, "body_too_slow")
            await client.is_closed()
    async with connected(gateway) as client:
        client.send(post(b"xyz\r\n{\r\n", chunked, length=-1))
        assert (await client.response(b"POST")).status in {400, 408}
        await client.is_closed()
    async with connected(gateway) as client:
        client.send(post(b"{", length=10))
    assert "internal error" not in warnings_of(gateway)


async def test_an_answer_that_nobody_reads_has_a_deadline(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.connection.EXCHANGE", 0.3)
    gateway = await start()
    count = 200
    async with connected(gateway) as client:
        client.send(get("/admin/v1/openapi.json") * count)
        await asyncio.sleep(1.0)
        taken = await client.rest()
        assert taken.count(b"HTTP/1.1 200 OK") < count


@pytest.mark.parametrize("ends", ["hangs", "fails"])
async def test_an_operation_that_hangs_or_fails_is_a_problem(
    ends: str, start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        if ends == "hangs":
            await asyncio.Event().wait()
        raise RuntimeError("canary")

    monkeypatch.setattr("gateway.admin.reports.audit", broken)
    monkeypatch.setattr("gateway.admin.server.SECONDS", 0.2)
    gateway = await start()
    gateway.expects_internal_errors = True
    status, text = await gateway.admin("/admin/v1/audit")
    assert (status, json.loads(text)["reason"]) == ((503, "timed_out") if ends == "hangs" else (500, "internal"))
    assert warnings_of(gateway) == ([] if ends == "hangs" else ["internal error"])
    assert "canary" not in text + str(gateway.events)
    assert list(capfd.readouterr()) == ["", ""]


def with_limits(monkeypatch: pytest.MonkeyPatch, most: int, most_of_address: int) -> None:
    monkeypatch.setattr(
        "gateway.admin.listener.LIMITS", AcceptLimits(most, most_of_address, handshake=30.0, makes_room=True)
    )


def pair_of(certificates: Path) -> dict[str, str]:
    return {"certificate": f"{certificates}/server.pem", "private_key": f"{certificates}/server.key"}


def turned_away(gateway: Running, why: str) -> float:
    return gateway.metric("gateway_admin_connections_refused_total", why=why)


async def test_connections_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with_limits(monkeypatch, 2, 2)
    gateway = await start()
    async with connected(gateway) as first, connected(gateway, "127.0.0.2") as second:
        assert [(await client.ask(get("/metrics"))).status for client in (first, second)] == [200, 200]
        async with connected(gateway, "127.0.0.3") as third:
            await third.is_closed()
        assert turned_away(gateway, "too_many") == 1
        await first.close()
        await eventually(lambda: gateway.gateway.listeners.admin.connections == 1)
        async with connected(gateway, "127.0.0.3") as fourth:
            assert (await fourth.ask(get("/metrics"))).status == 200


@pytest.mark.parametrize("tls", [False, True])
async def test_an_address_has_a_share_and_leaves_the_probes_theirs(
    tls: bool, start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS these are handshakes of which no byte ever comes: they have places, too."""
    with_limits(monkeypatch, 8, 4)
    gateway = await start(admin={"tls": pair_of(certificates)} if tls else {})
    async with AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(connected(gateway, "127.0.0.2")) for _ in range(6)]
        await asyncio.gather(*(stranger.is_closed() for stranger in strangers[:2]))
        assert turned_away(gateway, "gave_way") == 2
        assert gateway.gateway.listeners.admin.connections == 4
        probe = await Client.connect(gateway.admin_port, gateway.tls if tls else None)
        assert (await probe.ask(get("/livez"))).status == 200
        await probe.is_closed()
        await probe.close()


async def test_a_client_that_does_not_end_tls_is_cut_off(
    start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept one of the few places for ever, after a probe that anybody may send; before that time it gives way."""
    monkeypatch.setattr("gateway.admin.connection.EXCHANGE", 1.0)
    with_limits(monkeypatch, 1, 1)
    gateway = await start(admin={"tls": pair_of(certificates)})

    def probe() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", gateway.admin_port))
        encrypted = gateway.tls.wrap_socket(plain, server_hostname="localhost")
        encrypted.sendall(get("/livez"))
        while encrypted.recv(65536):
            pass
        return encrypted

    with await asyncio.to_thread(probe), await asyncio.to_thread(probe):
        assert turned_away(gateway, "gave_way") == 1
        await eventually(lambda: gateway.gateway.listeners.admin.connections == 0)


HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\nA: "
WITHOUT_BODY = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
@pytest.mark.parametrize(("tls", "first"), [(False, b""), (False, HALF), (False, WITHOUT_BODY), (True, b"")])
async def test_who_has_shown_nothing_gives_way_to_a_probe(
    tls: bool, first: bytes, source: str, start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five addresses take each place again and again; the probe may come from one of them, or from another."""
    with_limits(monkeypatch, 20, 8)
    gateway = await start(admin={"tls": pair_of(certificates)} if tls else {})
    async with AsyncExitStack() as stack:
        for number in range(40):
            stranger = await stack.enter_async_context(connected(gateway, f"127.0.0.{5 + number % 5}"))
            stranger.send(first)
        await eventually(lambda: turned_away(gateway, "gave_way") > 0)
        for _ in range(3):
            probe = await Client.connect(gateway.admin_port, gateway.tls if tls else None, source=source, before=b"")
            assert (await probe.ask(get("/livez"))).status == 200
            await probe.close()
        assert gateway.gateway.listeners.admin.connections <= 20
    await eventually(lambda: gateway.gateway.listeners.admin.connections == 0)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_crowd_at_once_leaves_the_process_alive(
    tls: bool, start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come in one batch are not told of yet when the next ones come; some are at the end, too."""
    with_limits(monkeypatch, 16, 8)
    gateway = await start(admin={"tls": pair_of(certificates)} if tls else {})
    with ExitStack() as stack:
        for number in range(96):
            source = (f"127.0.0.{5 + number // 32}", 0)
            crowd = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.admin_port), 30, source))
            crowd.sendall(b"\x16" if tls else HALF)
        whys = ("gave_way", "too_many", "too_many_of_address")
        await eventually(lambda: sum(turned_away(gateway, why) for why in whys) == 80)
        probe = await Client.connect(gateway.admin_port, gateway.tls if tls else None, source="127.0.0.9", before=b"")
        assert (await probe.ask(get("/livez"))).status == 200
        await probe.close()
        late = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.admin_port), 30))
        late.sendall(b"\x16" if tls else HALF)
        await gateway.end()


async def test_who_was_let_in_gives_way_to_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with_limits(monkeypatch, 4, 3)
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    scrape = get("/metrics", f"Authorization: Bearer {TOKEN}")
    async with AsyncExitStack() as stack:
        known = [await stack.enter_async_context(connected(gateway, "127.0.0.2")) for _ in range(3)]
        for client in known:
            assert (await client.ask(scrape)).status == 200
            client.send(HALF)
        other = await stack.enter_async_context(connected(gateway, "127.0.0.2"))
        await other.is_closed()
        assert turned_away(gateway, "too_many_of_address") == 1
        for _ in range(8):
            await stack.enter_async_context(connected(gateway, "127.0.0.3"))
        await eventually(lambda: turned_away(gateway, "gave_way") == 7)
        for client in known:
            assert (await client.ask(b"x\r\n\r\n")).status == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/admin/v1/keys", "/nowhere"])
async def test_only_who_was_let_in_keeps_his_connection(path: str, start: Start) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    is_probe = path in {"/livez", "/readyz"}
    async with connected(gateway) as stranger, connected(gateway) as operator:
        answer = await stranger.ask(get(path) + get("/livez"))
        assert (answer.status, answer.value(b"connection")) == (200 if is_probe else 401, b"close")
        await stranger.is_closed()
        answer = await operator.ask(get(path, f"Authorization: Bearer {TOKEN}"))
        assert (answer.value(b"connection") == b"close") is is_probe


async def test_a_probe_in_http_1_0_needs_no_host(gateway: Running) -> None:
    """So ask HAProxy's health checks."""
    async with connected(gateway) as client:
        assert (await client.ask(b"GET /livez HTTP/1.0\r\n\r\n")).status == 200


TRAILER = b"POST /admin/v1/keys HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


@shared
@pytest.mark.parametrize("path", [b"/admin/v1/keys", b"/livez", b"/nowhere"])
@pytest.mark.parametrize("expects", [b"", b"Expect: something\r\n"])
async def test_nothing_follows_a_chunked_request(path: bytes, expects: bytes, gateway: Running) -> None:
    """aiohttp would give its last trailer to the next request, here as a key that makes the rotation another's."""
    chunked = TRAILER.replace(b"/admin/v1/keys", path) + expects
    chunked += b"Content-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer lent\r\n\r\n"
    async with connected(gateway) as client:
        answer = await client.ask(chunked + get("/metrics"), b"POST")
        assert (answer.status >= 400, answer.value(b"connection")) == (True, b"close")
        await client.is_closed()


@shared
@pytest.mark.parametrize(
    "lines",
    [
        ("Host: localhost", "Host: localhost"),
        ("Host: localhost", "X_Forwarded_For: 192.0.2.1"),
        ("Host: localhost", "Transfer-Encoding: gzip, chunked"),
        ("Host: localhost", "Connection: authorization"),
        ("Host: a@localhost",),
    ],
)
async def test_a_head_that_the_public_listener_refuses_is_refused_here(
    lines: tuple[str, ...], gateway: Running
) -> None:
    async with connected(gateway) as client:
        head = "\r\n".join(["GET /metrics HTTP/1.1", *lines, "", ""]).encode()
        answer = await client.ask(head)
        assert (answer.status, json.loads(answer.body)["reason"]) == (400, "bad_request")
        await client.is_closed()


@pytest.mark.parametrize("token", ["", "Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"])
async def test_a_body_is_asked_for_once_it_is_permitted(token: str, start: Start) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with connected(gateway) as client:
        client.send(post(b"", "Expect: 100-continue", *([token] if token else []), length=len(CREATE)))
        if TOKEN in token:
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(CREATE)
        answer = await client.response(b"POST")
        assert (answer.status, answer.interim) == (201 if TOKEN in token else 401, [])


async def test_whose_token_ends_before_the_body_does_changes_nothing(start: Start) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN, "OTHER": "o" * 32})
    async with connected(gateway) as client:
        client.send(post(CREATE[:5], f"Authorization: Bearer {TOKEN}", length=len(CREATE)))
        gateway.rewrite(lambda document: document["admin"].update(token={"env": "OTHER"}))
        gateway.gateway.reloader.force()
        await gateway.says("configuration reloaded")
        client.send(CREATE[5:])
        assert (await client.response(b"POST")).status == 401


async def test_a_stopping_gateway_does_not_wait_for_an_operation_that_hangs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hangs(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.admin.reports.audit", hangs)
    monkeypatch.setattr("gateway.admin.listener.END", 0.1)
    gateway = await start()
    client = await Client.connect(gateway.admin_port, None, source="127.0.0.1", before=b"", receive_buffer=None)
    gateway.clients.append(client)
    client.send(get("/admin/v1/audit"))
    await begun.wait()
