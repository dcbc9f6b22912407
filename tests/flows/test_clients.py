"""What real clients, monitors and proxies send unasked, and what may mean one thing only: it is served."""

import asyncio
import json

import pytest

from tests.support.backend import OK, Backend, Connection
from tests.support.gateway import KEY, PLAIN, RESULT, Running, Start, request, shared

UPGRADES = [
    ("Connection: upgrade",),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
    ("Upgrade: h2c",),
]


@shared
@pytest.mark.parametrize("headers", UPGRADES)
@pytest.mark.parametrize("sent", ["alone", "body", "chunks", "halves"])
async def test_an_upgrade_is_ignored_and_goes_no_further(
    headers: tuple[str, ...], sent: str, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    if sent == "alone":
        client.send(request("GET", RESULT, *headers))
    elif sent == "chunks":
        client.send(request("POST", PLAIN, *headers, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
    else:
        message = request("POST", PLAIN, *headers, body=b"hello")
        await client.send_all(message if sent == "body" else message[:-3])
    if sent == "halves":
        await (await backend.connected()).has(100)
        client.send(b"llo")
    response = await client.response()
    assert response.status == 200
    (arrived,) = await backend.got(1)
    assert arrived.body == (b"" if sent == "alone" else b"hello")
    for name in (b"upgrade", b"http2-settings", b"connection"):
        assert arrived.values(name) == []
    if response.value(b"connection") == b"close":
        await client.is_closed()
    else:
        assert (await client.ask(request())).status == 200


async def test_what_follows_an_upgrade_is_not_read_as_another_protocol(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    client.send(request("GET", RESULT, *UPGRADES[1]) + request("GET", RESULT))
    assert (await client.response()).value(b"connection") == b"close"
    await client.is_closed()
    await gateway.finished(1)
    assert len(backend.requests) == 1


async def test_http_1_0_needs_no_host(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    response = await client.ask(f"GET {RESULT} HTTP/1.0\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    assert response.status == 200
    await client.is_closed()
    assert backend.requests[0].values(b"x-forwarded-host") == []


async def test_no_route_that_asks_for_a_host_is_meant_without_one(start: Start, backend: Backend) -> None:
    here = {"name": "here", "methods": ["GET"], "path": "/a", "host": "gateway.test", "access": "anyone"}
    gateway = await start(routes=[here])
    client = await gateway.connect()
    (await client.ask(b"GET /a HTTP/1.0\r\n\r\n")).is_refusal(404, "route_not_found")
    await backend.got_nothing()


@pytest.mark.parametrize(
    ("named", "told"), [("http://Other.test:81", [b"other.test:81"]), ("HTTPS://other.test", [b"other.test"])]
)
async def test_a_target_in_absolute_form_is_served_with_the_authority_that_it_names(
    named: str, told: list[bytes], start: Start, backend: Backend
) -> None:
    there = {"name": "there", "methods": ["GET"], "path": "/a", "host": "other.test", "access": "anyone"}
    gateway = await start(routes=[there])
    client = await gateway.connect()
    for _ in range(2):
        assert (await client.ask(request("GET", f"{named}/a?b"))).status == 200
    (await client.ask(request("GET", "/a?b"))).is_refusal(404, "route_not_found")
    (await client.ask(request("GET", "http://gateway.test/a?b"))).is_refusal(404, "route_not_found")
    for arrived in backend.requests:
        assert arrived.target == b"/a?b"
        assert arrived.values(b"x-forwarded-host") == told
        assert arrived.value(b"host") == f"127.0.0.1:{backend.port}".encode()


@shared
@pytest.mark.parametrize("target", [RESULT, "/health_check", "/gateway/v1/me", "/api/v1/user_health"])
async def test_head_goes_wherever_get_does(target: str, gateway: Running) -> None:
    client = await gateway.connect()
    for method in ("HEAD", "GET", "HEAD"):
        response = await client.ask(request(method, target), method.encode())
        assert response.status == 200
        assert bool(response.body) is (method == "GET")


async def test_head_of_what_ends_a_job_is_not_asked_for(start: Start, backend: Backend) -> None:
    gateway = await start(routes=[{"name": "end", "methods": ["GET"], "path": "/end/{request_id}", "kind": "delete"}])
    assert (await gateway.ask(request("HEAD", "/end/job-1"), b"HEAD")).value(b"allow") == b"GET"
    await backend.got_nothing()


async def test_a_scheme_that_is_none_of_ours_is_no_second_credential(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    basic = "Authorization: Basic dXNlcjpwYXNz"
    assert (await client.ask(request("GET", RESULT, basic))).status == 200
    (await client.ask(request("GET", RESULT, "Authorization: Bearer x"))).is_refusal(400, "bad_request")
    (await client.ask(request("GET", RESULT, basic, key=None))).is_refusal(401, "unauthenticated")
    assert [arrived.values(b"authorization") for arrived in backend.requests] == [[]]


@pytest.mark.parametrize(
    ("method", "target", "there"),
    [
        ("POST", "/api/v1/marker/", b"/api/v1/marker"),
        ("GET", RESULT + "/?a=b", RESULT.encode() + b"?a=b"),
        ("GET", "/health_check/", b"/health_check"),
        ("POST", "/api/v1/convert/", b"/api/v1/convert"),
        ("GET", "https://evil.test/health_check/", b"/health_check"),
    ],
)
async def test_a_slash_too_many_leads_to_the_path_without_it(
    method: str, target: str, there: bytes, start: Start, backend: Backend
) -> None:
    gateway = await start(aliases={"/api/v1/convert": "/api/v1/marker"})
    client = await gateway.connect()
    response = await client.ask(request(method, target))
    response.is_refusal(307, "trailing_slash")
    assert response.value(b"location") == there
    await backend.got_nothing()


@shared
@pytest.mark.parametrize("target", ["/", "//", "/nothing/", "/health_check//", "//evil.test/health_check/"])
async def test_no_other_slash_leads_anywhere(target: str, gateway: Running) -> None:
    (await gateway.ask(request("GET", target))).is_refusal(404, "route_not_found")


async def test_the_healths_of_the_cloud_are_answered_here(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    for path, key in (("/api/v1/health", None), ("/api/v1/health", KEY), ("/api/v1/user_health", KEY)):
        response = await client.ask(request("GET", path, key=key))
        assert (response.status, json.loads(response.body)) == (200, {"status": "ok"})
    (await client.ask(request("GET", "/api/v1/user_health", key=None))).is_refusal(401, "unauthenticated")
    await backend.got_nothing()
    assert gateway.counted(reason="answered", route="cloud_health") == 2


async def test_a_route_of_the_file_stands_before_them(start: Start, backend: Backend) -> None:
    gateway = await start(routes=[{"name": "h", "methods": ["GET"], "path": "/api/v1/health", "access": "anyone"}])
    assert (await gateway.ask(request("GET", "/api/v1/health"))).status == 200
    assert len(backend.requests) == 1


@shared
@pytest.mark.parametrize("behind", [b"\r\n\r\nx", b"x", request(), b"x" * 70_000, b"close\r\n\r\n" * 100])
@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_a_request_that_closes_is_answered_whatever_comes_after_it(
    behind: bytes, body: bytes, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    first = request("GET", RESULT)
    last = request("POST", PLAIN, body=body, close=True) if body else request("GET", RESULT, close=True)
    client.send(first + last + behind)
    assert (await client.response()).status == 200
    assert (await client.response()).status == 200
    await client.is_closed()
    await gateway.finished(2)
    assert [arrived.body for arrived in backend.requests] == [b"", body]


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_head_that_begins_after_a_body_has_its_own_deadline(
    size: int, start: Start, backend: Backend
) -> None:
    gateway = await start(listen={"head_timeout": "300ms", "idle_timeout": "1h"})
    first = request("POST", PLAIN, body=b"x" * size)
    client = await gateway.connect()
    await client.send_all(first[:-2])
    await (await backend.connected()).has(size)
    client.send(first[-2:] + b"GET /half HTTP/1.1\r\nHost: a\r\nX: ")
    assert (await client.response()).status == 200
    (await client.response()).is_refusal(408, "head_too_slow")
    await client.is_closed()
    await gateway.finished(2)


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_body_alone_leaves_the_connection_idle(size: int, start: Start, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(OK)

    backend.script = script
    gateway = await start(listen={"idle_timeout": "1h"})
    client = await gateway.connect()
    client.send(request("POST", PLAIN, body=b"x" * size))
    assert (await client.response()).status == 200
    (connection,) = gateway.gateway.listeners.connections.all()
    assert connection.awaits_first_byte
    connection.sweep(asyncio.get_running_loop().time() + 1800)
    assert (await client.ask(request("POST", PLAIN, body=b"x" * size))).status == 200


async def test_a_submit_without_a_file_goes_on_as_it_came(start: Start, backend: Backend) -> None:
    gateway = await start(body={"allow_file_url": True})
    body, kind = b"file_url=https%3A%2F%2Fh%2Fa&page_range=0-4", "Content-Type: application/x-www-form-urlencoded"
    client = await gateway.connect()
    assert (await client.ask(request("POST", "/api/v1/marker", kind, body=body))).status == 200
    assert [arrived.body for arrived in backend.requests] == [body]
    refused = await client.ask(request("POST", "/api/v1/marker", kind, body=body + b";x=1"))
    refused.is_refusal(415, "unsupported_media_type")
    assert len(backend.requests) == 1


async def test_such_a_submit_is_not_for_a_service_that_wants_the_document(gateway: Running, backend: Backend) -> None:
    kind = "Content-Type: application/x-www-form-urlencoded"
    refused = await gateway.ask(request("POST", "/api/v1/marker", kind, body=b"file_url=https%3A%2F%2Fh%2Fa"))
    assert (refused.status, refused.reason) in {(415, "unsupported_media_type"), (422, "field_refused")}
    assert backend.requests == []
