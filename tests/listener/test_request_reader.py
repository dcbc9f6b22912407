"""request_reader.py without a connection: what came is read as requests, a little at a time, however it is cut."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.aio.iteration import Iteration
from gateway.aio.turn import SLICE, Turn
from gateway.errors import Refused
from gateway.listener.backlog import Backlog
from gateway.listener.request_reader import RequestReader, is_connect
from tests.support.held import texts_within
from tests.support.pure import PROPERTY

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = b"GET /l HTTP/1.1\r\nHost: h\r\n" + (b"X-A: " + b"canary" * 1000 + b"\r\n") * 2 + b"\r\n"
CODED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n%b\r\n3\r\nabc\r\n0\r\n\r\n"
SIZED = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%b\r\n%b"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"


@pytest.fixture
def reader() -> RequestReader:
    return reader_now()


def reader_now() -> RequestReader:
    """Of a loop that never runs: nothing here waits."""
    loop: Any = object()
    return RequestReader(loop, Turn(Iteration(lambda: 0.0, lambda _: None)))


def read_all(reader: RequestReader) -> list[tuple[str, bytes]]:
    """The requests that are there whole, with their bodies; a fault is the last."""
    found: list[tuple[str, bytes]] = []
    while True:
        reader.begin()
        while not reader.has_request and reader.has_unread:
            try:
                reader.feed_head()
            except Refused as refused:
                return [*found, (refused.denial.reason.value, b"")]
        if not reader.has_request:
            return found
        request, body = reader.take()
        if isinstance(request, Refused):
            return [*found, (request.denial.reason.value, b"")]
        reader.expect_body(int(request.headers["Content-Length"]) if "Content-Length" in request.headers else None)
        content = b""
        while True:
            piece = reader.read_body(body)
            content += piece
            if not piece and (body.is_eof() or not reader.has_unread):
                break
            if not piece:
                reader.feed_body(body)
        found.append((request.path, content))


def added(reader: RequestReader, *pieces: bytes) -> RequestReader:
    for piece in pieces:
        reader.add(piece)
    return reader


MIXED = [
    GET,
    b"\r\n" + GET,
    CODED % b"",
    CODED % UPGRADE,
    GET[:-2] + UPGRADE + b"\r\n",
    SIZED % (3, b"", b"xyz"),
    SIZED % (3, UPGRADE, b"xyz"),
    SIZED % (200_000, b"", b"z" * 200_000),
    LARGE,
]
READ = [("/a", b""), ("/a", b""), ("/c", b"abc"), ("/c", b"abc"), ("/a", b""), ("/s", b"xyz"), ("/s", b"xyz")]
READ += [("/s", b"z" * 200_000), ("/l", b"")]


@settings(PROPERTY)
@given(st.lists(st.integers(0, len(MIXED) - 1), max_size=60), st.lists(st.integers(0, 3000), max_size=5))
def test_requests_in_one_piece_are_read_one_by_one(chosen: list[int], cuts: list[int]) -> None:
    wire = b"".join(MIXED[index] for index in chosen)
    places = [0, *sorted(cuts), len(wire)]
    pieces = [wire[begin:end] for begin, end in pairwise(places) if wire[begin:end]]
    assert read_all(added(reader_now(), *pieces)) == [READ[index] for index in chosen]


@pytest.mark.parametrize("before", [b"", GET, SIZED % (3, b"", b"xyz")])
def test_nothing_of_a_large_head_is_kept(reader: RequestReader, before: bytes) -> None:
    """A connection that once had one kept 113 KB while it was idle."""
    read_all(added(reader, before + LARGE))
    assert not any("canary" in text for text in texts_within(reader))
    assert read_all(added(reader, GET + LARGE + GET)) == [("/a", b""), ("/l", b""), ("/a", b"")]


def test_what_follows_an_upgrade_that_is_ignored_is_the_next_request(reader: RequestReader) -> None:
    """In chunks, the parser sees the end of the body and what follows it in one slice."""
    assert read_all(added(reader, CODED % UPGRADE + GET)) == [("/c", b"abc"), ("/a", b"")]


def test_what_follows_connect_is_not_read(reader: RequestReader) -> None:
    added(reader, b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n").feed_head()
    request, _ = reader.take()
    assert is_connect(request)


def test_more_requests_than_the_parser_makes_at_once_are_all_read(reader: RequestReader) -> None:
    assert len(GET) * 70 < SLICE  # behind a body in chunks, they are in its slice
    assert read_all(added(reader, CODED % b"" + GET * 70)) == [("/c", b"abc"), *[("/a", b"")] * 70]


def test_the_same_once_more_is_not_parsed_again(reader: RequestReader) -> None:
    added(reader, GET).feed_head()
    first, _ = reader.take()
    reader.begin()
    assert reader.repeat(GET)
    assert reader.take()[0] is first
    assert not reader.repeat(GET + GET)
    added(reader, GET[:5]).feed_head()
    assert reader.has_begun
    assert not reader.repeat(GET)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x16\x03\x01\r\n\r\n", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "bad_request"),
        (b"GET / RTSP/1.0\r\nHost: h\r\n\r\n", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 200 + b"\r\n", "headers_too_large"),
        (b"GET /" + b"a" * 9_000, "headers_too_large"),
        (b"\r\n" * 40_000, "headers_too_large"),
        (b"GET / HTTP/9.1\r\nHost: h\r\n\r\n", "version_not_supported"),
    ],
)
def test_a_fault_is_a_value(reader: RequestReader, sent: bytes, reason: str) -> None:
    assert read_all(added(reader, GET + sent)) == [("/a", b""), (reason, b"")]


@pytest.mark.parametrize("sent", [b"zz\r\n", b"3\r\nabcX", b"1\r\na\r\n" * 40_000])
def test_a_body_that_is_none_is_refused(reader: RequestReader, sent: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_all(added(reader, CODED.partition(b"%b")[0] + b"\r\n" + sent))
    assert refused.value.denial.reason.value == "body_malformed"


def test_who_is_gone_has_nothing_more(reader: RequestReader) -> None:
    added(reader, CODED % b"" + GET * 70).feed_head()
    reader.take()
    reader.clear()
    assert (reader.has_more, reader.has_request, reader.waiting) == (False, False, 0)


def test_bytes_that_are_put_back_come_first() -> None:
    backlog = Backlog()
    backlog.add(b"abcdef")
    assert backlog.take(4) == b"abcd"
    backlog.put_back(b"cd")
    assert (len(backlog), backlog.take(9)) == (4, b"cdef")


@pytest.mark.parametrize("cut", [*range(-4, 5)])
@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_a_long_head_ends_where_it_ends_wherever_it_is_cut(reader: RequestReader, slices: int, cut: int) -> None:
    """Else the parser would get what comes behind it too, and empty lines within that would be dropped."""
    start = b"GET /one HTTP/1.1\r\nHost: h\r\n"
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 4000) for number in range(2 * slices - 1))
    left = slices * SLICE + cut - len(start + lines) - len(b"X-Last: \r\n\r\n")
    first = start + lines + b"X-Last: " + b"c" * left + b"\r\n\r\n"
    assert len(first) == slices * SLICE + cut
    second = b"GET /two HTTP/1.1\r\nHost: h\r\nX-D: "
    second += b"d" * (SLICE - cut - len(second)) + b"\r\n\r\n"
    asked = added(reader, first + second + GET)
    assert [path for path, _ in read_all(asked)] == ["/one", "/two", "/a"]
