import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.headers import (
    HOP_BY_HOP,
    IDENTIFYING,
    RELIED_ON,
    origin_form,
    read_headers,
    read_target,
    with_host,
)
from gateway.model.reasons import Denial, Reason
from gateway.model.request import Headers
from tests.support.pure import (
    PROPERTY,
    Head,
    Line,
    Pairs,
    denial_of,
    header_values,
    paths,
    queries,
    read_head,
    recased,
    tokens,
)

HOST = (b"Host", b"gateway.test")
SMUGGLED = [
    "/.", "/..", "/./", "/../", "/a/./b", "/a/../b", "/a/..", "/a/.",
    "/%2e", "/%2E%2e", "/a/.%2e/b", "/a/%2e./b", "/a/b%2ec", "/%2E",
    "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a\\b", "/\\", "/a;b", "/a;", "/;jsessionid=1/b",
    "/a\x00b", "/a%00b", "/a%0ab", "/a%0D%0a", "/a%1f", "/a%1F", "/a%7f", "/a%7F", "/a\x7fb", "/a\tb", "/a\nb",
    "/a\r\nb",
    "/a#b", "/#", "/a b", "/ä", "/a\xff", "/\u2215", "/\uff0e\uff0e/", "/a\udcff",
    "/%c0%ae%c0%ae/a", "/a%c0%afb", "/%e0%80%af", "/%ff", "/a%c3", "/a%80", "/%ed%a0%80", "/%e4.pdf",
    "/%ef%bc%8fa", "/%EF%BC%8E%ef%bc%8e/a", "/%ef%bc%bc", "/%ef%bc%85", "/%ef%b9%92", "/%e2%80%a4", "/%e2%80%a5/a",
    "/%e2%84%80", "/%ef%bc%9b", "/%ef%b9%a8",
    "/a%", "/a%2", "/a%zz", "/a%u002e", '/a"b', "/a<b", "/a>b", "/a[b", "/a]b", "/a^b", "/a`b", "/a{b", "/a|b",
    "/a}b",
    "", "*", "a", "api/v1/marker", "http://gateway.test/../a", "ftp://gateway.test/a", "//gateway.test:a@b/../c",
    "gateway.test:443",
]  # fmt: skip


def read(target: str = "/", pairs: Pairs = (), method: str = "GET", version: tuple[int, int] = (1, 1)) -> Head:
    return read_head(Line(method, target, version), (HOST, *pairs))


def headers_of(*pairs: tuple[bytes, bytes], version: tuple[int, int] = (1, 1)) -> Headers:
    return read("/", pairs, version=version).headers


# The target


@pytest.mark.parametrize("target", SMUGGLED)
def test_refuses_a_path_that_means_different_things_to_different_readers(target: str) -> None:
    denial = denial_of(read, target)
    assert denial.reason is Reason.BAD_REQUEST
    assert denial.detail == "The request target is not a plain absolute path."


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/a/", "//", "/a//b", "/.a", "/a.", "/...", "/..a", "/a..b", "/a%20b", "/%c3%A4", "/%3A",
     "/%E6%96%87%E6%9B%B8",
     "/a%e2%80%a6", "/%f0%9f%98%80", "/1%c2%bd", "/%ef%bc%a1",

     "/-._~!$&'()*+,=:@", "/api/v1/marker/x:y"],
)  # fmt: skip
def test_accepts_a_plain_path_and_keeps_its_bytes(path: str) -> None:
    head = read(path)
    assert (head.path, head.query) == (path, "")


@PROPERTY
@given(paths, queries)
def test_an_accepted_target_is_kept_byte_for_byte(path: str, query: str) -> None:
    head = read(path + query)
    assert (head.method, head.path, head.query) == ("GET", path, query)
    assert read_target("GET", path + query) == (path, query)


dangerous = st.sampled_from([*"./\\;#%?\x00\x1f\x7f\xe9 2efEFcC5", "%2e", "%2E", "%2f", "%5c", "%00", "..", "/.."])


