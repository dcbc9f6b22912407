"""Identity providers that misbehave, over real sockets."""

import asyncio
import contextlib
import gzip
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_aiohttp import AiohttpRawServer

from gateway.aio.bounded_connector import bounded_context
from gateway.aio.shared_context import SharedContext
from gateway.aio.turn import MAX_CHUNKS
from gateway.auth.jwks.fetch import FetchFailed, checked_url, fetch_keys
from gateway.config.settings import JwtIssuer
from tests.support.iteration import iteration_now
from tests.support.pure import PROPERTY
from tests.support.tokens import jwk_of, jwks_of, p256_key
from tests.support.work import counted_turns

GOOD = jwks_of(jwk_of(p256_key(), kid="a"))
WELL_KNOWN = "/.well-known/openid-configuration"
REDIRECTS = (301, 302, 303, 307, 308)
COMPRESSED = "the answer is compressed, which was not asked for"
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Provider(Protocol):
    """Begins a provider that answers so; gives its origin."""

    async def __call__(self, answer: Answer, context: ssl.SSLContext | None = None) -> str: ...


@pytest.fixture
def provider(aiohttp_raw_server: AiohttpRawServer) -> Provider:
    async def begin(answer: Answer, context: ssl.SSLContext | None = None) -> str:
        server = await aiohttp_raw_server(answer, ssl=context)
        return f"{'http' if context is None else 'https'}://127.0.0.1:{server.port}"

    return begin


def issuer_at(url: str) -> JwtIssuer:
    return JwtIssuer.model_validate({"issuer": "https://id.example", "audience": "gateway", "jwks": url})


async def why(provider: Provider, answer: Answer, deadline: float = 5.0) -> str:
    origin = await provider(answer)
    with pytest.raises(FetchFailed) as caught:
        await fetch_keys(iteration_now(), issuer_at(origin + "/keys"), deadline)
    assert caught.value.__cause__ is None
    return caught.value.why


def plain(body: bytes = GOOD, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.BaseRequest) -> web.Response:
        del request
        return web.Response(body=body, status=status, headers={n.replace("_", "-"): v for n, v in headers.items()})

    return answer


async def test_keys_are_fetched_and_little_is_told_of_us(provider: Provider) -> None:
    requests: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        requests.append(request)
        return web.Response(body=GOOD, headers={"Set-Cookie": "a=b", "Content-Type": "text/plain"})

    origin = await provider(answer)
    for _ in range(2):
        keys = await fetch_keys(iteration_now(), issuer_at(origin + "/a%2Fb?c=d"), 5.0)
        assert [key.kid for key in keys.keys] == ["a"]
    for request in requests:
        assert (request.method, request.raw_path) == ("GET", "/a%2Fb?c=d")
        assert request.headers["User-Agent"] == "document-gateway"
        assert request.headers["Accept-Encoding"] == "identity"
        assert not {"Cookie", "Authorization"} & set(request.headers)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plain(status=500), "the answer is 500"),
        (plain(status=404), "the answer is 404"),
        (plain(status=204, body=b""), "the answer is 204"),
        (plain(status=206), "the answer is 206"),
        *[(plain(status=status, Location="/keys2"), f"the answer is {status}") for status in REDIRECTS],
        (plain(b"<html>"), "the answer is not a JWK set"),
        (plain(b""), "the answer is not a JWK set"),
        (plain(b'{"keys":[]}'), "the answer holds no key that can be used for the algorithms of this issuer"),
        (plain(b'{"keys":[{}]}'), "the answer holds no key that can be used for the algorithms of this issuer"),
        (plain(json.dumps({"keys": [{}] * 101}).encode()), "the answer holds more than 100 keys"),
        (plain(b"[" * 200_000), "the answer is not a JWK set"),
        (plain(bytes(10_000_000)), "the answer is larger than 256 KB"),
        (plain(GOOD + b" " * (256 * 1024 - len(GOOD) + 1)), "the answer is larger than 256 KB"),
        (plain(gzip.compress(GOOD), Content_Encoding="gzip"), COMPRESSED),
        (plain(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), COMPRESSED),
        (plain(GOOD, Content_Encoding="br"), COMPRESSED),
        (plain(gzip.compress(GOOD)), "the answer is not a JWK set"),
    ],
)  # fmt: skip
async def test_answers_that_bring_no_keys(provider: Provider, answer: Answer, reason: str) -> None:
    assert await why(provider, answer) == reason


