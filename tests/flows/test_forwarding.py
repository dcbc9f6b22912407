"""What goes upstream of a request, and what comes back of an answer: byte for byte where that is promised."""

import asyncio
import json
from urllib.parse import unquote

import pytest

from tests.support.backend import Backend, answer, answering, chunked, closing_after, in_turn
from tests.support.client import read_strictly
from tests.support.forms import FORM_TYPE, form
from tests.support.gateway import (
    ADMIN_KEY,
    KEY,
    PLAIN,
    RESULT,
    ROUTES,
    SUBMIT,
    Running,
    Start,
    chunks,
    request,
    shared,
    submit,
)

ANY = [
    {
        "name": "any",
        "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        "path": "/{rest*}",
        "access": "anyone",
    }
]


@shared
@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/marker/a",
        "/api/v1/marker/a?b=c&d=e",
        "/api/v1/marker/a?",
        "/api/v1/marker/a?b=../../c",
        "/api/v1/marker/a?b=%2e%2e%2f%00",
        "/api/v1/marker/a?b=http://x/y?z",
        "/api/v1/marker/a?b=c;d='\"<>{}|\\^`[]",
        "/api/v1/marker/%C3%A9",
        "/api/v1/marker/a%20b",
        "/api/v1/marker/~a-b_c.d!$&'()*+,=:@",
        "/api/v1/marker/...",
        "/api/v1/marker/a%3Fb%23c",
        "/api/v1/marker/" + "a" * 256,
        "/api/v1/marker/a?" + "a" * 4000,
    ],
    ids=lambda target: target[:40],
)
async def test_the_bytes_of_a_target_are_forwarded_as_they_came(
    target: str, gateway: Running, backend: Backend
) -> None:
    gateway.own(unquote(target.partition("?")[0].rpartition("/")[2]))
    assert (await gateway.ask(request("GET", target))).status == 200
    assert bytes(backend.connections[0].received).startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_methods_are_forwarded(method: str, start: Start, backend: Backend) -> None:
    """With a key; nobody without one sends a body along with a GET or its like (test_turns.py)."""
    gateway = await start(routes=[{**ANY[0], "access": "key"}])
    assert (await gateway.ask(request(method, "/a", body=b"hello"), method.encode())).status == 200
    (arrived,) = backend.requests
    assert (arrived.method.decode(), arrived.body) == (method, b"hello")
    assert (await gateway.finished(1))[0]["method"] == method


async def test_what_is_for_one_hop_is_not_forwarded(gateway: Running, backend: Backend) -> None:
    sent = request(
        "GET", RESULT, "Connection: keep-alive, X-Mine, x-other", "X-Mine: a", "X-Other: b", "X-Kept: c",
        "Keep-Alive: timeout=5",
        "TE: trailers", "Trailer: X-A", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic canary",
        "Proxy-Authenticate: d",
    )  # fmt: skip
    assert (await gateway.ask(sent)).status == 200
    names = {name for name, _ in backend.requests[0].headers}
    assert names == {
        b"host", b"x-kept", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"via", b"x-request-id",
        b"traceparent", b"x-gateway-key-id", b"accept-encoding",
    }  # fmt: skip
    assert b"canary" not in backend.connections[0].received


async def test_what_a_client_says_of_itself_is_not_forwarded_and_ours_is_added(
    gateway: Running, backend: Backend
) -> None:
    forged = [
        f"{name}: canary"
        for name in (
            "Cookie", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-User", "Forwarded", "X-Real-IP", "Via", "X-Request-Id", "X-Gateway-Key-Id",
            "X-Gateway-Owner",
            "X-Client-IP", "True-Client-IP", "X-Original-URL", "X-Rewrite-URL", "X-Remote-User", "Remote-User",
            "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Host", "X-Original-Host",
            "traceparent", "tracestate",
        )
    ]  # fmt: skip
    response = await gateway.ask(request("GET", RESULT, *forged))
    assert response.status == 200
    assert b"canary" not in backend.connections[0].received
    (arrived,) = backend.requests
    event = gateway.requests[0]
    assert arrived.value(b"host") == f"127.0.0.1:{backend.port}".encode()
    assert arrived.value(b"x-forwarded-for") == b"127.0.0.1"
    assert arrived.value(b"x-forwarded-proto") == b"https"
    assert arrived.value(b"x-forwarded-host") == b"gateway.test"
    assert arrived.value(b"via") == b"1.1 gateway"
    assert arrived.value(b"x-gateway-key-id") == b"ci"
    assert arrived.value(b"x-request-id") == event["request_id"].encode() == response.value(b"x-request-id")
    trace = (arrived.value(b"traceparent") or b"").decode()
    assert trace[3:35] == event["trace_id"]
    for name in (b"x-api-key", b"authorization", b"cookie"):
        assert arrived.values(name) == []


