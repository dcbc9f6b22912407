import io
import random
import struct
import tempfile
from typing import Any

import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.demo.sample import sample_pdf
from gateway.uploads.pages import pdf_gaps as gaps
from gateway.uploads.pages.pdf_gaps import PdfGaps, stated_length
from gateway.uploads.pages.worker import DocumentFile, count_pages
from gateway.uploads.pages.worker_protocol import UNKNOWN

MB = 1_048_576
SMALL = {"ALWAYS_KEPT": 200, "MARGIN": 16, "LEAST": 64, "CONTEXT": 64}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size).replace(b"stream", b"STREAM")  # noqa: S311 -- noise, not a secret


def stream(size: int, front: bytes = b"/Length %d", content: bytes | None = None) -> bytes:
    """An object that is one stream; %d is its length."""
    content = noise(size) if content is None else content
    dictionary = b"<< " + front.replace(b"%d", b"%d" % size) + b" >>"
    return b"9 0 obj\n" + dictionary + b"\nstream\n" + content + b"\nendstream\nendobj\n"


def kept_of(content: bytes, step: int = 262_144) -> tuple[bytes, bytes]:
    """What is kept of a document that comes in such pieces, and its table."""
    found = PdfGaps()
    kept = b"".join(b"".join(found.take(content[at : at + step])) for at in range(0, len(content), step))
    return kept, found.table()


def pairs(table: bytes) -> list[tuple[int, int]]:
    return [(start, end) for start, end in struct.iter_unpack("<QQ", table)]


def counted(content: bytes, step: int = 262_144) -> tuple[int, int]:
    """The pages of a document without its gaps, and how many bytes of it were kept."""
    kept, table = kept_of(content, step)
    with tempfile.TemporaryFile() as file:
        file.write(kept + table)
        file.flush()
        return count_pages(file.fileno(), has_gaps=bool(table)), len(kept)


def scanned(pages: int, side: int = 1600) -> bytes:
    """A PDF as Pillow makes it of so many pictures that can't be compressed."""
    pictures = [Image.frombytes("RGB", (side, side), noise(side * side * 3)) for _ in range(pages)]
    out = io.BytesIO()
    pictures[0].save(out, "PDF", save_all=True, append_images=pictures[1:], quality=95)
    return out.getvalue()


# What is left out


def test_of_a_large_stream_both_ends_are_kept() -> None:
    content = stream(20 * MB)
    begins = content.index(b"stream") + 6
    kept, table = kept_of(content)
    gap, (size, count) = pairs(table)
    assert (size, count) == (len(content), 1)
    assert gap == (4 * MB, begins + 20 * MB - 4096)
    assert kept == content[: gap[0]] + content[gap[1] :]


def test_a_stream_that_begins_later_is_kept_at_its_beginning() -> None:
    content = b"x" * 5 * MB + stream(MB) + stream(MB)
    _, table = kept_of(content)
    first, second, _ = pairs(table)
    assert first[0] == content.index(b"stream") + 6 + 4096
    assert second[0] == content.index(b"stream", first[1] + 4096 + len("\nendstream")) + 6 + 4096


@pytest.mark.parametrize(
    "content",
    [
        stream(3 * MB),
        b"x" * 20 * MB,
        b"x" * 5 * MB + stream(60_000) * 40,
        b"x" * 5 * MB + stream(5 * MB, b"/Length 12 0 R"),
        b"x" * 5 * MB + stream(5 * MB, b"/Type /ObjStm /Length %d"),
        b"x" * 5 * MB + stream(5 * MB, b"/Length %d /Type/XRef"),
        b"x" * 5 * MB + stream(5 * MB, b"/Length %d /Length %d"),
        b"x" * 5 * MB + stream(5 * MB, b"/Length1 %d"),
        b"x" * 5 * MB + stream(5 * MB, b"/Length 4294967296999999999999999"),
    ],
    ids=["small", "no-stream", "small-streams", "elsewhere", "objects", "table", "two", "another", "too-long"],
)
def test_all_is_kept_of_what_is_small_or_needed_or_does_not_say_its_length(content: bytes) -> None:
    assert kept_of(content) == (content, b"")


def test_a_length_behind_the_document_s_end_leaves_out_no_more_than_there_is() -> None:
    content = stream(20 * MB, b"/Length 999999999")[: 10 * MB]
    kept, table = kept_of(content)
    assert (kept, pairs(table)) == (content[: 4 * MB], [(4 * MB, 10 * MB), (10 * MB, 1)])


def test_a_document_that_ends_before_its_gap_begins_has_none() -> None:
    content = stream(MB, b"/Length 999999999")
    assert kept_of(content) == (content, b"")


def test_a_piece_without_a_gap_goes_on_as_the_object_it_was() -> None:
    piece = noise(1000)
    (kept,) = PdfGaps().take(piece)
    assert kept is piece


def test_gaps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MAX", 3)
    _, table = kept_of(b"x" * 4 * MB + stream(600_000) * 10)
    assert pairs(table)[-1][1] == 3


