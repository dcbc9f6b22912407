"""The depth below a bracket, against what is found byte by byte."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstream.json_depth import JsonDepth
from tests.support.pure import PROPERTY

marks = st.lists(st.sampled_from([*b'{}[]""\\, x']), max_size=300).map(bytes)
runs = st.lists(st.tuples(st.sampled_from([b"[", b"]", b'"', b"\\", b'"["', b"[]", b"x"]), st.integers(1, 200))).map(
    lambda found: b"".join(text * times for text, times in found)
)


def found_byte_by_byte(data: bytes) -> tuple[int, int]:
    """Where the bracket is closed that was open before, and the depth there or at the end."""
    depth, in_string, place = 1, False, 0
    while place < len(data) and depth:
        byte = data[place : place + 1]
        if byte == b"\\" and data[place + 1 : place + 2] in {b"\\", b'"'}:
            place += 1
        elif byte == b'"':
            in_string = not in_string
        elif not in_string:
            depth += (byte in b"{[") - (byte in b"}]")
        place += 1
    return min(place, len(data)), depth


def found_in(data: bytes, cuts: list[int]) -> tuple[int, int]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    below, passed = JsonDepth(), 0
    for start, end in pairwise(places):
        if below.depth:
            passed = start + below.take(data[start:end], 0)
    return passed, below.depth


@PROPERTY
@given(marks | runs, st.lists(st.integers(0, 40_000), max_size=8))
@example(b'"' + b"\\" * 63 + b'"]"]', [])
@example(b'"' + b"\\" * 64 + b'"]"]', [65])
@example(b"[" * 2000 + b"]" * 2001 + b"]", [])
def test_it_is_what_is_found_byte_by_byte(data: bytes, cuts: list[int]) -> None:
    assert found_in(data, cuts) == found_byte_by_byte(data)


@PROPERTY
@given(st.integers(1, 50_000), st.integers(0, 50_000))
def test_the_end_is_found_wherever_it_is(before: int, behind: int) -> None:
    data = b"[]x" * (before // 3) + b"]" + b"[" * behind
    assert found_in(data, []) == (before // 3 * 3 + 1, 0)
