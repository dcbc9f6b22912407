import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstream.url_rewriter import UrlRewriter
from tests.support.pure import PROPERTY

SECURE = b"https://127.0.0.1:8000/"
OLD, NEW = b"http://127.0.0.1:8000/", b"https://public.test/"


def slashed(text: bytes) -> bytes:
    return text.replace(b"/", rb"\/")


def rewritten(*pieces: bytes) -> bytes:
    rewriter = UrlRewriter(OLD, NEW)
    return b"".join([*map(rewriter.take, pieces), rewriter.end()])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"images": ["http://127.0.0.1:8000/static/a.png"]}', b'{"images": ["https://public.test/static/a.png"]}'),
        (rb'["http:\/\/127.0.0.1:8000\/static\/a.png"]', rb'["https:\/\/public.test\/static\/a.png"]'),
        (OLD * 3, NEW * 3),
        (b"hhttp://127.0.0.1:8000//", b"hhttps://public.test//"),
        (b"http://127.0.0.1:80001/", b"http://127.0.0.1:80001/"),
        (b"http://127.0.0.1:8000", b"http://127.0.0.1:8000"),
        (b"https://127.0.0.1:8000/", b"https://public.test/"),
        (rb"https:\/\/127.0.0.1:8000\/", rb"https:\/\/public.test\/"),
        (b"httpss://127.0.0.1:8000/", b"httpss://127.0.0.1:8000/"),
        (rb"http:\/\/127.0.0.1:8000/", rb"http:\/\/127.0.0.1:8000/"),
        (b"http://127x0.0.1:8000/", b"http://127x0.0.1:8000/"),
        (b"http://httphttp://127.0.0.1:8000/a", b"http://httphttps://public.test/a"),
    ],
)
def test_the_origin_alone_is_replaced(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after
    assert rewritten(*(before[i : i + 1] for i in range(len(before)))) == after


parts = st.sampled_from([
    OLD, slashed(OLD), SECURE, slashed(SECURE), SECURE[:-2], OLD[:-1], OLD[:5], slashed(OLD)[:-3], b"h", b"http",
    b"/", b"\\", b"x", b"",
])  # fmt: skip


@PROPERTY
@given(st.lists(parts | st.binary(max_size=5), max_size=12).map(b"".join), st.lists(st.integers(0, 300), max_size=20))
@example(b"http:" + OLD, [5])
def test_any_split_gives_what_one_replacement_gives(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    expected = data
    for old in (OLD, SECURE):
        expected = expected.replace(old, NEW).replace(slashed(old), slashed(NEW))
    assert rewritten(*pieces) == expected


def test_nothing_is_held_back_that_can_not_be_an_origin() -> None:
    rewriter = UrlRewriter(OLD, NEW)
    assert rewriter.take(b"abc http:/") == b"abc "
    assert rewriter.take(b"/x") == b"http://x"
    assert rewriter.take(OLD[:-1]) == b""
    assert rewriter.end() == OLD[:-1]
    assert rewriter.end() == b""


def test_a_large_answer_needs_the_memory_of_a_piece() -> None:
    rewriter = UrlRewriter(OLD, NEW)
    piece = b"h" * 65536
    tracemalloc.start()
    try:
        sizes = [len(rewriter.take(piece)) for _ in range(200)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) + len(rewriter.end()) == 200 * len(piece)
    assert peak < 8 * len(piece)