@pytest.mark.parametrize(
    ("before", "length"),
    [
        (b"1 0 obj <</Length 12>>", 12),
        (b"1 0 obj <</Length\r\n12/Filter/DCTDecode>>\n", 12),
        (b"5 0 obj <</Length 7>> endobj 1 0 obj <</Length 12>>", 12),
        (b"<</Length 12>>", 12),
        (b"1 0 obj <</Length 12 0 R>>", None),
        (b"1 0 obj <</Length 5 0 R /Length 12>>", 12),
        (b"1 0 obj <</Length -12>>", None),
        (b"1 0 obj <</Length 12.5>>", None),
        (b"1 0 obj <</Length 12/Type/ObjStm>>", None),
        (b"1 0 obj <<>>", None),
        (b"end", None),
        (b"", None),
    ],
)
def test_a_length_is_read_of_the_object_in_front(before: bytes, length: int | None) -> None:
    assert stated_length(before) == length


@given(
    parts=st.lists(st.one_of(st.integers(0, 900), st.binary(max_size=300)), max_size=8),
    lies=st.integers(-300, 300),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=6),
    reads=st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 700)), max_size=20),
)
def test_what_is_read_is_the_document_and_a_gap_is_never_read(
    parts: list[int | bytes], lies: int, cuts: list[int], reads: list[tuple[int, int]]
) -> None:
    """Whatever a document says, and however it is cut into pieces."""
    content = b"".join(
        part if isinstance(part, bytes) else stream(max(part + lies, 0), content=noise(part)) for part in parts
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(gaps, name, value)
        found, kept, place, turn = PdfGaps(), b"", 0, 0
        while place < len(content):
            kept += b"".join(found.take(content[place : place + cuts[turn % len(cuts)]]))
            place, turn = place + cuts[turn % len(cuts)], turn + 1
        table = found.table()
    *left_out, (size, _) = pairs(table) or [(len(content), 0)]
    assert size == len(content)
    assert len(kept) + sum(end - start for start, end in left_out) == len(content)
    with tempfile.TemporaryFile() as written:
        written.write(kept + table)
        written.flush()
        file = DocumentFile(written.fileno(), has_gaps=bool(table))
        assert file.seek(0, io.SEEK_END) == len(content)
        for start, length in reads:
            wanted = content[start : start + length]
            misses = any(start < gap_end and gap_start < start + len(wanted) for gap_start, gap_end in left_out)
            file.has_missed = False
            assert file.seek(start) == file.tell() == start
            assert wanted == b"" or file.read(len(wanted)) == (b"" if misses else wanted)
            assert wanted == b"" or file.has_missed == misses


# What is counted without it


@pytest.mark.parametrize("step", [262_144, 16_384, 100_003])
def test_a_scanned_document_is_counted_and_hardly_kept(step: int) -> None:
    content = scanned(6)
    pages, kept = counted(content, step)
    assert pages == len(pypdfium2.PdfDocument(content)) == 6
    assert 4 * MB < kept < 5 * MB < len(content)


def in_a_gap(pages: int, front: bytes = b"/Length %d") -> bytes:
    """A PDF that says 1 page if its gap is not looked into, and another in there, to which its table points."""
    hidden = sample_pdf(pages)
    filler = b"%PDF-1.7\n" + stream(9 * MB, front, noise(5 * MB) + hidden + noise(4 * MB - len(hidden)))
    catalogue = hidden.rfind(b"xref", 0, hidden.rfind(b"startxref"))
    return filler + b"startxref\n%d\n%%%%EOF\n" % (filler.index(hidden) + catalogue)


def test_a_document_that_hides_its_pages_in_a_gap_is_unknown() -> None:
    assert counted(in_a_gap(7))[0] == UNKNOWN


def test_a_large_document_that_is_damaged_is_unknown_and_a_small_one_is_counted() -> None:
    large, small = scanned(6), scanned(1, 1000)
    assert len(small) < 4 * MB
    for content, pages in ((large, UNKNOWN), (small, 1)):
        damaged = content.replace(b"startxref", b"startxerf")
        assert len(pypdfium2.PdfDocument(damaged)) == len(pypdfium2.PdfDocument(content))
        assert counted(damaged)[0] == pages


@given(data=st.data())
def test_it_is_counted_as_the_whole_or_not_at_all(data: Any) -> None:
    """The guess is made as wrong as can be: any bytes may be missing."""
    content = sample_pdf(data.draw(st.integers(1, 9)))
    places = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=6)))
    left_out = list(zip(places[::2], places[1::2], strict=False))
    kept, last = b"", 0
    for start, end in left_out:
        kept, last = kept + content[last:start], end
    table = b"".join(struct.pack("<QQ", *pair) for pair in (*left_out, (len(content), len(left_out))))
    with tempfile.TemporaryFile() as file:
        file.write(kept + content[last:] + table)
        file.flush()
        assert count_pages(file.fileno(), has_gaps=True) in {UNKNOWN, len(pypdfium2.PdfDocument(content))}
