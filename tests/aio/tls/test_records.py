"""records.py: the ends of records are found however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.tls.records import Records

RECORDS = st.lists(st.integers(0, 300), min_size=1, max_size=20)
CUTS = st.lists(st.integers(1, 400), min_size=1, max_size=50)


def stream(sizes: list[int]) -> bytes:
    return b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size) for size in sizes)


@given(RECORDS, CUTS, st.integers(1, 5))
def test_each_record_is_counted_once_and_no_step_has_more_than_it_may(
    sizes: list[int], cuts: list[int], most: int
) -> None:
    records, data, counted, place = Records(), stream(sizes), 0, 0
    for cut in (*cuts, len(data)):
        piece = memoryview(data)[place : place + cut]
        place += len(piece)
        while piece:
            size, ended = records.advance(piece, most)
            assert ended <= most
            assert size == len(piece) or ended == most
            counted += ended
            piece = piece[size:]
    assert counted == len(sizes)


@given(RECORDS)
def test_a_step_ends_where_a_record_ends(sizes: list[int]) -> None:
    records, data = Records(), memoryview(stream(sizes))
    for size in sizes:
        step, ended = records.advance(data, 1)
        assert (step, ended) == (5 + size, 1)
        data = data[step:]
    assert not data


@pytest.mark.parametrize(("first", "is_foreign"), [(0x16, False), (0x80, True), (0xC4, True), (0x15, False)])
def test_a_hello_in_the_format_of_ssl_2_is_told(first: int, is_foreign: bool) -> None:
    records = Records()
    records.advance(memoryview(bytes([first, 3, 3, 0, 0])), 1)
    assert records.is_foreign == is_foreign
    records.advance(memoryview(b"\x80"), 1)
    assert records.is_foreign == is_foreign