async def test_headers_that_say_nothing_of_identity_are_forwarded_as_they_came(
    gateway: Running, backend: Backend
) -> None:
    kept = [
        "User-Agent: sdk/0.5",
        "ACCEPT: */*",
        "x-CaSe: Kept",
        "X-Empty:",
        "X-Latin: caf\xe9",
        "X-Twice: a",
        "X-Twice: b",
        "Accept-Encoding: br",
        "X_Plain: c",
        'If-None-Match: W/"a"',
        "Range: bytes=0-1",
    ]
    assert (await gateway.ask(request("GET", "/api/v1/usage", *kept, key=ADMIN_KEY))).status == 200
    received = bytes(backend.connections[0].received)
    for line in kept:
        name, _, value = line.partition(":")
        assert f"\r\n{name}: {value.strip()}\r\n".encode("latin-1") in received
    assert [value for name, value in backend.requests[0].headers if name == b"x-twice"] == [b"a", b"b"]


async def test_headers_of_one_request_are_not_those_of_the_next(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    for i in range(3):
        gateway.own(str(i))
        await client.ask(request("GET", f"/api/v1/marker/{i}", f"X-Turn: {i}", f"X-Only-{i}: a"))
        await client.ask(request("GET", f"/api/v1/marker/{i}", f"X-Turn: {i}", f"X-Only-{i}: a"))
    await client.ask(request("GET", "/api/v1/usage", key=ADMIN_KEY))
    await client.ask(request("GET", "/health_check", key=None))
    await client.ask(request("GET", "/health_check"))
    for i, arrived in enumerate(backend.requests[:6]):
        assert arrived.values(b"x-turn") == [b"%d" % (i // 2)]
        assert [name for name, _ in arrived.headers if name.startswith(b"x-only-")] == [b"x-only-%d" % (i // 2)]
    assert [arrived.value(b"x-gateway-key-id") for arrived in backend.requests] == [b"ci"] * 6 + [b"root", None, None]
    identifiers = [arrived.value(b"x-request-id") for arrived in backend.requests]
    assert len(set(identifiers)) == 9
    assert len({arrived.value(b"traceparent") for arrived in backend.requests}) == 9


@shared
@pytest.mark.parametrize("coding", [(), ("Accept-Encoding: gzip, br",)], ids=["none", "given"])
async def test_where_the_answer_is_read_no_coding_is_asked_for(
    coding: tuple[str, ...], gateway: Running, backend: Backend
) -> None:
    await gateway.ask(submit(form(), *coding), b"POST")
    await gateway.ask(request("GET", RESULT, *coding))
    assert [arrived.values(b"accept-encoding") for arrived in backend.requests] == [[b"identity"]] * 2


async def test_bodies_are_framed_as_they_came(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    await client.ask(request("POST", PLAIN, "Content-Type: text/plain", body=b"hello"), b"POST")
    await client.ask(
        request("POST", PLAIN, "Transfer-Encoding: chunked", "Content-Encoding: gzip") + chunks(b"he", b"llo"),
        b"POST",
    )
    counted, in_chunks = backend.requests
    assert (counted.value(b"content-length"), counted.value(b"transfer-encoding")) == (b"5", None)
    assert (in_chunks.value(b"content-length"), in_chunks.value(b"transfer-encoding")) == (None, b"chunked")
    assert (counted.body, in_chunks.body) == (b"hello", b"hello")
    assert counted.value(b"content-type") == b"text/plain"
    assert in_chunks.value(b"content-encoding") == b"gzip"


async def test_a_submit_goes_up_in_chunks_however_it_came(gateway: Running, backend: Backend) -> None:
    body = form(page_range="0", mode="fast")
    client = await gateway.connect()
    for sent in (submit(body), submit(body, chunked=True)):
        assert (await client.ask(sent, b"POST")).status == 200
    for arrived in backend.requests:
        assert (arrived.value(b"content-length"), arrived.value(b"transfer-encoding")) == (None, b"chunked")
        assert (arrived.value(b"content-type"), arrived.body) == (FORM_TYPE.encode(), body)


# Request ids and traces

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_request_id_is_believed_of_a_trusted_proxy_alone(start: Start, backend: Backend) -> None:
    gateway = await start(network={"allow": ["127.0.0.0/8"], "trusted_proxies": ["127.0.0.9/32"]})
    for source, believed in (("127.0.0.1", False), ("127.0.0.9", True)):
        response = await gateway.ask(request("GET", RESULT, "X-Request-Id: from-the-proxy"), source=source)
        expected = b"from-the-proxy" if believed else backend.requests[-1].value(b"x-request-id")
        assert (response.value(b"x-request-id") == b"from-the-proxy") is believed
        assert backend.requests[-1].value(b"x-request-id") == expected == response.value(b"x-request-id")
        assert gateway.requests[-1]["request_id"].encode() == expected
    for unusable in ("a b", "a" * 65, "<script>", "\xe9", ""):
        response = await gateway.ask(request("GET", RESULT, f"X-Request-Id: {unusable}"), source="127.0.0.9")
        assert len(response.value(b"x-request-id") or b"") == 32
    refused = await gateway.ask(request("GET", RESULT, "X-Request-Id: refused-one", key=None), source="127.0.0.9")
    assert refused.is_refusal(401, "unauthenticated")["request_id"] == "refused-one"


async def test_a_well_formed_trace_is_passed_on(gateway: Running, backend: Backend) -> None:
    await gateway.ask(request("GET", RESULT, f"traceparent: {TRACE}", "tracestate: a=b"))
    (arrived,) = backend.requests
    assert (arrived.value(b"traceparent"), arrived.value(b"tracestate")) == (TRACE.encode(), b"a=b")
    assert gateway.requests[0]["trace_id"] == TRACE[3:35]


@shared
@pytest.mark.parametrize(
    "bad",
    [
        "",
        "canary",
        TRACE.upper(),
        TRACE + "-00",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"{TRACE}\r\ntraceparent: {TRACE}",
    ],
)
async def test_a_malformed_trace_is_begun_anew(bad: str, gateway: Running, backend: Backend) -> None:
    await gateway.ask(request("GET", RESULT, f"traceparent: {bad}", "tracestate: canary=b"))
    (arrived,) = backend.requests
    assert arrived.value(b"traceparent") not in {None, TRACE.encode(), bad.encode()}
    assert arrived.value(b"tracestate") is None


# Answers


async def test_an_answer_comes_back_as_it_is_but_for_what_is_the_hops(gateway: Running, backend: Backend) -> None:
    backend.script = answering(
        answer(
            b"\x1f\x8bhello", b"Content-Type: text/x", b"Content-Encoding: gzip", b'ETag: "a"', b"Set-Cookie: a=b",
            b"Set-Cookie: c=d",
            b"Connection: X-Hop", b"X-Hop: a", b"Keep-Alive: timeout=5", b"X-Request-Id: theirs",
            b"X-Gateway-Reason: forged",
            b"Proxy-Authenticate: Basic", b"Server: uvicorn", b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
            b"Cache-Control: public", status=b"418 I'm a teapot",
        )
    )  # fmt: skip
    client = await gateway.connect()
    response = await client.ask(request())
    assert (response.status, response.phrase, response.body) == (418, "I'm a teapot", b"\x1f\x8bhello")
    assert response.value(b"content-type") == b"text/x"
    assert response.value(b"content-encoding") == b"gzip"
    assert response.value(b"etag") == b'"a"'
    assert response.value(b"date") == b"Mon, 01 Jan 2024 00:00:00 GMT"
    assert response.value(b"x-request-id") == gateway.requests[0]["request_id"].encode()
    assert response.value(b"cache-control") == b"no-store"
    assert {name for name, _ in response.headers}.isdisjoint(
        {b"connection", b"x-hop", b"keep-alive", b"x-gateway-reason", b"proxy-authenticate"}
    )
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["source"]) == (418, "forwarded", "upstream")
    assert gateway.counted(status=418, reason="forwarded") == 1


@shared
@pytest.mark.parametrize(
    "status", ["200", "201", "202", "301", "307", "400", "401", "403", "404", "422", "429", "500", "503", "599"]
)
async def test_every_status_of_the_upstream_passes(status: str, gateway: Running, backend: Backend) -> None:
    backend.script = answering(
        answer(b"{}", b"Location: http://127.0.0.1:8000/elsewhere", status=status.encode() + b" Any")
    )
    response = await gateway.ask(request())
    assert (response.status, response.reason, response.body) == (int(status), None, b"{}")
    assert len(backend.requests) == 1


@pytest.mark.parametrize("public_url", [None, "https://public.test"])
@pytest.mark.parametrize(("method", "target"), [("GET", RESULT), ("POST", PLAIN), ("POST", SUBMIT)])
async def test_where_the_upstream_leads_its_clients_they_find_us(
    method: str, target: str, public_url: str | None, start: Start, backend: Backend
) -> None:
    gateway = await start(public_url=public_url)
    ours = (public_url or "https://gateway.test").encode()
    theirs = f"http://127.0.0.1:{backend.port}/api/v1/marker/x?a=b".encode()
    headers = b"Location: " + theirs, b"Content-Location: " + theirs.replace(b"http:", b"https:")
    backend.script = answering(answer(b"{}", *headers, status=b"307 Any"))
    response = await gateway.ask(submit() if target == SUBMIT else request(method, target), method.encode())
    assert response.status == 307
    for name in (b"location", b"content-location"):
        assert response.value(name) == ours + b"/api/v1/marker/x?a=b"


async def test_an_answer_without_date_gets_one(gateway: Running) -> None:
    assert (await gateway.ask(request())).value(b"date")


@pytest.mark.parametrize(
    ("given", "length"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n", b"1234"),
    ],
)
async def test_an_answer_without_a_body_is_the_last_of_its_connection(
    given: bytes, length: bytes | None, gateway: Running, backend: Backend
) -> None:
    """Its body may come all the same, and late: the next request must not get it as its answer."""
    backend.script = in_turn(answering(given), answering(answer(b"next")))
    client = await gateway.connect()
    response = await client.ask(request())
    assert (response.status, response.body) == (int(given[9:12]), b"")
    assert response.value(b"content-length") == length
    assert response.values(b"transfer-encoding") == []
    assert (await client.ask(request())).body == b"next"


@pytest.mark.parametrize(
    "given",
    [answer(b"hello"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"],
    ids=["body", "chunked", "large"],
)  # fmt: skip
async def test_head_has_no_body(given: bytes, start: Start, backend: Backend) -> None:
    gateway = await start(routes=ANY)
    head_only = given.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    backend.script = in_turn(answering(head_only), answering(answer(b"next")))
    client = await gateway.connect()
    response = await client.ask(request("HEAD", "/a"), b"HEAD")
    assert (response.status, response.body) == (200, b"")
    assert (await client.ask(request("GET", "/a"))).body == b"next"
    assert [arrived.method for arrived in backend.requests] == [b"HEAD", b"GET"]


async def test_a_refused_head_has_no_body_either(gateway: Running) -> None:
    client = await gateway.connect()
    response = await client.ask(request("HEAD", SUBMIT), b"HEAD")
    assert (response.status, response.body) == (405, b"")
    assert int(response.value(b"content-length") or b"0") > 0
    assert (await client.ask(request())).status == 200


async def test_chunks_come_back_as_chunks(gateway: Running, backend: Backend) -> None:
    backend.script = answering(chunked(b"he", b"llo"), answer(b"next"))
    client = await gateway.connect()
    response = await client.ask(request())
    assert (response.body, response.value(b"transfer-encoding"), response.value(b"content-length")) == (
        b"hello",
        b"chunked",
        None,
    )
    assert (await client.ask(request())).body == b"next"


async def test_an_empty_chunked_answer_is_whole(gateway: Running, backend: Backend) -> None:
    backend.script = answering(chunked(), answer(b"next"))
    client = await gateway.connect()
    assert (await client.ask(request())).body == b""
    assert (await client.ask(request())).body == b"next"


@pytest.mark.parametrize("given", [chunked(b"he", b"llo"), answer(b"hello")], ids=["chunked", "counted"])
async def test_a_1_0_client_gets_no_chunks(given: bytes, gateway: Running, backend: Backend) -> None:
    backend.script = answering(given)
    client = await gateway.connect()
    client.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
    raw = await client.rest()
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in raw.lower()
    assert b"\r\nConnection: close\r\n" in raw
    assert raw.endswith(b"\r\n\r\nhello")
    assert backend.requests[0].value(b"via") == b"1.0 gateway"


async def test_an_answer_that_lasts_until_the_end_is_chunked_for_a_1_1_client(
    gateway: Running, backend: Backend
) -> None:
    backend.script = closing_after(b"HTTP/1.1 200 OK\r\n\r\nhello")
    client = await gateway.connect()
    for _ in range(2):
        response = await client.ask(request())
        assert (response.body, response.value(b"transfer-encoding")) == (b"hello", b"chunked")
    assert len(backend.connections) == 2


async def test_an_upstream_that_speaks_1_0_is_understood(gateway: Running, backend: Backend) -> None:
    backend.script = closing_after(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    client = await gateway.connect()
    for _ in range(2):
        assert (await client.ask(request())).body == b"hello"


async def test_interim_answers_are_not_passed_on(gateway: Running, backend: Backend) -> None:
    backend.script = answering(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + answer(b"hello")
    )
    response = await gateway.ask(request())
    assert (response.status, response.interim, response.body) == (200, [], b"hello")
    assert response.values(b"link") == []


async def test_a_client_that_wants_the_connection_closed_gets_its_answer_first(gateway: Running) -> None:
    read, whole = await asyncio.to_thread(read_strictly, gateway.port, gateway.tls, request(close=True))
    assert read.endswith(b'{"success": true}')
    assert whole


# request_check_url


def submitted(url: object, identifier: object = "job-7") -> bytes:
    body = json.dumps({"success": True, "request_id": identifier, "request_check_url": url, "extra": "caf\u00e9"})
    return answer(body.encode(), b"Content-Type: application/json")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:8000/api/v1/marker/job-7", "/api/v1/marker/job-7"),
        ("https://www.datalab.to/api/v1/marker/job-7", "/api/v1/marker/job-7"),
        ("/api/v1/marker/job-7", "/api/v1/marker/job-7"),
        ("api/v1/marker/job-7", "/api/v1/marker/job-7"),
        (None, "/api/v1/marker/job-7"),
        ("", "/api/v1/marker/job-7"),
        (17, "/api/v1/marker/job-7"),
        ("http://evil.test/../../x", "/api/v1/marker/job-7"),
        ("//evil.test", "/api/v1/marker/job-7"),
        ("javascript:alert(1)", "/alert(1)"),
        ("http://a\r\nb", "/api/v1/marker/job-7"),
    ],
)
async def test_the_check_url_is_written_to_our_origin(
    url: object, path: str, gateway: Running, backend: Backend
) -> None:
    backend.script = answering(submitted(url))
    response = await gateway.ask(submit(), b"POST")
    document = json.loads(response.body)
    assert document["request_check_url"] == "https://gateway.test" + path
    assert document["request_id"] == "job-7"
    assert document["extra"] == "caf\u00e9"
    assert int(response.value(b"content-length") or 0) == len(response.body)


async def test_the_check_url_is_written_to_public_url_when_there_is_one(start: Start, backend: Backend) -> None:
    gateway = await start(public_url="https://convert.example.com:8443")
    backend.script = answering(submitted("http://127.0.0.1:8000/api/v1/marker/job-7"))
    response = await gateway.ask(submit(), b"POST")
    assert json.loads(response.body)["request_check_url"] == "https://convert.example.com:8443/api/v1/marker/job-7"


async def test_a_host_that_is_no_name_of_ours_is_written_nowhere(start: Start, backend: Backend) -> None:
    rewriting = {"name": "pictures", "methods": ["GET"], "path": "/pictures/{name}", "rewrite_urls": True}
    gateway = await start(routes=[*ROUTES, rewriting])
    for asked in (submit(), request(target="/pictures/a")):
        method = asked.partition(b" ")[0]
        response = await gateway.ask(asked.replace(b"gateway.test", b"evil.example"), method)
        response.is_refusal(421, "misdirected")
    assert backend.requests == []
    assert (await gateway.ask(request().replace(b"gateway.test", b"evil.example"))).status == 200
    (arrived,) = backend.requests
    assert arrived.values(b"x-forwarded-host") == []
    assert b"evil" not in str(arrived).encode()


async def test_a_host_that_a_route_names_is_ours(start: Start, backend: Backend) -> None:
    named = {"name": "named", "methods": ["POST"], "path": "/named", "kind": "submit", "host": "Docs.test"}
    gateway = await start(routes=[*ROUTES, named])
    backend.script = answering(submitted(None))
    response = await gateway.ask(submit(target="/named").replace(b"gateway.test", b"docs.TEST:9443"), b"POST")
    assert json.loads(response.body)["request_check_url"] == "https://docs.test:9443/named/job-7"


@shared
@pytest.mark.parametrize("body", [b"", b"not json", b"[1, 2]", b'"text"', b'{"request_id": 1}', b"\xff", b"{"])
async def test_a_submits_answer_without_a_check_url_passes_untouched(
    body: bytes, gateway: Running, backend: Backend
) -> None:
    backend.script = answering(answer(body))
    response = await gateway.ask(submit(), b"POST")
    assert (response.status, response.body) == (200, body)


async def test_a_chunked_answer_to_a_submit_is_rewritten_too(gateway: Running, backend: Backend) -> None:
    backend.script = answering(chunked(b'{"request_check_url": "http', b'://127.0.0.1:8000/api/v1/ocr/a"}'))
    response = await gateway.ask(submit(target="/api/v1/ocr"), b"POST")
    assert json.loads(response.body) == {"request_check_url": "https://gateway.test/api/v1/ocr/a"}
    assert response.value(b"transfer-encoding") is None


async def test_a_result_is_not_rewritten(gateway: Running, backend: Backend) -> None:
    body = b'{"request_check_url": "http://127.0.0.1:8000/x"}'
    backend.script = answering(answer(body))
    assert (await gateway.ask(request())).body == body


# Aliases


async def test_aliases_are_written_before_routes_are_matched(start: Start, backend: Backend) -> None:
    gateway = await start(aliases={"/api/v1/convert": "/api/v1/marker"})
    await gateway.ask(submit(target="/api/v1/convert?a=b"), b"POST")
    await gateway.ask(request("GET", "/api/v1/convert/job-1"))
    (await gateway.ask(request("GET", "/api/v1/convertible/job-1"))).is_refusal(404, "route_not_found")
    assert [arrived.target for arrived in backend.requests] == [b"/api/v1/marker?a=b", b"/api/v1/marker/job-1"]
    assert [event["route"] for event in gateway.requests] == ["submit", "result", "unmatched"]


async def test_there_are_no_aliases_unless_written(gateway: Running) -> None:
    (await gateway.ask(request("GET", "/api/v1/convert/job-1"))).is_refusal(404, "route_not_found")


async def test_a_route_for_a_host_is_for_that_host(start: Start, backend: Backend) -> None:
    routes = [{"name": "named", "methods": ["GET"], "path": "/a", "access": "anyone", "host": "gateway.test"}]
    gateway = await start(routes=routes)
    for host, status in (("gateway.test", 200), ("GATEWAY.test:8443", 200), ("other.test", 404), ("[::1]:1", 404)):
        sent = request("GET", "/a", key=None).replace(b"gateway.test", host.encode())
        assert (await gateway.ask(sent)).status == status
    assert len(backend.requests) == 2


async def test_no_credential_of_ours_goes_upstream_in_any_form(gateway: Running, backend: Backend) -> None:
    await gateway.ask(request())
    await gateway.ask(request("GET", RESULT, f"Authorization: Bearer {KEY}", key=None))
    await gateway.ask(submit(), b"POST")
    assert KEY.encode() not in b"".join(bytes(connection.received) for connection in backend.connections)
