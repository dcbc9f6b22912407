from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model.request import Trace
from gateway.model.routes import Access, Kind, Route
from gateway.upstream.request_head import upstream_head, upstream_lines
from tests.support.pure import (
    PROPERTY,
    Head,
    Line,
    Pairs,
    header_values,
    make_head,
    parse_request,
    paths,
    queries,
    read_head,
    recased,
    tokens,
    values_of,
)

ID = b"0123456789abcdef"
TRACE = Trace(ID, "4bf92f3577b34da6a3ce929d0e0e4736", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
# What a client would write to pass for someone else, or to have the upstream read another request.
EVIL = [
    "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "X-Real-IP", "Via",
    "X-Request-Id", "X-Gateway-Key-Id", "X-Gateway-Anything", "traceparent", "tracestate", "X-API-Key",
    "Authorization",
    "Cookie", "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Expect",
    "Proxy-Authorization", "Proxy-Connection", "X-Forwarded_For", "X_Gateway_Key_Id", "Upgrade", "Accept-Encoding",
]  # fmt: skip
GONE = [
    b"authorization", b"cookie", b"x-api-key", b"forwarded", b"x-real-ip", b"x-forwarded-port", b"x-gateway-anything",
    b"connection", b"keep-alive", b"te", b"trailer", b"expect", b"upgrade", b"proxy-authorization",
    b"proxy-connection",
]  # fmt: skip

evil_names = st.sampled_from(EVIL).flatmap(recased).map(str.encode)
pairs = st.lists(st.tuples(tokens | evil_names, header_values), max_size=8).map(tuple)
framings: st.SearchStrategy[Pairs] = st.sampled_from(
    [(), ((b"Content-Length", b"3"),), ((b"content-length", b"0"),), ((b"Transfer-Encoding", b"chunked"),)]
)


def lines_of(head: Head, key_id: str | None = "ci", *, is_submit: bool = False) -> bytes:
    return lines_on(Kind.SUBMIT if is_submit else Kind.PLAIN, head, key_id)


def lines_on(kind: Kind, head: Head, key_id: str | None = "ci", **members: Any) -> bytes:
    route = Route("a", kind, Access.KEY, **members)
    return upstream_lines(head.headers, "192.0.2.7", key_id, "127.0.0.1:8000", route, "https://gateway.test")


def head_of(head: Head, key_id: str | None = "ci", *, is_submit: bool = False, trace: Trace = TRACE) -> bytes:
    line = f"{head.method} {head.path}{head.query} HTTP/1.1\r\n".encode()
    return upstream_head(line + lines_of(head, key_id, is_submit=is_submit), trace)


def test_a_result_is_asked_for_in_no_coding_because_it_is_read() -> None:
    head = make_head("/api/v1/marker/1", "GET", pairs=[(b"accept-ENCODING", b"br")])
    for lines in (lines_on(Kind.RESULT, head), lines_on(Kind.ASSET, head, rewrites=True)):
        assert b"Accept-Encoding: identity" in lines
        assert b"br" not in lines


def test_what_passes_unread_is_asked_for_as_it_was() -> None:
    head = make_head("/static/1/a.png", "GET", pairs=[(b"accept-ENCODING", b"br")])
    for kind in (Kind.ASSET, Kind.DELETE):
        assert b"accept-ENCODING: br" in lines_on(kind, head).split(b"\r\n")
        assert b"identity" not in lines_on(kind, head)


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.ASSET, Kind.DELETE])
def test_the_body_of_a_request_for_a_job_is_held_back_and_so_framed_anew(kind: Kind) -> None:
    head = make_head("/clear", pairs=[(b"Content-Length", b"7")])
    for place in ("body", "path", "query"):
        named = lines_on(kind, head, id_in=place).split(b"\r\n")
        assert b"Transfer-Encoding: chunked" in named
        assert b"Content-Length: 7" not in named
    assert b"Content-Length: 7" in lines_on(Kind.PLAIN, head).split(b"\r\n")
    assert b"Transfer-Encoding" not in lines_on(kind, make_head("/clear"), id_in="body")


