"""A page tree that is a graph is known by a look; no tree is one, however it is written."""

import time

import pytest

from gateway.demo.sample import sample_pdf
from gateway.uploads.pages.page_tree import MAX_BYTES, is_graph
from soak.slow_pdfs import page_graph


@pytest.mark.parametrize("widths", [(100, 100, 100, 24), (300, 300), (30, 30, 30), (2,) * 20])
def test_a_graph_of_many_ways_is_one(widths: tuple[int, ...]) -> None:
    assert is_graph(page_graph(*widths))


def padded(levels: int, between: int) -> bytes:
    """Two ways at each level, nodes of one kid between the levels, and zeros before each number of a reference."""
    widths = [width for _ in range(levels) for width in (2, *[1] * between)]
    nodes = (b"%d 0 obj<</Kids[%b]>>endobj\n" % (n, b"00%d 0 R " % (n + 1) * width) for n, width in enumerate(widths))
    return b"".join(nodes)


@pytest.mark.parametrize("between", [0, 1, 3, 30])
def test_nodes_of_one_kid_between_its_levels_do_not_hide_a_graph(between: int) -> None:
    assert is_graph(padded(40, between))


@pytest.mark.parametrize("levels", [6, 9, 10])
def test_a_way_back_hides_no_graph(levels: int) -> None:
    """Counted first is a node in the middle, from which the way leads back to the root: few nodes at each level."""
    middle = levels + 2
    before = [(n, b"%d 0 R " % (n + 1) * 2) for n in range(2, middle)]
    behind = [(n, b"%d 0 R " % (n + 1) * 2) for n in range(middle + 1, middle + levels)]
    nodes = [(middle, b"%d 0 R " % (middle + 1) * 2 + b"2 0 R"), *behind, (middle + levels, b""), *before]
    assert is_graph(b"".join(b"%d 0 obj<</Kids[%b]>>endobj\n" % node for node in nodes))


def chain(length: int) -> bytes:
    nodes = (b"%d 0 obj <</Type/Pages/Kids [%d 0 R]>> endobj\n" % (number, number + 1) for number in range(length))
    return b"%PDF-1.4\n" + b"".join(nodes)


def flat(pages: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % number for number in range(3, pages + 3))
    return b"%PDF-1.4\n2 0 obj<</Type/Pages/Kids[" + kids + b"]>>endobj\n"


@pytest.mark.parametrize(
    "document",
    [
        b"", b"%PDF-1.7", sample_pdf(7), sample_pdf(40), flat(7000), flat(500) * 10, chain(1000), page_graph(50, 50),
        flat(3).replace(b"4 0 R", b"3 0 R"), b"2 0 obj<</Kids[2 0 R]>>endobj",
    ],
    ids=["empty", "head", "sample", "samples", "flat", "updated", "deep", "some-twice", "one-twice", "its-own-kid"],
)  # fmt: skip
def test_what_is_a_tree_or_small_is_none(document: bytes) -> None:
    assert not is_graph(document)


@pytest.mark.parametrize(
    "crumb", [b"/Kids[", b"1 0 obj", b"1 0 R ", b"endobj", b"1 0 obj/Kids[1 0 R]endobj", b" ", b"1"]
)
def test_to_look_is_cheap_whatever_there_is(crumb: bytes) -> None:
    """Milliseconds; the bound is for a busy machine."""
    document = (crumb * (MAX_BYTES // len(crumb) + 1))[:MAX_BYTES]
    began = time.process_time()
    is_graph(document)
    is_graph(b"1 0 obj/Kids[" + document)
    assert time.process_time() - began < 1.0