@PROPERTY
@given(st.lists(dangerous, max_size=8).map("".join) | st.text(max_size=12))
@example("..%2f")
def test_whatever_is_accepted_holds_nothing_dangerous(text: str) -> None:
    line = Line("GET", "/" + text, (1, 1))
    path = line.target.partition("?")[0]
    decoded = unquote_to_bytes(path.encode("utf-8", "surrogatepass"))
    is_dangerous = (
        any(part in {b".", b".."} for part in re.split(rb"[/\\]", decoded))
        or re.search(r"%2e|%2f|%5c|[\\;#\x00-\x20\x7f]|[^\x00-\x7f]", path, re.IGNORECASE) is not None
        or re.search(rb"[\x00-\x1f\x7f]", decoded) is not None
        or re.search(r"%(?![0-9A-Fa-f]{2})", path) is not None
    )
    if is_dangerous:
        assert denial_of(read, line.target).reason is Reason.BAD_REQUEST


@PROPERTY
@given(
    paths,
    st.sampled_from(["/./", "/../", "/.%2e/", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "\0", "#", "\x1f", "é"]),
    paths,
)
def test_one_dangerous_part_spoils_any_path(before: str, part: str, after: str) -> None:
    assert denial_of(read, before + part + after).reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("query", ["?", "?a=b", "?a=%2e%2e/&b=;\\", "?a=[1]{2}|^`", '?"', "??"])
def test_a_query_is_kept_as_it_came(query: str) -> None:
    assert read("/a" + query).query == query


@pytest.mark.parametrize("query", ["?a b", "?a#b", "?\x00", "?\x7f", "?ä", "?\t", "?a\r\nb"])
def test_refuses_a_query_with_raw_bytes(query: str) -> None:
    denial = denial_of(read, "/a" + query)
    assert denial.reason is Reason.BAD_REQUEST
    assert denial.detail == "The query has a character that must be percent-encoded."


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_refuses_methods_that_are_not_for_an_origin(method: str) -> None:
    assert denial_of(read, "/a", (), method).reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ((0, 9), Reason.BAD_REQUEST),
        ((2, 0), Reason.VERSION_NOT_SUPPORTED),
        ((1, 2), Reason.VERSION_NOT_SUPPORTED),
        ((3, 0), Reason.VERSION_NOT_SUPPORTED),
    ],
)
def test_refuses_other_versions(version: tuple[int, int], reason: Reason) -> None:
    assert denial_of(read, "/", (), "GET", version).reason is reason


# The headers


def test_sorts_headers_into_what_is_relied_on_and_what_is_kept() -> None:
    kept = ((b"Content-Type", b"a/b"), (b"X-Mine", b"1"), (b"x-mine", b"2"), (b"Accept-Encoding", b"br"))
    headers = headers_of(
        *kept[:2], (b"X-API-Key", b"k"), *kept[2:], (b"x-api-KEY", b"l"), (b"X-Forwarded-Whatever", b"m")
    )
    assert headers.kept == list(kept)
    assert headers.known == {
        b"host": [b"gateway.test"],
        b"content-type": [b"a/b"],
        b"accept-encoding": [b"br"],
        b"x-api-key": [b"k", b"l"],
        b"x-forwarded-whatever": [b"m"],
    }


STRIPPED = sorted(
    (
        HOP_BY_HOP
        | IDENTIFYING
        | {b"x-forwarded-for", b"x-forwarded-proto", b"x-gateway-key-id", b"x-gateway-"}
        | {b"x-host", b"x-original-host", b"x-http-method-override", b"x-http-method", b"x-method-override"}
    )
    - {b"connection", b"transfer-encoding", b"upgrade"}
)


@PROPERTY
@given(st.sampled_from(STRIPPED).flatmap(lambda name: recased(name.decode())), header_values)
def test_what_says_who_the_client_is_goes_no_further_in_any_case(name: str, value: bytes) -> None:
    headers = headers_of((name.encode(), value))
    assert headers.kept == []
    assert headers.known[name.lower().encode()] == [value]