async def test_an_answer_of_256_kb_is_read(provider: Provider) -> None:
    origin = await provider(plain(GOOD + b" " * (256 * 1024 - len(GOOD)), Content_Encoding="identity"))
    assert len((await fetch_keys(iteration_now(), issuer_at(origin), 5.0)).keys) == 1


async def test_a_redirect_is_not_followed(provider: Provider) -> None:
    paths = []

    async def answer(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    await why(provider, answer)
    assert paths == ["/keys"]


async def test_endless_answers_end(provider: Provider) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                await response.write(b"x" * 65536)
                sent += 65536
        return response

    assert await why(provider, answer) == "the answer is larger than 256 KB"
    assert sent < 20_000_000


async def test_a_silent_and_a_dripping_provider_are_given_up(provider: Provider) -> None:
    async def silent(request: web.BaseRequest) -> web.Response:
        del request
        await asyncio.Event().wait()
        raise AssertionError

    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        raise AssertionError

    for answer in (silent, dripping):
        assert await why(provider, answer, deadline=0.2) == "no answer within 0.2 s"


async def raw_provider(data: bytes) -> tuple[asyncio.Server, str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("data", [
    b"", b"\x16\x03\x01 no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000,
])  # fmt: skip
async def test_a_provider_that_speaks_no_http(data: bytes) -> None:
    server, origin = await raw_provider(data)
    async with server:
        with pytest.raises(FetchFailed, match="closed the connection or does not speak HTTP"):
            await fetch_keys(iteration_now(), issuer_at(origin), 5.0)


@pytest.mark.parametrize("data", [
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000,
], ids=["interim", "crumbs"])  # fmt: skip
async def test_a_provider_that_sends_much_and_says_little_has_turns_and_a_bound(data: bytes) -> None:
    server, origin = await raw_provider(data)
    counted = ResponseHandler.data_received
    async with counted_turns() as work, server:
        with (
            patch.object(
                ResponseHandler, "data_received", work.counting(counted, lambda _, piece: piece.count(b"\n"))
            ),
            pytest.raises(FetchFailed),
        ):
            await fetch_keys(iteration_now(), issuer_at(origin), 5.0)
    assert 0 < work.most <= 3 * MAX_CHUNKS
    assert work.total < 200_000


async def test_a_refused_connection_is_a_failed_fetch(unused_tcp_port: int) -> None:
    with pytest.raises(FetchFailed, match=r"^no connection$"):
        await fetch_keys(iteration_now(), issuer_at(f"http://127.0.0.1:{unused_tcp_port}"), 5.0)
    with pytest.raises(FetchFailed, match=r"^no such host$"):
        await fetch_keys(iteration_now(), issuer_at("https://nobody.invalid/keys"), 5.0)


async def test_a_certificate_that_nobody_signed(provider: Provider, certificates: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    origin = await provider(plain(), context)
    with pytest.raises(FetchFailed, match="TLS certificate is not trusted"):
        await fetch_keys(iteration_now(), issuer_at(origin), 5.0)


async def test_the_systems_cas_are_read_where_they_keep_no_process_from_ending(provider: Provider) -> None:
    """They were read on a thread for which the process waits when it ends: for ever, on a mount that hangs."""
    threads: list[threading.Thread] = []

    def read() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return bounded_context()

    shared = SharedContext(time.monotonic)
    with patch("gateway.aio.shared_context.bounded_context", read):
        origin = await provider(plain())
        for _ in range(2):
            assert await fetch_keys(iteration_now(), issuer_at(origin), 5.0, shared=shared)
    assert [thread.daemon for thread in threads] == [True]


async def test_where_the_systems_cas_can_not_be_read_that_is_why() -> None:
    with (
        patch("gateway.aio.shared_context.bounded_context", side_effect=OSError),
        pytest.raises(FetchFailed, match=r"^the system's CAs can't be read$"),
    ):
        await fetch_keys(iteration_now(), issuer_at("https://nobody.invalid/keys"), 5.0)


async def discovered(provider: Provider, document: Any, path: str = "") -> list[str | None]:
    """The kids that discovery finds; `document` gets the issuer's name and says what is answered."""
    issuer = ""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == path.removesuffix("/") + WELL_KNOWN:
            return web.Response(body=json.dumps(document(issuer)).encode())
        return web.Response(body=GOOD, status=200 if request.path == "/keys" else 404)

    origin = await provider(answer)
    issuer = origin + path
    settings = JwtIssuer.model_validate({"issuer": issuer, "audience": "gateway", "discovery": True})
    return [key.kid for key in (await fetch_keys(iteration_now(), settings, 5.0)).keys]


def origin_of(issuer: str) -> str:
    return "/".join(issuer.split("/")[:3])


@pytest.mark.parametrize("path", ["", "/", "/tenant", "/tenant/"])
async def test_the_keys_url_is_discovered(provider: Provider, path: str) -> None:
    found = await discovered(provider, lambda name: {"issuer": name, "jwks_uri": origin_of(name) + "/keys"}, path)
    assert found == ["a"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (lambda name: {"issuer": name + "/", "jwks_uri": name + "/keys"}, "is of another issuer"),
        (lambda name: {"issuer": name.upper(), "jwks_uri": name + "/keys"}, "is of another issuer"),
        (lambda name: {"issuer": [name], "jwks_uri": name + "/keys"}, "is of another issuer"),
        (lambda name: {"jwks_uri": name + "/keys"}, "is of another issuer"),
        (lambda name: [name], "is of another issuer"),
        (lambda name: {"issuer": name}, "has no jwks_uri"),
        (lambda name: {"issuer": name, "jwks_uri": [name + "/keys"]}, "has no jwks_uri"),
        (lambda name: {"issuer": name, "jwks_uri": "http://192.0.2.1/keys"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "file:///etc/passwd"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "/keys"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": ""}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "https://a:b@c.example/"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "https://[::1"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "https://h:99999/"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": name + "/keys\r\nX: y"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": name + "\\@evil.example/keys"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": name + "/" + "k" * 2048}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "https://xn--\u00df.example/"}, "URL of the keys is malformed"),
        (lambda name: {"issuer": name, "jwks_uri": "https://%31.example/"}, "."),
        (lambda name: {"issuer": name, "jwks_uri": name + "/elsewhere"}, "the answer is 404"),
    ],
)
async def test_discovery_that_is_not_believed(
    provider: Provider, document: Callable[[str], Any], reason: str
) -> None:
    with pytest.raises(FetchFailed, match=reason):
        await discovered(provider, document)


@PROPERTY
@given(
    st.text(st.characters(min_codepoint=0, max_codepoint=300), max_size=20),
    st.sampled_from(["https", "http", "HTTPS"]),
)
@example("%A", "https")
@example("[fe80::1%Eth0]/keys", "https")
def test_all_who_read_a_url_see_the_same_host(text: str, scheme: str) -> None:
    url = f"{scheme}://{text}"
    try:
        checked = checked_url(url)
    except (FetchFailed, ValueError):
        return
    assert checked.host == urlsplit(url).hostname
    assert checked.scheme == "https" or checked.host in {"localhost", "127.0.0.1", "::1"}
    assert checked.user is None


@pytest.mark.parametrize("issuer", ["https://id.example", "HTTPS://id.example"])
async def test_discovery_with_https_does_not_lead_to_plain_http(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(*_: Any) -> bytes:
        return json.dumps({"issuer": issuer, "jwks_uri": "http://127.0.0.1:9090/metrics"}).encode()

    monkeypatch.setattr("gateway.auth.jwks.fetch._fetched", fetched)
    settings = JwtIssuer.model_validate({"issuer": issuer, "audience": "gateway", "discovery": True})
    with pytest.raises(FetchFailed, match="no jwks_uri with https"):
        await fetch_keys(iteration_now(), settings, 5.0)
