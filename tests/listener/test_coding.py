import pytest

from gateway.listener.coding import Coding

KB = 1024


def read(coding: Coding, body: int, *, size: int, coded: int = 0, piece: int = 8 * KB) -> int | None:
    """Counts a body in chunks of one size, with so many more bytes in the line of each; gives where it is refused."""
    wire_of_chunk = len(b"%x" % size) + 4 + coded + size
    per_piece = max(piece // wire_of_chunk, 1)
    for wire in range(0, body // size * wire_of_chunk, per_piece * wire_of_chunk):
        if coding.is_wasteful(per_piece * wire_of_chunk, per_piece * size, per_piece):
            return wire + per_piece * wire_of_chunk
    return None


@pytest.mark.parametrize("size", [1, 2, 16, 63])
def test_a_long_body_of_crumbs_is_refused_within_two_windows(size: int) -> None:
    refused_at = read(Coding(), 1000 * KB, size=size)
    assert refused_at is not None
    assert 128 * KB <= refused_at <= 160 * KB


@pytest.mark.parametrize("size", [64, 65, 1000, 8 * KB, 1000 * KB])
def test_what_is_cut_with_sense_is_not(size: int) -> None:
    assert read(Coding(), 10_000 * KB, size=size) is None


def test_a_small_body_may_be_cut_in_any_way() -> None:
    assert read(Coding(), 10 * KB, size=1) is None
    assert read(Coding(), 20 * KB, size=1) is None


def test_a_few_small_chunks_behind_large_ones_are_no_crumbs() -> None:
    coding = Coding()
    assert read(coding, 1000 * KB, size=8 * KB) is None
    assert read(coding, 4 * KB, size=20) is None


def test_large_chunks_buy_no_crumbs() -> None:
    coding = Coding()
    assert read(coding, 10_000 * KB, size=8 * KB) is None
    assert read(coding, 1000 * KB, size=1) is not None


@pytest.mark.parametrize("size", [64, 1000])
def test_a_coding_that_says_more_than_it_carries_is_refused(size: int) -> None:
    assert read(Coding(), 1000 * KB, size=size, coded=size // 2) is None
    assert read(Coding(), 1000 * KB, size=size, coded=2 * size) is not None


def test_a_coding_that_carries_nothing_is_refused() -> None:
    coding = Coding()
    assert [coding.is_wasteful(8 * KB, 0, 0) for _ in range(16)] == [False] * 15 + [True]