@PROPERTY
@given(st.lists(st.tuples(tokens.filter(lambda name: b"_" not in name), header_values), max_size=10))
def test_all_else_is_kept_in_its_order_and_its_bytes(pairs: list[tuple[bytes, bytes]]) -> None:
    plain = [
        pair
        for pair in pairs
        if pair[0].lower() not in RELIED_ON and not pair[0].lower().startswith((b"x-forwarded-", b"x-gateway-"))
    ]
    assert headers_of(*plain).kept == plain


HYPHENATED = sorted(name for name in RELIED_ON | {b"x-forwarded-for", b"x-gateway-key-id"} if b"-" in name)


@st.composite
def underscored(draw: st.DrawFn) -> bytes:
    """A name that some rule reads, in any case, with one hyphen or more written as an underscore."""
    name = draw(st.sampled_from(HYPHENATED).flatmap(lambda name: recased(name.decode())))
    hyphens = [i for i, character in enumerate(name) if character == "-"]
    chosen = draw(st.sets(st.sampled_from(hyphens), min_size=1))
    return "".join("_" if i in chosen else character for i, character in enumerate(name)).encode()


@PROPERTY
@given(underscored())
def test_a_header_we_rely_on_written_with_underscores_goes_no_further(alias: bytes) -> None:
    if alias.lower().startswith((b"x-forwarded-", b"x-gateway-")):
        assert headers_of((alias, b"1")).kept == []
    else:
        denial = denial_of(read, "/", ((alias, b"1"),))
        assert denial.detail == "A header name is written with an underscore for a hyphen."


def test_an_underscore_in_any_other_name_is_kept() -> None:
    assert headers_of((b"x_my_header", b"1")).kept == [(b"x_my_header", b"1")]


def test_bounds_the_size_of_a_head() -> None:
    fitting = ((b"x", b"a" * 65000), (b"X-API-Key", b"b" * (65536 - 65001 - 9 - len(b"".join(HOST)))))
    assert len(headers_of(*fitting).kept) == 1
    denial = denial_of(read, "/", (*fitting, (b"y", b"")))
    assert denial == Denial(Reason.HEADERS_TOO_LARGE, "The request's head is too large.")


# Connection


def test_what_connection_names_goes_no_further() -> None:
    pairs = ((b"X-Hop", b"1"), (b"x-HOP-2", b"2"), (b"X-End", b"3"), (b"Connection", b"x-hop , X-Hop-2,, keep-alive"))
    assert headers_of(*pairs).kept == [(b"X-End", b"3")]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"a b", "The Connection header is malformed."),
        (b"a;b", "The Connection header is malformed."),
        (b"\xff", "The Connection header is malformed."),
        (b"host", "The Connection header names a header that is not for one hop."),
        (b"," * 2_000, "The Connection header is too long."),
        (b"close, X-API-Key", "The Connection header names a header that is not for one hop."),
        (b"Content-Length", "The Connection header names a header that is not for one hop."),
        (b"content-type", "The Connection header names a header that is not for one hop."),
    ],
)
def test_refuses_a_connection_header_that_asks_for_too_much(value: bytes, detail: str) -> None:
    denial = denial_of(read, "/", ((b"Connection", value),))
    assert (denial.reason, denial.detail) == (Reason.BAD_REQUEST, detail)


