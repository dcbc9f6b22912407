import pytest

from gateway.listener.parser_bypass import ParserBypass

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"


def opened(beginning: bytes, given: int, length: int | None, given_out: int, *, more: int = 0) -> int:
    """How much passes by, of a request that began so, and whose body has such a length."""
    bypass = ParserBypass()
    bypass.begin(beginning, given)
    bypass.give(more)
    bypass.expect(length)
    bypass.open(given_out)
    return bypass.left


def test_the_rest_passes_by_once_the_parser_has_given_all_out() -> None:
    assert opened(HEAD, len(HEAD), 100_000, 0) == 100_000
    assert opened(HEAD + b"abc", len(HEAD) + 3, 100_000, 3) == 99_997
    assert opened(HEAD, len(HEAD), 100_000, 20, more=20) == 99_980


@pytest.mark.parametrize(
    ("beginning", "given", "length", "given_out"),
    [
        (HEAD, len(HEAD), None, 0),
        (HEAD, len(HEAD), 65_535, 0),
        (HEAD + b"abc", len(HEAD) + 3, 100_000, 2),
        (b"", 0, 100_000, 0),
        (HEAD, len(HEAD) + 9000, 100_000, 0),
        (HEAD[:20], 20, 100_000, 0),
        (b"\r\n\r\n" + HEAD, len(HEAD) + 4, 100_000, 0),
    ],
    ids=["no-length", "little", "held", "behind-another", "long-head", "no-end", "blank-lines"],
)
def test_nothing_passes_by_where_it_would_not_be_worth_it_or_is_not_known(
    beginning: bytes, given: int, length: int | None, given_out: int
) -> None:
    assert opened(beginning, given, length, given_out) == 0


def test_what_is_behind_the_body_does_not_pass() -> None:
    bypass = ParserBypass()
    bypass.begin(HEAD, len(HEAD))
    bypass.expect(100_000)
    bypass.open(0)
    first = b"a" * 99_990
    assert bypass.take(first) is first
    assert bypass.take(b"b" * 10 + b"GET /") == b"b" * 10
    assert bypass.left == 0


def test_it_opens_once_for_a_body() -> None:
    bypass = ParserBypass()
    bypass.begin(HEAD, len(HEAD))
    bypass.expect(100_000)
    bypass.open(0)
    bypass.take(b"a" * 100_000)
    bypass.open(0)
    assert bypass.left == 0
