import re
from contextlib import closing

import pypdfium2 as pdfium
import pytest

from gateway.demo.sample import sample_pdf


@pytest.mark.parametrize("pages", [1, 3, 40])
def test_has_as_many_pages_as_asked(pages: int) -> None:
    with closing(pdfium.PdfDocument(sample_pdf(pages))) as document:
        assert len(document) == pages


def test_the_table_says_where_each_object_begins() -> None:
    data = sample_pdf(2)
    starts = [int(start) for start in re.findall(rb"(\d{10}) 00000 n", data)]
    assert len(starts) == 8
    for number, start in enumerate(starts, start=1):
        assert data[start:].startswith(b"%d 0 obj\n" % number)
    table = re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)
    assert table is not None
    assert data[int(table[1]) :].startswith(b"xref\n0 9\n")


def test_the_same_pages_give_the_same_bytes() -> None:
    assert sample_pdf(3) == sample_pdf(3)


def test_stays_small() -> None:
    assert len(sample_pdf()) < 10_000


@pytest.mark.parametrize("pages", [0, -1])
def test_no_pdf_without_a_page(pages: int) -> None:
    with pytest.raises(ValueError, match="at least one page"):
        sample_pdf(pages)