def test_writes_the_whole_head() -> None:
    head = make_head(
        "/api/v1/marker?a=b", pairs=[(b"X-Mine", b"1"), (b"Content-Length", b"7"), (b"accept-ENCODING", b"br")]
    )
    assert head_of(head, is_submit=True, trace=TRACE._replace(tracestate=b"a=1")) == (
        b"POST /api/v1/marker?a=b HTTP/1.1\r\n"
        b"Host: 127.0.0.1:8000\r\n"
        b"X-Mine: 1\r\n"
        b"Accept-Encoding: identity\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: gateway.test\r\n"
        b"Via: 1.1 gateway\r\n"
        b"X-Gateway-Key-Id: ci\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"X-Request-Id: 0123456789abcdef\r\n"
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
        b"tracestate: a=1\r\n"
        b"\r\n"
    )


def test_only_a_submit_asks_for_no_coding() -> None:
    head = make_head(pairs=[(b"Accept-Encoding", b"gzip")])
    assert values_of(parse_request(head_of(head)), b"accept-encoding") == [b"gzip"]
    assert values_of(parse_request(head_of(head, is_submit=True)), b"accept-encoding") == [b"identity"]
    assert values_of(parse_request(head_of(make_head())), b"accept-encoding") == []


def test_says_which_version_came() -> None:
    head = read_head(Line("GET", "/", (1, 0)), ((b"Host", b"a"),))
    assert values_of(parse_request(head_of(head)), b"via") == [b"1.0 gateway"]


@PROPERTY
@given(paths, queries, pairs, framings, st.none() | st.just("ci"), st.booleans(), st.none() | st.just(b"a=1"))
@example("/", "", ((b"X-FORWARDED-FOR", b"10.0.0.1"), (b"x-gateway-KEY-id", b"root")), (), None, False, None)
@example("/", "", ((b"Connection", b"x-forwarded-for, x-gateway-key-id, via"),), (), "ci", True, None)
def test_the_upstream_reads_exactly_one_request_and_nothing_forged(
    path: str, query: str, pairs: Pairs, framing: Pairs, key_id: str | None, is_submit: bool, state: bytes | None
) -> None:
    try:
        head = read_head(Line("POST", path + query, (1, 1)), ((b"Host", b"gateway.test"), *pairs, *framing))
    except Refused:
        assume(False)
    length = head.headers.content_length
    assume(length is None or length < 1000)
    chunked = head.headers.chunked or (is_submit and bool(length))  # fields may be taken out of a submit's form
    body = b"0\r\n\r\n" if chunked else b"x" * (length or 0)
    request = parse_request(head_of(head, key_id, is_submit=is_submit, trace=TRACE._replace(tracestate=state)), body)

    assert (request.method, request.target, request.http_version) == (b"POST", (path + query).encode(), b"1.1")
    expected = {
        b"host": [b"127.0.0.1:8000"],
        b"x-forwarded-for": [b"192.0.2.7"],
        b"x-forwarded-proto": [b"https"],
        b"x-forwarded-host": [b"gateway.test"],
        b"via": [b"1.1 gateway"],
        b"x-request-id": [ID],
        b"traceparent": [TRACE.traceparent],
        b"tracestate": [] if state is None else [state],
        b"x-gateway-key-id": [] if key_id is None else [b"ci"],
        b"transfer-encoding": [b"chunked"] if chunked else [],
        b"content-length": [] if length is None or chunked else [b"%d" % length],
        **{name: [] for name in GONE},
    }
    assert {name: values_of(request, name) for name in expected} == expected
    for name, _ in request.headers:
        assert name in expected or not name.replace(b"_", b"-").startswith((b"x-forwarded-", b"x-gateway-"))


@PROPERTY
@given(pairs, st.booleans())
def test_what_is_kept_arrives_in_its_order_and_its_bytes(pairs: Pairs, is_submit: bool) -> None:
    try:
        head = read_head(Line("GET", "/", (1, 1)), ((b"Host", b"gateway.test"), *pairs))
    except Refused:
        assume(False)
    kept = [(n, v) for n, v in head.headers.kept if not (is_submit and n.lower() == b"accept-encoding")]
    written = b"".join(b"\r\n" + name + b": " + value for name, value in kept)
    assert written in lines_of(head, is_submit=is_submit)