@pytest.mark.parametrize(
    ("pairs", "keeps"),
    [
        (((b"Connection", b"upgrade"),), True),
        (((b"Connection", b"keep-alive, Upgrade"),), True),
        (((b"Upgrade", b"h2c"),), True),
        (((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")), False),
        (((b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings"), (b"HTTP2-Settings", b"AA")), False),
    ],
)
def test_an_upgrade_is_ignored_and_goes_no_further(pairs: Pairs, keeps: bool) -> None:
    headers = headers_of(*pairs)
    assert (headers.kept, headers.keep_alive) == ([], keeps)


@pytest.mark.parametrize(
    ("pairs", "version", "keeps"),
    [
        ((), (1, 1), True),
        (((b"Connection", b"keep-alive"),), (1, 1), True),
        (((b"Connection", b"keep-alive, Close"),), (1, 1), False),
        (((b"Connection", b"x-a"), (b"connection", b" CLOSE ")), (1, 1), False),
        ((), (1, 0), False),
        (((b"Connection", b"keep-alive"),), (1, 0), False),
        (((b"Content-Length", b"1"),), (1, 1), True),
        (((b"Transfer-Encoding", b"chunked"),), (1, 1), False),  # aiohttp may pass its trailers on
    ],
)
def test_says_whether_the_connection_may_go_on(pairs: Pairs, version: tuple[int, int], keeps: bool) -> None:
    headers = headers_of(*pairs, version=version)
    assert headers.keep_alive is keeps
    assert headers.http_1_1 is (version == (1, 1))


# Host


@pytest.mark.parametrize(
    "host", [b"a", b"A.b-c_d", b"127.0.0.1", b"127.0.0.1:8443", b"[::1]", b"[::1]:1", b"[::ffff:1.2.3.4]", b"a:99999"]
)
def test_accepts_a_host(host: bytes) -> None:
    assert read_headers((1, 1), ((b"HOST", host),)).host == host.decode()


@pytest.mark.parametrize(
    "host",
    [b"", b"a b", b"u@a", b"u:p@a", b"a/b", b"a?b", b"a#b", b"a:", b"a:x", b"a:123456", b"[::1", b"::1", b"a,b",
     b"\xc3\xa4",
     b"a\\b", b"a:1:2", b"[g]", b"a\n", b"a" * 254],
)  # fmt: skip
def test_refuses_a_host_that_is_none(host: bytes) -> None:
    denial = denial_of(read_headers, (1, 1), ((b"Host", host),))
    assert denial.detail == "A request needs exactly one valid Host header."


def test_http_1_0_knows_no_host_and_1_1_must_name_one() -> None:
    assert read_headers((1, 0), ()).host == ""
    assert denial_of(read_headers, (1, 1), ()).detail == "A request needs exactly one valid Host header."


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", (None, "/a")),
        ("http://gateway.test/a?b", ("gateway.test", "/a?b")),
        ("HTTPS://Gateway.test:8443/a", ("Gateway.test:8443", "/a")),
        ("https://[::1]:1", ("[::1]:1", "/")),
        ("https://a?b", ("a", "/?b")),
        ("https://a#b", ("a", "/#b")),
        ("/http://a/b", (None, "/http://a/b")),
        ("ftp://a/b", (None, "ftp://a/b")),
        ("//a/b", (None, "//a/b")),
    ],
)
def test_a_target_in_absolute_form_names_its_host(target: str, expected: tuple[str | None, str]) -> None:
    assert origin_form(target) == expected


@pytest.mark.parametrize("host", ["", "u@a", "a:x", "a,b", "a\\b", "\udcff", "a b"])
def test_an_absolute_target_without_a_plain_host_is_refused(host: str) -> None:
    denial = denial_of(origin_form, f"https://{host}/a")
    assert (denial.reason, denial.detail) == (Reason.BAD_REQUEST, "The request target names no valid host.")


@pytest.mark.parametrize("pairs", [(HOST, HOST), (HOST, (b"hOsT", b"other.test"))])
def test_refuses_two_hosts(pairs: Pairs) -> None:
    for version in ((1, 0), (1, 1)):
        denial = denial_of(read_headers, version, pairs)
        assert denial.detail == "A request needs exactly one valid Host header."


# The framing


@pytest.mark.parametrize(
    ("pairs", "framing"),
    [
        ((), (False, None, False)),
        (((b"Content-Length", b"0"),), (False, 0, False)),
        (((b"content-LENGTH", b"17"),), (False, 17, True)),
        (((b"Content-Length", b"9" * 18),), (False, 10**18 - 1, True)),
        (((b"Transfer-Encoding", b"Chunked"),), (True, None, True)),
    ],
)
def test_reads_how_the_body_is_framed(pairs: Pairs, framing: tuple[bool, int | None, bool]) -> None:
    headers = headers_of(*pairs)
    assert (headers.chunked, headers.content_length, headers.has_body) == framing
    assert headers.kept == []


@pytest.mark.parametrize(
    "pairs",
    [
        ((b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")),
        ((b"Content-Length", b"1"), (b"Content-Length", b"1")),
        ((b"Content-Length", b"1"), (b"content-length", b"2")),
        ((b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")),
        ((b"Transfer-Encoding", b"gzip, chunked"),),
        ((b"Transfer-Encoding", b"chunked, chunked"),),
        ((b"Transfer-Encoding", b"identity"),),
        ((b"Transfer-Encoding", b"xchunked"),),
        ((b"Transfer-Encoding", b"\x0bchunked"),),
        ((b"Transfer-Encoding", b""),),
        *(
            ((b"Content-Length", value),)
            for value in (b"", b"+1", b"-1", b"1,1", b"0x1", b" 1", b"1 ", b"1_0", b"1" * 19, b"\xb2")
        ),
    ],
)
def test_refuses_a_framing_that_can_be_read_in_two_ways(pairs: Pairs) -> None:
    assert denial_of(read, "/", pairs, "POST").reason is Reason.BAD_REQUEST


def test_refuses_chunks_in_http_1_0() -> None:
    denial = denial_of(read, "/", ((b"Transfer-Encoding", b"chunked"),), "POST", (1, 0))
    assert denial.detail == "The only transfer coding of a request is chunked, in HTTP/1.1."


@pytest.mark.parametrize(
    ("pairs", "version", "expects"),
    [
        ((), (1, 1), False),
        (((b"Expect", b"100-Continue"),), (1, 1), True),
        (((b"Expect", b"100-continue"),), (1, 0), False),
        (((b"Expect", b"whatever"),), (1, 0), False),
    ],
)
def test_reads_the_expectation(pairs: Pairs, version: tuple[int, int], expects: bool) -> None:
    assert headers_of(*pairs, version=version).expects_continue is expects


@pytest.mark.parametrize("values", [[b"100-continue", b"100-continue"], [b"200-ok"], [b""], [b"100-continue, x"]])
def test_refuses_an_expectation_that_nobody_can_meet(values: list[bytes]) -> None:
    denial = denial_of(read, "/", tuple((b"Expect", value) for value in values), "POST")
    assert denial.reason is Reason.EXPECTATION_FAILED


# What is told of it


@PROPERTY
@given(st.text("QZXJ", min_size=8, max_size=12), st.integers(0, 10))
def test_a_refusal_never_holds_what_the_client_sent(canary: str, place: int) -> None:
    raw = canary.encode()
    target, pairs = [
        (f"/{canary}/..", ()),
        (f"/?{canary} ", ()),
        (canary, ()),
        ("/", ((b"Host", raw),)),
        ("/", ((b"Connection", raw + b"\xff"),)),
        ("/", ((b"Connection", raw + b", host"),)),
        ("/", ((b"Transfer-Encoding", raw),)),
        ("/", ((b"Content-Length", raw),)),
        ("/", ((b"Expect", raw),)),
        ("/", ((b"X-Forwarded_" + raw, raw),)),
        (f"https://{canary}:x/", ()),
    ][place]  # fmt: skip
    denial = denial_of(read, target, pairs)
    assert canary not in denial.detail
    assert canary.lower() not in denial.detail.lower()


@pytest.mark.parametrize(
    "path",
    ["/%41", "/%7e", "/%2D", "/us%61ge", "/%5f", "/%30", "/%252e", "/%25", "/%3b", "/%3B", "/%2", "/%zz", "/%"],
)
def test_refuses_an_encoding_that_makes_another_path_of_the_same(path: str) -> None:
    assert denial_of(read_target, "GET", path).reason is Reason.BAD_REQUEST


def test_the_host_of_the_target_is_the_requests_host() -> None:
    headers = headers_of()
    assert with_host(headers, None) is headers
    assert with_host(headers, "of.target").host == "of.target"
