import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.model.routes import Kind
from gateway.upstream.client_head import BodyFraming, client_head
from gateway.upstream.response_head import ResponseHead, read_answer_head
from tests.support.pure import PROPERTY, header_values, parse_response, tokens, values_of

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
ID = b"0123456789abcdef"


def answer_of(
    *headers: tuple[bytes, bytes], status: int = 200, phrase: bytes = b"Fine", bodiless: bool = False
) -> ResponseHead:
    return read_answer_head(status, phrase, list(headers), http_1_1=True, bodiless=bodiless)


def test_writes_the_answers_head() -> None:
    answer = answer_of(
        (b"content-type", b"a/b"), (b"content-length", b"3"), (b"cache-control", b"max-age=9"), (b"date", b"then")
    )
    assert client_head(answer, BodyFraming(3, chunked=False, closes=False), ID, Kind.PLAIN, lambda: DATE) == (
        b"HTTP/1.1 200 Fine\r\ncontent-type: a/b\r\ncache-control: max-age=9\r\ndate: then\r\n"
        b"X-Request-Id: 0123456789abcdef\r\nContent-Length: 3\r\n\r\n"
    )
    assert client_head(answer, BodyFraming(None, chunked=True, closes=True), ID, Kind.RESULT, lambda: DATE) == (
        b"HTTP/1.1 200 Fine\r\ncontent-type: a/b\r\ndate: then\r\nCache-Control: no-store\r\n"
        b"X-Request-Id: 0123456789abcdef\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )


def test_the_same_head_written_again_is_for_its_own_request() -> None:
    answer, framing = answer_of((b"content-length", b"0")), BodyFraming(0, chunked=False, closes=False)
    first = client_head(answer, framing, b"one", Kind.PLAIN, lambda: b"then")
    again = client_head(answer, framing, b"two", Kind.PLAIN, lambda: b"now")
    assert again == first.replace(b"one", b"two").replace(b"then", b"now")
    assert b"no-store" in client_head(answer, framing, b"one", Kind.RESULT, lambda: b"then")
    assert client_head(answer, framing, b"one", Kind.PLAIN, lambda: b"then") == first


def test_what_is_kept_of_a_head_does_not_grow_with_the_lengths_of_bodies() -> None:
    """A submit's answer is rewritten: one head of 60 KB took 60 KB again for each length that this came to."""
    answer = answer_of((b"x-p", b"p" * 60_000), (b"content-length", b"6000"))
    for length in range(300):
        for kind in Kind:
            framing = BodyFraming(length, chunked=False, closes=bool(length % 2))
            assert b"\r\nContent-Length: %d\r\n" % length in client_head(answer, framing, ID, kind, lambda: DATE)
    assert sum(len(before) for _, before, _ in answer.client_heads.values()) <= 2 * 60_200


@pytest.mark.parametrize(
    ("status", "phrase", "line"),
    [
        (200, b"", b"HTTP/1.1 200 OK"),
        (404, b"", b"HTTP/1.1 404 Not Found"),
        (418, b"", b"HTTP/1.1 418 "),
        (200, b"Yo", b"HTTP/1.1 200 Yo"),
    ],
)
def test_a_status_line_has_a_phrase(status: int, phrase: bytes, line: bytes) -> None:
    head = client_head(
        answer_of(status=status, phrase=phrase), BodyFraming(0, False, False), ID, Kind.PLAIN, lambda: DATE
    )
    assert head.split(b"\r\n")[0] == line


UPSTREAMS_WORDS = [b"content-length", b"transfer-encoding", b"connection", b"x-request-id", b"x-gateway-reason",
b"date",
                   b"cache-control", b"keep-alive", b"trailer", b"upgrade", b"te", b"proxy-authenticate"]  # fmt: skip
upstream_pairs = st.lists(
    st.tuples(
        tokens.map(bytes.lower) | st.sampled_from(UPSTREAMS_WORDS),
        header_values | st.sampled_from([b"close", b"chunked", b"3", b"date, x-a", b"X-Request-Id"]),
    ),
    max_size=8,
)
phrases = st.binary(max_size=20) | st.just(b"OK")


@PROPERTY
@given(
    st.integers(200, 599),
    phrases,
    upstream_pairs,
    st.sampled_from(Kind),
    st.sampled_from(["length", "chunks", "close"]),
    st.booleans(),
)
@example(200, b"OK", [(b"connection", b"date"), (b"date", b"then")], Kind.PLAIN, "length", False)
def test_the_client_reads_exactly_one_answer(
    status: int, phrase: bytes, headers: list[tuple[bytes, bytes]], kind: Kind, end: str, closes: bool
) -> None:
    framing_names = {b"content-length", b"transfer-encoding"}
    answer = answer_of(*[pair for pair in headers if pair[0] not in framing_names], status=status, phrase=phrase)
    answer.headers.extend(pair for pair in headers if pair[0] in framing_names)  # whatever these said: framed anew
    body = b"" if status in {204, 304} else b"abc"
    framing, sent = {
        "length": (BodyFraming(len(body), chunked=False, closes=closes), body),
        "chunks": (BodyFraming(None, chunked=True, closes=closes), b"3\r\nabc\r\n0\r\n\r\n" if body else b""),
        "close": (BodyFraming(None, chunked=False, closes=True), body),
    }[end]
    response, read = parse_response(
        client_head(answer, framing, ID, kind, lambda: DATE) + sent, ends_with_connection=end == "close"
    )

    assert (response.status_code, read) == (status, body)
    assert values_of(response, b"x-request-id") == [ID]
    assert values_of(response, b"content-length") == ([b"%d" % len(body)] if end == "length" else [])
    assert values_of(response, b"transfer-encoding") == ([b"chunked"] if end == "chunks" else [])
    assert values_of(response, b"connection") == ([b"close"] if framing.closes else [])
    assert len(values_of(response, b"date")) >= 1
    if kind is Kind.RESULT:
        assert values_of(response, b"cache-control") == [b"no-store"]
    for name in (b"x-gateway-reason", b"keep-alive", b"trailer", b"upgrade", b"te", b"proxy-authenticate"):
        assert values_of(response, name) == []
