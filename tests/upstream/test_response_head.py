import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBrokeOff
from gateway.upstream.response_head import ResponseHead, read_answer_head
from tests.support.pure import PROPERTY, header_values

Headers = list[tuple[bytes, bytes]]
LENGTH, CHUNKED = (b"content-length", b"5"), (b"transfer-encoding", b"Chunked")


def read(
    *headers: tuple[bytes, bytes], status: int = 200, http_1_1: bool = True, bodiless: bool = False
) -> ResponseHead:
    return read_answer_head(status, b"OK", list(headers), http_1_1=http_1_1, bodiless=bodiless)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([LENGTH], (5, 5, False, True)),
        ([(b"content-length", b"0")], (0, 0, False, True)),
        ([CHUNKED], (None, None, True, True)),
        ([], (None, None, False, False)),
        ([LENGTH, (b"connection", b"keep-alive")], (5, 5, False, True)),
        ([LENGTH, (b"connection", b"Close")], (5, 5, False, False)),
        ([CHUNKED, (b"connection", b"x, CLOSE")], (None, None, True, False)),
        ([CHUNKED, (b"connection", b"x"), (b"connection", b"close")], (None, None, True, False)),
    ],
)
def test_reads_how_the_body_ends(headers: Headers, framing: tuple[int | None, int | None, bool, bool]) -> None:
    answer = read(*headers)
    assert (answer.length, answer.stated, answer.chunked, answer.reusable) == framing
    assert answer.headers == headers


@pytest.mark.parametrize(
    ("status", "bodiless", "headers", "stated"),
    [
        (200, True, [LENGTH], 5),
        (200, True, [CHUNKED], None),
        (200, True, [], None),
        (204, False, [LENGTH], None),
        (204, False, [], None),
        (204, True, [CHUNKED], None),
        (304, False, [LENGTH], 5),
        (304, False, [CHUNKED], None),
    ],
)
def test_some_answers_have_no_body_whatever_they_say(
    status: int, bodiless: bool, headers: Headers, stated: int | None
) -> None:
    answer = read(*headers, status=status, bodiless=bodiless)
    assert (answer.length, answer.chunked, answer.stated, answer.reusable) == (0, False, stated, False)


def test_a_connection_of_http_1_0_is_used_once() -> None:
    answer = read(LENGTH, (b"connection", b"keep-alive"), http_1_1=False)
    assert (answer.length, answer.reusable) == (5, False)


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 103, 199, 600, 999])
def test_refuses_what_is_no_final_status(status: int) -> None:
    with pytest.raises(UpstreamBrokeOff, match=r"^The upstream's answer has no usable head\.$") as caught:
        read(LENGTH, status=status)
    assert caught.value.arrived


@pytest.mark.parametrize("status", [200, 206, 302, 404, 418, 500, 599])
def test_takes_any_final_status(status: int) -> None:
    assert read(LENGTH, status=status).status == status


def test_bounds_what_names_headers_of_this_hop() -> None:
    """Each name between commas costs time: 64 KB of commas cost 5 ms for each answer."""
    whole = (b"connection", b"," * 1024)
    assert read(LENGTH, whole).length == 5
    with pytest.raises(UpstreamBrokeOff, match="too long a Connection header") as caught:
        read(LENGTH, whole, (b"connection", b"x"))
    assert caught.value.arrived


def test_bounds_the_number_of_headers() -> None:
    assert len(read(*[(b"x", b"y")] * 200).headers) == 200
    with pytest.raises(UpstreamBrokeOff, match="no usable head"):
        read(*[(b"x", b"y")] * 201)


TWO_WAYS, NO_LENGTH = "is framed in two ways or in none we know", "has no usable Content-Length"


@pytest.mark.parametrize(
    ("headers", "http_1_1", "message"),
    [
        ([LENGTH, CHUNKED], True, TWO_WAYS),
        ([CHUNKED, CHUNKED], True, TWO_WAYS),
        ([CHUNKED], False, TWO_WAYS),
        ([(b"transfer-encoding", b"gzip, chunked")], True, TWO_WAYS),
        ([(b"transfer-encoding", b"")], True, TWO_WAYS),
        ([(b"transfer-encoding", b"identity")], True, TWO_WAYS),
        ([LENGTH, LENGTH], True, NO_LENGTH),
        *(([(b"content-length", value)], True, NO_LENGTH) for value in (b"", b"-1", b"+5", b"5, 5", b"0x5", b"5 ",
        b"1" * 19, b"\xb2")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bodiless", [False, True])
def test_refuses_a_framing_that_can_be_read_in_two_ways(
    headers: Headers, http_1_1: bool, message: str, bodiless: bool
) -> None:
    with pytest.raises(UpstreamBrokeOff, match=message) as caught:
        read(*headers, http_1_1=http_1_1, bodiless=bodiless)
    assert caught.value.arrived


@pytest.mark.parametrize(
    ("phrase", "kept"),
    [
        (b"Not Found", b"Not Found"),
        (b"", b""),
        (b"\xc3\xa4", b""),
        (b"a\r\nX: y", b""),
        (b"a" * 201, b""),
        (b"a" * 200, b"a" * 200),
    ],
)
def test_keeps_a_plain_phrase_alone(phrase: bytes, kept: bytes) -> None:
    assert read_answer_head(200, phrase, [], http_1_1=True, bodiless=False).phrase == kept


def test_notes_whether_a_date_came() -> None:
    assert read((b"date", b"x"), (b"a", b"b")).has_date
    assert not read((b"x-date", b"x")).has_date


names = st.sampled_from([b"content-length", b"transfer-encoding", b"connection", b"date", b"x"])
values = st.sampled_from([b"5", b"0", b"chunked", b"close", b"gzip", b""]) | header_values


@PROPERTY
@given(st.integers(0, 700), st.lists(st.tuples(names, values), max_size=6), st.booleans(), st.booleans())
def test_an_end_that_is_not_sure_is_never_reused(
    status: int, headers: Headers, http_1_1: bool, bodiless: bool
) -> None:
    try:
        answer = read(*headers, status=status, http_1_1=http_1_1, bodiless=bodiless)
    except UpstreamBrokeOff:
        return
    assert not (answer.chunked and answer.length is not None)
    if answer.reusable:
        assert http_1_1
        assert answer.chunked or answer.length is not None
    if bodiless or status in {204, 304}:
        assert answer.length == 0
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    assert len(codings) + len(lengths) <= 1
