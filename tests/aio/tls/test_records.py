"""records.py: the ends of records are found however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.tls.records import Records, has_no_certificates

RECORDS = st.lists(st.integers(0, 300), min_size=1, max_size=20)
CUTS = st.lists(st.integers(1, 400), min_size=1, max_size=50)


def stream(sizes: list[int]) -> bytes:
    return b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size) for size in sizes)


@given(RECORDS, CUTS)
def test_each_record_is_counted_once_and_no_step_has_more_than_one(sizes: list[int], cuts: list[int]) -> None:
    records, data, counted, place = Records(), stream(sizes), 0, 0
    for cut in (*cuts, len(data)):
        piece = memoryview(data)[place : place + cut]
        place += len(piece)
        while piece:
            size, ended = records.advance(piece)
            assert size == len(piece) or ended
            counted += ended
            piece = piece[size:]
    assert counted == len(sizes)


@given(RECORDS)
def test_a_step_ends_where_a_record_ends(sizes: list[int]) -> None:
    records, data = Records(), memoryview(stream(sizes))
    for size in sizes:
        step, ended = records.advance(data)
        assert (step, ended) == (5 + size, True)
        data = data[step:]
    assert not data


@given(RECORDS, st.integers(0, 6000))
def test_a_whole_record_ends_where_a_step_does(sizes: list[int], cut: int) -> None:
    data, place = memoryview(stream(sizes))[:cut], 0
    while end := Records().end_of_whole(data, place):
        assert Records().advance(data, place) == (end, True)
        place = end
    assert Records().advance(data, place)[1] is False  # what is left is none


def test_what_needs_to_be_followed_is_no_whole_record() -> None:
    begun, data = Records(), memoryview(stream([9]))
    begun.advance(memoryview(stream([9]))[:3])
    assert (Records().end_of_whole(data), begun.end_of_whole(data)) == (14, 0)
    begun.advance(memoryview(stream([9]))[3:6])
    assert begun.end_of_whole(data) == 0
    assert Records().end_of_whole(memoryview(handshake(bytes(9)))) == 0
    assert Records().end_of_whole(data[:0]) == 0


@given(CUTS)
def test_the_largest_record_of_a_handshake_behind_its_change_is_known(cuts: list[int]) -> None:
    records, place = Records(), 0
    data = b"".join(
        bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes(size)
        for kind, size in ((22, 900), (22, 50), (20, 1), (22, 40), (22, 300), (23, 2000), (22, 60))
    )
    seen = []
    for cut in (*cuts, len(data)):
        piece = memoryview(data)[place : place + cut]
        place += len(piece)
        while piece:
            size, _ = records.advance(piece)
            piece = piece[size:]
            seen.append(records.after_change)
    assert [one for one in dict.fromkeys(seen) if one is not None] in ([0, 40, 300], [40, 300], [0, 300], [300])
    assert Records().after_change is None


@pytest.mark.parametrize(("first", "is_foreign"), [(0x16, False), (0x80, True), (0xC4, True), (0x15, False)])
def test_a_hello_in_the_format_of_ssl_2_is_told(first: int, is_foreign: bool) -> None:
    records = Records()
    records.advance(memoryview(bytes([first, 3, 3, 0, 0])))
    assert records.is_foreign == is_foreign
    records.advance(memoryview(b"\x80"))
    assert records.is_foreign == is_foreign


SERVER_HELLO = b"\x02\x00\x00\x03abc"


def handshake(content: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + len(content).to_bytes(2) + content


@pytest.mark.parametrize(
    ("record", "is_first", "is_light"),
    [
        (handshake(SERVER_HELLO), True, True),
        (handshake(SERVER_HELLO), False, False),  # the rest of a certificate may look like it
        (handshake(SERVER_HELLO + b"\x0b"), True, False),  # and one begins
        (handshake(SERVER_HELLO[:-1]), True, False),
        (handshake(SERVER_HELLO, kind=23), True, False),
        (handshake(b"\x0b\x00\x00\x03abc"), True, False),
        (handshake(b""), True, False),
        (handshake(b"\x01", kind=20), True, True),
        (handshake(b"\x01", kind=20), False, True),
        (handshake(b"\x01\x01", kind=20), False, False),
    ],
)
def test_what_surely_has_no_certificates(record: bytes, is_first: bool, is_light: bool) -> None:
    assert has_no_certificates(record, is_first=is_first) is is_light
