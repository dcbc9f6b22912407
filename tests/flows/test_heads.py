"""Hostile heads over raw TLS: refused with a reason, never echoed, and not a byte of them reaches the upstream."""

import asyncio
import ssl
from typing import NamedTuple

import pytest

from tests.support.backend import OK, Backend, Connection
from tests.support.client import Client, Response
from tests.support.forms import UPLOADS, Upload
from tests.support.gateway import KEY, Running, Start, chunks, request, shared
from tests.support.waiting import eventually

GET = b"GET /api/v1/marker/canary-path HTTP/1.1"
POST = b"POST /api/v1/plain/upload HTTP/1.1"
HOST = b"Host: gateway.test"
LOGIN = b"X-API-Key: " + KEY.encode()
NOTE = b"X-Note: canary-note"
CHUNKED = b"Transfer-Encoding: chunked"
NOTHING = b"0\r\n\r\n"


class Row(NamedTuple):
    name: str
    sent: bytes
    status: int = 400
    reason: str = "bad_request"


def head(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([*lines, b"", b""]) + body


def get(*headers: bytes, line: bytes = GET) -> bytes:
    return head(line, HOST, LOGIN, NOTE, *headers)


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return head(POST, HOST, LOGIN, NOTE, *headers, body=body)


def target(text: bytes) -> bytes:
    return get(line=b"GET " + text + b" HTTP/1.1")


FRAMING = [
    Row("content-length-and-chunked", post(b"Content-Length: 5", CHUNKED, body=NOTHING)),
    Row("chunked-and-content-length", post(CHUNKED, b"Content-Length: 5", body=NOTHING)),
    Row("content-length-0-and-chunked", post(b"Content-Length: 0", CHUNKED, body=NOTHING)),
    Row("two-lengths", post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd")),
    Row("same-length-twice", post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc")),
    Row("length-list", post(b"Content-Length: 3, 3", body=b"abc")),
    Row("length-list-differing", post(b"Content-Length: 3, 4", body=b"abc")),
    Row("length-plus", post(b"Content-Length: +3", body=b"abc")),
    Row("length-minus", post(b"Content-Length: -3", body=b"abc")),
    Row("length-minus-zero", post(b"Content-Length: -0")),
    Row("length-space-within", post(b"Content-Length: 1 3", body=b"abc")),
    Row("length-underscore", post(b"Content-Length: 1_0", body=b"abcdefghij")),
    Row("length-hexadecimal", post(b"Content-Length: 0x3", body=b"abc")),
    Row("length-fraction", post(b"Content-Length: 3.0", body=b"abc")),
    Row("length-exponent", post(b"Content-Length: 1e1", body=b"abcdefghij")),
    Row("length-empty", post(b"Content-Length: ", body=b"abc")),
    Row("length-quoted", post(b'Content-Length: "3"', body=b"abc")),
    Row("length-of-19-digits", post(b"Content-Length: 1000000000000000003")),
    Row("length-beyond-64-bit", post(b"Content-Length: 18446744073709551619", body=b"abc")),
    Row("length-arabic-digit", post("Content-Length: \u0663".encode(), body=b"abc")),
    Row("length-latin1-superscript", post(b"Content-Length: \xb3", body=b"abc")),
    Row("gzip-chunked", post(b"Transfer-Encoding: gzip, chunked", body=NOTHING)),
    Row("chunked-gzip", post(b"Transfer-Encoding: chunked, gzip", body=NOTHING)),
    Row("gzip", post(b"Transfer-Encoding: gzip", body=b"abc")),
    Row("xchunked", post(b"Transfer-Encoding: xchunked", body=NOTHING)),
    Row("chunkedx", post(b"Transfer-Encoding: chunkedx", body=NOTHING)),
    Row("chunked-vertical-tab", post(b"Transfer-Encoding: \x0bchunked", body=NOTHING)),
    Row("chunked-nul", post(b"Transfer-Encoding: chunked\x00", body=NOTHING)),
    Row("chunked-comma", post(b"Transfer-Encoding: chunked,", body=NOTHING)),
    Row("comma-chunked", post(b"Transfer-Encoding: , chunked", body=NOTHING)),
    Row("chunked-quoted", post(b'Transfer-Encoding: "chunked"', body=NOTHING)),
    Row("chunked-parameter", post(b"Transfer-Encoding: chunked;q=1", body=NOTHING)),
    Row("identity", post(b"Transfer-Encoding: identity", body=b"abc")),
    Row("identity-and-length", post(b"Transfer-Encoding: identity", b"Content-Length: 3", body=b"abc")),
    Row("identity-chunked", post(b"Transfer-Encoding: identity, chunked", body=NOTHING)),
    Row("chunked-twice", post(b"Transfer-Encoding: chunked, chunked", body=NOTHING)),
    Row("chunked-in-two-headers", post(CHUNKED, CHUNKED, body=NOTHING)),
    Row("chunked-and-identity-headers", post(CHUNKED, b"Transfer-Encoding: identity", body=NOTHING)),
    Row("coding-empty", post(b"Transfer-Encoding: ")),
    Row("coding-empty-and-length", post(b"Transfer-Encoding:", b"Content-Length: 3", body=b"abc")),
    Row("chunked-in-1.0", head(b"POST /api/v1/plain/upload HTTP/1.0", HOST, LOGIN, NOTE, CHUNKED, body=NOTHING)),
    Row("length-with-underscore-name", post(b"Content_Length: 3", body=b"abc")),
    Row("coding-with-underscore-name", post(b"Transfer_Encoding: chunked", body=NOTHING)),
    Row("space-before-colon-of-length", post(b"Content-Length : 3", body=b"abc")),
    Row("space-before-colon-of-coding", post(b"Transfer-Encoding : chunked", body=NOTHING)),
    Row("space-before-coding", post(b" Transfer-Encoding: chunked", body=NOTHING)),
    Row("tab-before-coding", post(b"X-A: b", b"\tTransfer-Encoding: chunked", body=NOTHING)),
    Row("bare-cr-hides-coding", post(b"X-A: b\rTransfer-Encoding: chunked", body=NOTHING)),
    Row("bare-lf-hides-coding", post(b"X-A: b\nTransfer-Encoding: chunked", body=NOTHING)),
    Row("connection-names-length", post(b"Connection: content-length", b"Content-Length: 3", body=b"abc")),
    Row("connection-names-key", get(b"Connection: x-api-key")),
    Row("connection-is-no-token", get(b"Connection: clo@se")),
]

HEADERS = [
    Row("obs-fold", get(b"X-A: one", b" two")),
    Row("obs-fold-first", head(GET, b" Host: gateway.test", LOGIN, NOTE)),
    Row("bare-lf", get(b"X-A: one\nX-B: two")),
    Row("bare-lf-throughout", get().replace(b"\r\n", b"\n")),
    Row("bare-lf-after-request-line", get().replace(b"\r\n", b"\n", 1)),
    Row("bare-cr", get(b"X-A: one\rX-B: two")),
    Row("cr-cr-lf", get(b"X-A: one\r")),
    Row("nul-in-value", get(b"X-A: o\x00ne")),
    Row("nul-in-name", get(b"X\x00A: one")),
    Row("control-in-value", get(b"X-A: o\x01ne")),
    Row("escape-in-value", get(b"X-A: \x1b[31m")),
    Row("delete-in-value", get(b"X-A: o\x7fne")),
    Row("space-before-colon", get(b"X-A : one")),
    Row("tab-before-colon", get(b"X-A\t: one")),
    Row("no-colon", get(b"X-A")),
    Row("no-name", get(b": one")),
    Row("name-with-space", get(b"X A: one")),
    Row("name-with-slash", get(b"X/A: one")),
    Row("name-not-ascii", get(b"X-\xc4: one")),
    Row("name-in-brackets", get(b"[X-A]: one")),
    Row("no-host", head(GET, LOGIN, NOTE)),
    Row("two-hosts", head(GET, HOST, b"Host: other.test", LOGIN, NOTE)),
    Row("same-host-twice", head(GET, HOST, HOST, LOGIN, NOTE)),
    Row("host-list", head(GET, b"Host: gateway.test, other.test", LOGIN, NOTE)),
    Row("host-empty", head(GET, b"Host:", LOGIN, NOTE)),
    Row("host-userinfo", head(GET, b"Host: canary@gateway.test", LOGIN, NOTE)),
    Row("host-path", head(GET, b"Host: gateway.test/canary", LOGIN, NOTE)),
    Row("host-query", head(GET, b"Host: gateway.test?canary", LOGIN, NOTE)),
    Row("host-space", head(GET, b"Host: gateway test", LOGIN, NOTE)),
    Row("host-port-no-number", head(GET, b"Host: gateway.test:canary", LOGIN, NOTE)),
    Row("host-two-ports", head(GET, b"Host: gateway.test:1:2", LOGIN, NOTE)),
    Row("host-percent", head(GET, b"Host: gateway%2etest", LOGIN, NOTE)),
    Row("host-not-ascii", head(GET, "Host: g\u00e4teway.test".encode(), LOGIN, NOTE)),
    Row("host-open-bracket", head(GET, b"Host: [::1", LOGIN, NOTE)),
    Row("host-scope", head(GET, b"Host: [fe80::1%25eth0]", LOGIN, NOTE)),
    Row("key-with-underscores", get(b"X_API_Key: canary")),
    Row("key-half-underscored", get(b"X-Api_Key: canary")),
    Row("authorization-free-underscore-forwarded", get(b"X_Forwarded_For: 10.1.1.1")),
    Row("gateway-key-id-underscore", get(b"X_Gateway_Key_Id: canary")),
    Row("host-underscore-free-content-type", get(b"Content_Type: text/plain")),
]

LINES = [
    Row("http-0.9", b"GET /api/v1/marker/canary-path\r\n\r\n"),
    Row("http-0.9-explicit", get(line=GET.replace(b"1.1", b"0.9"))),
    Row("http-1.2", get(line=GET.replace(b"1.1", b"1.2")), 505, "version_not_supported"),
    Row("http-2.0", get(line=GET.replace(b"1.1", b"2.0")), 505, "version_not_supported"),
    Row("http-11", get(line=GET.replace(b"1.1", b"11"))),
    Row("http-1.10", get(line=GET.replace(b"1.1", b"1.10"))),
    Row("http-01.1", get(line=GET.replace(b"1.1", b"01.1"))),
    Row("http-lower-case", get(line=GET.replace(b"HTTP", b"http"))),
    Row("https-version", get(line=GET.replace(b"HTTP", b"HTTPS"))),
    Row("rtsp", get(line=GET.replace(b"HTTP/1.1", b"RTSP/1.0"))),
    Row("space-behind-version", get(line=GET + b" ")),
    Row("tab-for-space", get(line=GET.replace(b" ", b"\t"))),
    Row("space-before-method", get(line=b" " + GET)),
    Row("method-lower-case", get(line=GET.replace(b"GET", b"get"))),
    Row("method-mixed-case", get(line=GET.replace(b"GET", b"Get"))),
    Row("method-with-colon", get(line=GET.replace(b"GET", b"GE:T"))),
    Row("method-nul", get(line=GET.replace(b"GET", b"G\x00ET"))),
    Row("connect", head(b"CONNECT 127.0.0.1:22 HTTP/1.1", b"Host: 127.0.0.1:22", LOGIN, NOTE)),
    Row("trace", get(line=GET.replace(b"GET", b"TRACE"))),
    Row("h2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Row("absolute-form-without-host", target(b"http:///api/v1/marker/canary-path")),
    Row("absolute-form-userinfo", target(b"http://canary@gateway.test/api/v1/marker/canary-path")),
    Row("absolute-form-two-slashes", target(b"http://gateway.test//canary-path"), 404, "route_not_found"),
    Row("authority-form", target(b"gateway.test:443")),
    Row("asterisk", head(b"OPTIONS * HTTP/1.1", HOST, LOGIN, NOTE)),
    Row("relative", target(b"api/v1/marker/canary-path")),
    Row("two-slashes-first", target(b"//gateway.test/api/v1/marker/canary-path"), 404, "route_not_found"),
    Row("two-slashes-within", target(b"/api//v1/marker/canary-path"), 404, "route_not_found"),
    Row("fragment", target(b"/api/v1/marker/canary-path#canary")),
    Row("fragment-behind-query", target(b"/api/v1/marker/canary-path?a=b#canary")),
    Row("dot-segment", target(b"/api/v1/marker/./canary-path")),
    Row("dot-dot-segment", target(b"/api/v1/marker/../usage")),
    Row("dot-dot-last", target(b"/api/v1/marker/..")),
    Row("dot-last", target(b"/api/v1/marker/.")),
    Row("encoded-dot", target(b"/api/v1/marker/%2e")),
    Row("encoded-dots", target(b"/api/v1/marker/%2e%2E/usage")),
    Row("half-encoded-dots", target(b"/api/v1/marker/.%2e/usage")),
    Row("encoded-dot-within", target(b"/api/v1/marker/canary%2epath")),
    Row("encoded-slash", target(b"/api/v1/marker%2Fcanary-path")),
    Row("encoded-slash-lower", target(b"/api/v1/marker/..%2fusage")),
    Row("encoded-backslash", target(b"/api/v1/marker/..%5cusage")),
    Row("encoded-backslash-upper", target(b"/api/v1/marker/..%5Cusage")),
    Row("backslash", target(b"/api/v1/marker\\..\\usage")),
    Row("encoded-nul", target(b"/api/v1/marker/canary%00")),
    Row("encoded-line", target(b"/api/v1/marker/canary%0d%0aX-A:%20b")),
    Row("encoded-delete", target(b"/api/v1/marker/canary%7f")),
    Row("encoded-percent", target(b"/api/v1/marker/%252e%252e/usage")),
    Row("encoded-letter", target(b"/api/v1/us%61ge")),
    Row("percent-alone", target(b"/api/v1/marker/%")),
    Row("percent-no-hex", target(b"/api/v1/marker/%zz")),
    Row("percent-u", target(b"/api/v1/marker/%u002e")),
    Row("semicolon", target(b"/api/v1/marker/canary;v=1")),
    Row("semicolon-dots", target(b"/api/v1/marker/..;/usage")),
    Row("target-not-ascii", target("/api/v1/marker/c\u00e4nary".encode())),
    Row("target-control", target(b"/api/v1/marker/c\x01nary")),
    Row("target-quote", target(b'/api/v1/marker/c"nary')),
    Row("query-not-ascii", target("/api/v1/marker/canary?a=\u00e4".encode())),
    Row("junk", b"\x16\x03canary\r\n\r\n"),
    Row("empty-request-line", b"\r\n\r\n\r\nX: canary\r\n\r\n"),
]

SIZES = [
    Row("101-headers", get(*(b"X-%d: canary" % i for i in range(101))), 431, "headers_too_large"),
    Row("long-value", get(b"X-A: " + b"canary" * 1500), 431, "headers_too_large"),
    Row("long-name", get(b"X-" + b"a" * 9000 + b": b"), 431, "headers_too_large"),
    Row("long-target", target(b"/api/v1/marker/" + b"canary" * 1500), 431, "headers_too_large"),
    Row("long-query", target(b"/api/v1/marker/a?" + b"canary" * 1500), 431, "headers_too_large"),
    Row("long-method", get(line=b"A" * 9000 + b" / HTTP/1.1")),
    Row("80-kb-head", get(*(b"X-%d: " % i + b"a" * 8000 for i in range(10))), 431, "headers_too_large"),
    Row("700-kb-head", get(*(b"X-%d: " % i + b"a" * 8000 for i in range(90))), 431, "headers_too_large"),
]

ROWS = [*FRAMING, *HEADERS, *LINES, *SIZES]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


async def refused(row: Row, client: Client, gateway: Running, before: int = 0) -> None:
    """The answer to the row, the end of its connection, its event and its metric."""
    answer = await client.response(b"HEAD" if row.sent.startswith(b"HEAD") else b"GET")
    problem = answer.is_refusal(row.status, row.reason)
    event = (await gateway.finished(before + 1))[-1]
    assert (event["status"], event["reason"], event["source"]) == (row.status, row.reason, "client")
    assert (event["request_id"], event["detail"]) == (problem["request_id"], problem["detail"])
    assert (event["route"], event["key"]) == ("unmatched", None)
    assert gateway.counted(status=row.status, reason=row.reason, route="unmatched") == 1
    assert b"canary" not in echoed(answer)
    assert "canary" not in str(event)
    if answer.value(b"connection") == b"close":
        await client.is_closed()
    else:
        # Nothing was wrong with the framing: the connection is in step, and the next request is the next request.
        assert row.name in STAY_OPEN or row.name.startswith(STAY_OPEN), row.name
        assert (await client.ask(request("GET", "/health_check", key=None))).status == 200


# What is wrong with these is the target alone.
STAY_OPEN = (
    "trace", "absolute-form", "asterisk", "two-slashes", "fragment", "dot-", "encoded-", "half-encoded", "backslash",
    "percent-", "semicolon", "target-quote",
)  # fmt: skip


def echoed(answer: Response) -> bytes:
    return answer.body + repr(answer.headers).encode() + answer.phrase.encode()


@shared
@each_row
async def test_hostile_head_is_refused_in_one_piece(row: Row, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    client.send(row.sent)
    await refused(row, client, gateway)
    await nothing_but_what_followed(backend)


@shared
@each_row
async def test_hostile_head_is_refused_byte_by_byte(row: Row, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    await client.send_bytewise(row.sent)
    await refused(row, client, gateway)
    await nothing_but_what_followed(backend)


@shared
@each_row
async def test_hostile_head_after_a_good_request_is_refused(row: Row, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    client.send(row.sent)
    await refused(row, client, gateway, before=1)
    await nothing_but_what_followed(backend, [b"/api/v1/marker/job-1"])


async def nothing_but_what_followed(backend: Backend, before: list[bytes] | None = None) -> None:
    await backend.settled()
    targets = [arrived.target for arrived in backend.requests]
    assert targets in ((before or []), [*(before or []), b"/health_check"])
    assert [connection.garbled for connection in backend.connections if connection.garbled] == []


BODIES = [
    Row("size-garbage", b"zz\r\nabc\r\n" + NOTHING),
    Row("size-empty", b"\r\nabc\r\n" + NOTHING),
    Row("size-0x", b"0x3\r\nabc\r\n" + NOTHING),
    Row("size-plus", b"+3\r\nabc\r\n" + NOTHING),
    Row("size-minus", b"-3\r\nabc\r\n" + NOTHING),
    Row("size-underscore", b"1_0\r\n" + b"a" * 16 + b"\r\n" + NOTHING),
    Row("size-space-before", b" 3\r\nabc\r\n" + NOTHING),
    Row("size-beyond-64-bit", b"10000000000000003\r\nabc\r\n" + NOTHING),
    Row("size-bare-lf", b"3\nabc\r\n" + NOTHING),
    Row("size-bare-cr", b"3\rabc\r\n" + NOTHING),
    Row("data-without-crlf", b"3\r\nabc" + NOTHING),
    Row("data-longer-than-size", b"3\r\nabcdef\r\n" + NOTHING),
    Row("data-bare-lf", b"3\r\nabc\n0\r\n\r\n"),
    Row("data-cr-alone", b"3\r\nabc\r0\r\n\r\n"),
    Row("extension-nul", b"3;a=\x00b\r\nabc\r\n" + NOTHING),
    Row("extension-bare-lf", b"3;a\nb\r\nabc\r\n" + NOTHING),
    Row("extension-bare-cr", b"3;a\rb\r\nabc\r\n" + NOTHING),
    Row("trailer-without-colon", b"3\r\nabc\r\n0\r\ncanary\r\n\r\n"),
    Row("trailer-control", b"3\r\nabc\r\n0\r\nX-A: \x01\r\n\r\n"),
    Row("trailer-bare-lf", b"3\r\nabc\r\n0\r\nX-A: b\n\r\n"),
    Row("trailer-content-length", b"3\r\nabc\r\n0\r\nContent-Length: 7\r\n\r\n"),
    Row("trailer-space-before-colon", b"3\r\nabc\r\n0\r\nX-A : b\r\n\r\n"),
]


@shared
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("row", BODIES, ids=lambda row: row.name)
async def test_malformed_chunks_never_make_a_whole_request(
    row: Row, bytewise: bool, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    sent = post(CHUNKED, body=row.sent)
    await client.send_bytewise(sent) if bytewise else client.send(sent)
    answer = await client.response()
    assert answer.status == 400
    problem = answer.is_refusal(400, str(answer.reason))
    assert problem["reason"] in {"bad_request", "body_malformed"}
    assert b"canary" not in echoed(answer)
    await client.is_closed()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (400, problem["reason"])
    await backend.settled()
    await backend.all_closed()
    assert backend.requests == []


ACCEPTED = [
    Row("extension", b"3;name=value\r\nabc\r\n" + NOTHING),
    Row("extension-quoted", b'3;name="a b"\r\nabc\r\n' + NOTHING),
    Row("size-upper-and-zeros", b"0003\r\nabc\r\n" + b"000\r\n\r\n"),
    Row("last-chunk-extension", b"3\r\nabc\r\n0;last\r\n\r\n"),
    Row("trailer", b"3\r\nabc\r\n0\r\nX-Trailer: canary\r\nX-Api-Key: canary\r\n\r\n"),
]


@shared
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row.name)
async def test_chunks_are_framed_anew_without_extensions_and_trailers(
    row: Row, bytewise: bool, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    sent = post(CHUNKED, body=row.sent)
    await client.send_bytewise(sent) if bytewise else client.send(sent)
    answer = await client.response()
    assert (answer.status, answer.reason) == (200, None)
    (arrived,) = backend.requests
    assert arrived.body == b"abc"
    assert b"canary" not in backend.connections[0].received.replace(b"canary-note", b"")
    assert b";" not in backend.connections[0].received.partition(b"\r\n\r\n")[2]
    if answer.value(b"connection") == b"close":
        await client.is_closed()
        await gateway.finished(1)
    else:
        # The connection is in step: the next request is the next request.
        assert (await client.ask(request())).status == 200
        await gateway.finished(2)


@pytest.mark.parametrize("together", [True, False], ids=["pipelined", "in-turn"])
@pytest.mark.parametrize(
    "trailer", [b"X-Leak: canary", b"X-Forwarded-For: 10.9.9.9", b"X-API-Key: canary", b"Connection: close"]
)
async def test_a_trailer_is_no_header_of_the_next_request(
    trailer: bytes, together: bool, start: Start, backend: Backend
) -> None:
    """aiohttp's parser (3.14.5) keeps the last trailer for the next request on the connection."""
    gateway = await start(network={"allow": ["127.0.0.0/8"], "trusted_proxies": ["127.0.0.1/32"]})
    client = await gateway.connect()
    first = post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX-First: a\r\n" + trailer + b"\r\n\r\n")
    second = head(b"GET /api/v1/marker/second HTTP/1.1", LOGIN, HOST)
    client.send(first + second if together else first)
    answer = await client.response()
    if together or answer.status == 200:
        client.send(b"" if together else second)
    if answer.status == 200 and answer.value(b"connection") != b"close":
        assert (await client.response()).status == 200
        arrived = backend.requests[-1]
        assert arrived.target == b"/api/v1/marker/second"
        assert arrived.values(b"x-leak") == []
        assert arrived.value(b"x-forwarded-for") == b"127.0.0.1"
        assert b"canary" not in repr(arrived.headers).encode()
    else:
        await client.is_closed()
        assert [arrived.target for arrived in backend.requests] in ([], [b"/api/v1/plain/upload"])


@shared
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("garbage", [b"canary", b"0\r\n\r\n", b"X-A: b\r\n\r\n", b"\x00\x00"])
async def test_garbage_after_the_last_chunk_is_a_bad_request_of_its_own(
    garbage: bytes, bytewise: bool, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    sent = post(CHUNKED, body=chunks(b"abc") + garbage + b"\r\n\r\n")
    await client.send_bytewise(sent) if bytewise else client.send(sent)
    await served_or_not_then_refused(client, gateway, backend, [b"abc"])


@shared
async def test_garbage_after_a_counted_body_is_a_bad_request_of_its_own(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    client.send(post(b"Content-Length: 3", body=b"abc") + b"canary\r\n\r\n")
    await served_or_not_then_refused(client, gateway, backend, [b"abc"])


async def served_or_not_then_refused(client: Client, gateway: Running, backend: Backend, bodies: list[bytes]) -> None:
    """aiohttp's parser drops the good requests that it was given in one piece with a bad one; they reach nobody.

    Behind a chunked body the connection ends, and what follows is not read at all.
    """
    answers = [await client.response()]
    if answers[0].status == 200 and answers[0].value(b"connection") == b"close":
        await client.is_closed()
        await gateway.finished(1)
        assert [arrived.body for arrived in backend.requests] == bodies
        return
    if answers[0].status == 200:
        answers.append(await client.response())
    problem = answers[-1].is_refusal(400, "bad_request")
    await client.is_closed()
    assert b"canary" not in echoed(answers[-1])
    assert (await gateway.finished(len(answers)))[-1]["request_id"] == problem["request_id"]
    await backend.settled()
    assert [arrived.body for arrived in backend.requests] == bodies[: len(answers) - 1]


@shared
async def test_pipelined_requests_are_answered_in_order(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    jobs = [gateway.own(f"job-{i}").request_id for i in range(20)]
    targets = [f"/api/v1/marker/{job}" for job in jobs]
    client.send(b"".join(request("GET", target) for target in targets))
    for _ in targets:
        assert (await client.response()).status == 200
    assert [arrived.target.decode() for arrived in backend.requests] == targets
    await gateway.finished(20)


@shared
async def test_requests_after_a_bad_one_are_not_served(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    bad = get(b"X-A : b")
    gateway.own("first")
    client.send(request("GET", "/api/v1/marker/first") + bad + request("GET", "/api/v1/marker/third") * 3)
    await served_or_not_then_refused(client, gateway, backend, [b""])
    assert b"third" not in b"".join(bytes(connection.received) for connection in backend.connections)


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_smuggled_request_in_a_body_stays_a_body(sort: Upload, gateway: Running, backend: Backend) -> None:
    body = sort.body(request("GET", "/api/v1/usage"))
    answer = await gateway.ask(request("POST", sort.target, *sort.headers, body=body), b"POST")
    assert answer.status == 200
    (arrived,) = backend.requests
    assert arrived.body == body
    assert len(backend.requests) == 1


@shared
async def test_an_empty_line_before_a_request_is_forgiven(gateway: Running, backend: Backend) -> None:
    """RFC 9112 2.2 asks for it."""
    client = await gateway.connect()
    assert (await client.ask(b"\r\n" + request())).status == 200
    assert len(backend.requests) == 1


@shared
async def test_a_connection_that_speaks_no_tls_gets_nothing(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect(tls=False)
    client.send(request())
    rest = await client.rest()
    assert b"HTTP/" not in rest
    assert b"canary" not in rest
    await backend.got_nothing()
    assert gateway.requests == []
    assert gateway.metric("gateway_connections_refused_total", why="handshake") == 1


@shared
async def test_tls_within_tls_is_a_bad_request(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    hello = ssl.MemoryBIO()
    inner = gateway.tls.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        inner.do_handshake()
    client.send(hello.read())
    await refused(Row("tls", b""), client, gateway)
    await backend.got_nothing()


@shared
async def test_no_other_protocol_than_http_1_1_is_agreed_on(gateway: Running) -> None:
    context = ssl.create_default_context(cafile=None)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await gateway.connect(context=context)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_a_head_of_sixty_kilobytes_is_served(start: Start, backend: Backend) -> None:
    gateway = await start()
    client = await gateway.connect()
    headers = [f"X-{i}: " + "a" * 7400 for i in range(8)]
    answer = await client.ask(request("GET", "/api/v1/marker/job-1", *headers))
    assert answer.status == 200
    assert len(backend.connections[0].received) > 59_000


@shared
async def test_the_gateway_still_serves_after_all_of_these(gateway: Running, backend: Backend) -> None:
    clients = [await gateway.connect() for _ in ROWS]
    for client, row in zip(clients, ROWS, strict=True):
        client.send(row.sent)
    await asyncio.gather(*(client.response() for client in clients))
    await backend.got_nothing()
    assert (await gateway.ask(request())).status == 200


async def test_what_is_sent_ahead_is_bounded(gateway: Running, backend: Backend) -> None:
    """Heads behind a request that is being served are not gathered without end: the gateway stops reading."""
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    await eventually(lambda: len(backend.requests) == 1)
    before = gateway.metric("gateway_received_bytes_total")
    ahead = request("GET", "/health_check", *(f"X-{i}: {'a' * 600}" for i in range(90)))
    sender = asyncio.get_running_loop().create_task(client.send_all(ahead * 100))
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(sender)
    except TimeoutError:
        pass
    assert gateway.metric("gateway_received_bytes_total") - before < 1_500_000
    sender.cancel()
    answers.set()
    await client.close()


async def test_a_head_that_begins_after_a_request_has_the_deadline_of_a_head(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"head_timeout": "300ms", "idle_timeout": "60s"})
    client = await gateway.connect()
    client.send(request() + b"GET /half HTTP/1.1\r\nHost: a\r\nX: ")
    assert (await client.response()).status == 200
    (await client.response()).is_refusal(408, "head_too_slow")
    await client.is_closed()
    assert len(backend.requests) == 1


async def test_nothing_follows_a_connect_on_its_connection(gateway: Running, backend: Backend) -> None:
    """aiohttp takes what follows it for bytes of another protocol, and drops some of them."""
    client = await gateway.connect()
    client.send(request() + b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + request("GET", "/api/v1/marker/job-1?third"))
    assert (await client.response()).status == 200
    assert (await client.response(b"GET")).status in {400, 404, 405}
    assert await client.rest() == b""
    assert [b"third" in arrived.target for arrived in backend.requests] == [False]
