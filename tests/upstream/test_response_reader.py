"""What is remembered of heads is bounded, in their number and in bytes."""

from gateway.upstream.response_head import ResponseHead
from gateway.upstream.response_reader import AnswerReader


def known_after(count: int, size: int) -> dict[bytes, ResponseHead]:
    """The heads that are known after so many different ones, each of which was read twice."""
    known: dict[bytes, ResponseHead] = {}
    for number in range(count):
        for _ in range(2):
            reader = AnswerReader(known, lambda _: None)
            reader.take(b"HTTP/1.1 200 OK\r\nX-%d: %b\r\nContent-Length: 0\r\n\r\n" % (number, b"x" * size))
            assert reader.is_whole
            assert reader.head is not None
            assert reader.head.headers[0] == (b"x-%d" % number, b"x" * size)
    return known


def test_heads_of_polls_are_known_again() -> None:
    assert len(known_after(10, 500)) == 10


def test_not_more_heads_are_remembered_than_polls_have() -> None:
    assert len(known_after(600, 10)) <= 256


def test_a_long_head_is_read_anew_each_time() -> None:
    """256 of 60 KB, and all that is made of each, were 60 MB for each upstream."""
    assert sum(map(len, known_after(300, 60_000))) == 0
    assert sum(map(len, known_after(300, 4_000))) <= 256 * 4096
