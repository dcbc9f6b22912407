"""What is remembered of heads is bounded, in their number and in bytes."""

import pytest

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


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\nX-T: a\r\nX-U: \r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
]


def surplus_of(reads: list[bytes], known: dict[bytes, ResponseHead]) -> bool:
    """Whether the read that ended an answer had more than that."""
    got = list[bytes]()
    reader = AnswerReader(known, got.append)
    for data in reads:
        assert not reader.is_whole
        reader.take(data)
    assert reader.is_whole
    return reader.has_surplus


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("surplus", [b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"x", b"\r\nHTTP/1.1 200 OK\r\n"])
def test_whatever_is_behind_an_answer_is_surplus(answer: bytes, surplus: bytes) -> None:
    """The parser skips line ends there, so that it depended on whether the head was known."""
    known: dict[bytes, ResponseHead] = {}
    for cut in [*range(1, len(answer)), *range(1, len(answer))]:
        assert surplus_of([answer[:cut], answer[cut:] + surplus], known)
        assert not surplus_of([answer[:cut], answer[cut:]], known)
    for _ in range(2):
        assert surplus_of([answer + surplus], known)
        assert not surplus_of([answer], known)
    one_by_one = [answer[place : place + 1] for place in range(len(answer))]
    assert not surplus_of(one_by_one, {})
    assert surplus_of([*one_by_one[:-1], one_by_one[-1] + surplus], {})


def test_the_parser_is_given_each_head_with_the_empty_lines_before_it() -> None:
    """Each two of them are the end of a head to whoever looks for one."""
    given = list[bytes]()

    class Counting(AnswerReader):
        def _take_parsed(self, data: bytes) -> None:
            given.append(data)
            super()._take_parsed(data)

    reader = Counting({}, lambda _: None)
    reader.take(b"\r\n" * 4000)
    reader.take(b"\r\n" * 3 + b"HTTP/1.1 200 OK\r\n")
    reader.take(b"Content-Length: 2\r\n\r\nok")
    assert reader.is_whole
    assert len(given) == 3
