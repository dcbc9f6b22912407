from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.multipart.framing import MultipartFraming
from tests.support.pure import PROPERTY

AMBIGUOUS, MALFORMED = Reason.UNSUPPORTED_MEDIA_TYPE, Reason.BODY_MALFORMED
Part = tuple[bytes, bytes]


class Seen:
    """All parts that were whole, and the pieces of data as they came."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.pieces: list[bytes] = []

    def head(self, block: bytes) -> None:
        self._head, self._data = block, b""

    def data(self, piece: bytes) -> None:
        assert piece
        self.pieces.append(piece)
        self._data += piece

    def end(self) -> None:
        self.parts.append((self._head, self._data))


def read(pieces: Iterable[bytes], boundary: bytes = b"b") -> tuple[list[Part] | Reason, bytes]:
    seen = Seen()
    framing = MultipartFraming(boundary, seen)
    try:
        for piece in pieces:
            framing.take(piece)
        ending = framing.finish()
    except Refused as refused:
        return refused.denial.reason, b""
    return seen.parts, ending


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "beginning held=0"),
        (b"\r", "beginning held=1"),
        (b"\r\n--", "opening held=2"),
        (b"--b\r\nH", "head held=3"),
        (b"--b\r\nH\r\n\r\ndata", "data held=0"),
        (b"--b\r\nH\r\n\r\ndata\r\n-", "data held=3"),
        (b"--b\r\nH\r\n\r\ndata\r\n--b\r\n", "head held=2"),
        (b"--b\r\nH\r\n\r\ndata\r\n--b--", "closing held=0"),
    ],
)
def test_it_shows_its_state_and_what_it_holds_but_nothing_of_the_form(body: bytes, shown: str) -> None:
    framing = MultipartFraming(b"b", Seen())
    framing.take(body)
    assert repr(framing) == f"<MultipartFraming {shown}>"


def cut(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(body) + 1) for place in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize(
    ("body", "parts", "ending"),
    [
        (b"--b\r\nH\r\n\r\ndata\r\n--b--\r\n", [(b"H", b"data")], b"\r\n"),
        (b"--b\r\nH\r\n\r\ndata\r\n--b--", [(b"H", b"data")], b""),
        (b"\r\n--b\r\nH\r\n\r\ndata\r\n--b--", [(b"H", b"data")], b""),
        (b"--b\r\nH\r\n\r\ndata\r\n--b--\n", [(b"H", b"data")], b"\n"),
        (b"--b\r\nH\r\n\r\n\r\n--b--", [(b"H", b"")], b""),
        (b"--b\r\n\r\n\r\n--b--", [(b"", b"")], b""),
        (b"--b\r\nH\r\nI\r\n\r\n\r\n\r\n\r\n--b\r\nJ\r\n\r\n-\r\n-\r\n--\r\n--b--",
        [(b"H\r\nI", b"\r\n\r\n"), (b"J", b"-\r\n-\r\n--")], b""),
        (b"--b\r\nH\r\n\r\n\r\r\n--b--", [(b"H", b"\r")], b""),
        (b"--b\r\nH\r\n\r\n\r\n-\r\n-b\r\n--b--", [(b"H", b"\r\n-\r\n-b")], b""),
        (b"--b\r\nH\r\n\r\n-\r\n--b--", [(b"H", b"-")], b""),
        (b"--b\r\n" + b"h" * 8192 + b"\r\n\r\n\r\n--b--", [(b"h" * 8192, b"")], b""),
    ],
)  # fmt: skip
def test_parts_are_found_however_the_body_is_cut(body: bytes, parts: list[Part], ending: bytes) -> None:
    expected = (parts, ending)
    assert read([body]) == expected
    assert read(cut(body, range(len(body)))) == expected
    assert read([b"", body, b""]) == expected
    for place in range(min(len(body), 200)):
        assert read(cut(body, [place])) == expected


WHOLE = b"--b\r\nH\r\n\r\ndata\r\n--b\r\nI\r\n\r\nmore\r\n--b--"


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_body_that_ends_too_early_is_malformed(length: int) -> None:
    assert read([WHOLE[:length]])[0] is MALFORMED
    assert read(cut(WHOLE[:length], range(length)))[0] is MALFORMED


def test_half_a_line_end_behind_it_is_malformed() -> None:
    assert read([WHOLE + b"\r"])[0] is MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"x", b"\r\n\r\n--b\r\nH\r\n\r\n\r\n--b--", b"\n--b\r\nH\r\n\r\n\r\n--b--", b"\rx",
        b"preamble\r\n--b\r\nH\r\n\r\n\r\n--b--",
        b"--c\r\nH\r\n\r\n\r\n--c--", b"--b--", b"--b--\r\n",
        b"--b \r\nH\r\n\r\n\r\n--b--", b"--bx\r\nH\r\n\r\n\r\n--b--", b"--b\nH\n\n\n--b--",
        b"--b\r\rH\r\n\r\n\r\n--b--", b"b\r\nH\r\n\r\n\r\n--b--",
        b"--b\r\nH\r\n\r\n--b--", b"--b\r\nH\r\n\r\nx\n--b--", b"--b\r\nH\r\n\r\nx\r--b--",
        b"--b\r\nH\r\n\r\nx--b--", b"--b\r\nH\r\n\r\n\n--b--",
        b"--b\r\nH\r\n\r\nx\r\n--b \r\nI\r\n\r\n\r\n--b--", b"--b\r\nH\r\n\r\nx\r\n--b\nI\r\n\r\n\r\n--b--",
        b"--b\r\nH\r\n\r\nx\r\n--bx\r\n--b--",
        b"--b\r\nH\r\n\r\nx\r\n--b\r\r\n--b--", b"--b\r\nH\r\n\r\nx\r\n--b-\r\n--b--",
        b"--b\r\nH\r\n\r\nx\r\n---b--", b"--b\r\nH\r\n\r\nx\r\n\r--b--",
        b"--b\r\nH\r\n\r\nx\r\n--b--x", b"--b\r\nH\r\n\r\nx\r\n--b--\n\n", b"--b\r\nH\r\n\r\nx\r\n--b--\r\n\r\n",
        b"--b\r\nH\r\n\r\nx\r\n--b-- ",
        b"--b\r\nH\r\n\r\nx\r\n--b--\r\n--b\r\nH\r\n\r\n\r\n--b--", b"--b\r\nH\r\n\r\nx\r\n--b---",
        b"--b\r\nH --b\r\n\r\n\r\n--b--", b"--b\r\n--b\r\n\r\n\r\n--b--", b"--b\r\nH\r\n--b\r\nI\r\n\r\n\r\n--b--",
        b"--b\r\n" + b"h" * 8193 + b"\r\n\r\n\r\n--b--", b"--b\r\n" + b"h" * 10_000,
    ],
)  # fmt: skip
def test_what_another_parser_might_read_in_another_way_is_refused(body: bytes) -> None:
    assert read([body])[0] is AMBIGUOUS
    assert read(cut(body, range(len(body))))[0] is AMBIGUOUS
    for place in range(min(len(body), 200)):
        assert read(cut(body, [place]))[0] is AMBIGUOUS


fragments = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--b\r\n",
            b"\r\n--b\r\n",
            b"\r\n--b--",
            b"\r\n",
            b"\r",
            b"\n",
            b"-",
            b"b",
            b"H",
            b"\r\n\r\n",
            b"x",
            b" ",
        ]
    ),
    max_size=12,
).map(b"".join)


@PROPERTY
@given(fragments, st.lists(st.integers(0, 60), max_size=10))
@example(b"H\r\n\r\nx\r\n--b--", [3, 9, 10])
def test_the_cuts_decide_nothing(rest: bytes, cuts: list[int]) -> None:
    body = b"--b\r\n" + rest
    whole = read([body])
    assert read(cut(body, cuts)) == whole
    assert read(cut(body, range(len(body)))) == whole


@PROPERTY
@given(
    st.text("ab-", min_size=1, max_size=4).map(str.encode),
    st.lists(
        st.lists(st.sampled_from([b"\r", b"\n", b"-", b"a", b"b", b"\x00"]), max_size=12).map(b"".join),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_any_data_without_the_boundary_comes_through(boundary: bytes, contents: list[bytes], cuts: list[int]) -> None:
    body = (
        b"".join(b"--" + boundary + b"\r\nH\r\n\r\n" + content + b"\r\n" for content in contents)
        + b"--"
        + boundary
        + b"--"
    )
    expected = len(contents) + 1
    if body.count(b"--" + boundary) == expected and b"--" + boundary not in body.replace(b"--" + boundary, b""):
        parts, _ = read(cut(body, cuts), boundary)
        if parts is not AMBIGUOUS:  # `--` may stand before a delimiter's own
            assert parts == [(b"H", content) for content in contents]


def test_data_without_a_piece_of_a_delimiter_is_never_copied() -> None:
    seen = Seen()
    framing = MultipartFraming(b"b", seen)
    framing.take(b"--b\r\nH\r\n\r\n")
    pieces = [b"x" * 1000, b"\r\n--" + b"y" * 1000, b"z" * 1000 + b"\r\nx", b"-" + b"y" * 1000]
    for piece in pieces:
        framing.take(piece)
    assert all(found is piece for found, piece in zip(seen.pieces, pieces, strict=True))


def test_what_may_be_the_beginning_of_a_delimiter_waits() -> None:
    seen = Seen()
    framing = MultipartFraming(b"boundary", seen)
    framing.take(b"--boundary\r\nH\r\n\r\n")
    for piece, shown in [
        (b"one\r\n--bound", b"one"),
        (b"less", b"\r\n--boundless"),
        (b"\r", b""),
        (b"\n-", b""),
        (b"-boundary", b""),
        (b"-", b""),
    ]:
        before = len(b"".join(seen.pieces))
        framing.take(piece)
        assert b"".join(seen.pieces)[before:] == shown
    framing.take(b"-")
    assert seen.parts == [(b"H", b"one\r\n--boundless")]


class Searched(bytes):
    """Bytes that count how far they are looked through."""

    distance = 0

    def find(self, *wanted: Any) -> int:
        found = super().find(*wanted)
        start, *end = wanted[1:] or (0,)
        Searched.distance += (found if found >= 0 else (*end, len(self))[0]) - start
        return found

    def rfind(self, *wanted: Any) -> int:
        found = super().rfind(*wanted)
        Searched.distance += len(self) - max(found, 0)
        return found


@pytest.mark.parametrize("boundary", [b"b" * 60, b"b" * 60 + b"ABCDEFGH"], ids=["repeats-itself", "plain"])
def test_many_parts_in_front_of_a_file_are_looked_through_once(boundary: bytes) -> None:
    Searched.distance = 0
    part = b"--" + boundary + b"\r\nH\r\n\r\nvalue\r\n"
    body = Searched(part * 128 + b"--" + boundary + b"\r\nH\r\n\r\n" + b"x" * 200_000)
    MultipartFraming(boundary, Seen()).take(body)
    assert Searched.distance <= 2 * len(body)
