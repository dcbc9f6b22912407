"""Skips the insides of a PDF's large streams when it is spooled for page counting. Pure.

To count pages pdfium reads a PDF's tables and page tree, not its pictures; spooling these costs a fifth of an upload,
and disk space. So only both ends are kept of a stream whose length is stated in front of it. That is a guess, and it
may be wrong: the positions of the gaps are written after the document (`table`), and the worker gives the document up
if pdfium reads a byte in a gap. A count that succeeds is the same as without gaps.

The first 4 MB of a document are always kept. pdfium reads a damaged document from end to end, so a large damaged one
can't be counted any more.
"""

import re
from typing import Final, NamedTuple

from gateway.uploads.pages.worker_protocol import GAP_ROW

ALWAYS_KEPT: Final = 4 * 1_048_576
MARGIN: Final = 4096  # bytes of a stream that are kept at each end: pdfium reads in blocks
LEAST: Final = 65_536  # bytes of a gap after the piece in which its stream begins
MAX: Final = 4096
CONTEXT: Final = 2048  # bytes in front of a stream in which its length is searched
_KEYWORD: Final = b"stream"
_LENGTH: Final = re.compile(rb"/Length\s+([0-9]{1,15})(?=[\s/>])(?!\s+[0-9]+\s+R)")
_NEEDED: Final = re.compile(rb"/(?:ObjStm|XRef)\b")  # streams that contain other objects, or their positions


class Gap(NamedTuple):
    """Bytes of a document that are left out: the first one's place, and the first place kept again after them."""

    start: int
    end: int


class PdfGaps:
    """Finds the gaps of one document as it arrives."""

    __slots__ = ("_before", "_found", "_gap", "_place")

    def __init__(self) -> None:
        self._place = 0
        self._before = b""
        self._gap: Gap | None = None
        self._found: list[Gap] = []

    def take(self, piece: bytes) -> list[bytes]:
        """Takes the next bytes; returns those of them that are kept."""
        start, self._place = self._place, self._place + len(piece)
        before, self._before = self._before, (self._before + piece[-CONTEXT:])[-CONTEXT:]
        first = b""
        if self._gap is not None:
            first = piece[: max(self._gap.start - start, 0)]
            if self._gap.end >= self._place:
                return [first] if first else []
            piece = piece[self._gap.end - start :]
            start = self._gap.end
            self._end_gap()
        self._begin_gap(before, piece, start)
        if self._gap is not None:
            piece = piece[: max(self._gap.start - start, 0)]
        return [kept for kept in (first, piece) if kept]

    def table(self) -> bytes:
        """The bytes to write after the kept ones: each gap's start and end, then document size and number of gaps.

        Empty for a document without gaps. Called once the document is complete.
        """
        self._end_gap()
        found = self._found
        return b"".join(GAP_ROW.pack(*pair) for pair in (*found, (self._place, len(found)))) if found else b""

    def _begin_gap(self, before: bytes, piece: bytes, start: int) -> None:
        """Begins a gap if the last stream in this piece, which is at `start`, extends far beyond the piece."""
        found = piece.rfind(_KEYWORD) if len(self._found) < MAX else -1
        if found < 0:
            return
        front = piece[max(found - CONTEXT, 0) : found]
        length = stated_length(front if found >= CONTEXT else before + front)
        if length is None:
            return
        content = start + found + len(_KEYWORD)
        gap = Gap(max(content + MARGIN, ALWAYS_KEPT), content + length - MARGIN)
        if gap.end - max(gap.start, self._place) >= LEAST:
            self._gap = gap

    def _end_gap(self) -> None:
        """Records the open gap, as far as the document has arrived."""
        gap, self._gap = self._gap, None
        if gap is not None and gap.start < self._place:
            self._found.append(Gap(gap.start, min(gap.end, self._place)))


def stated_length(before: bytes) -> int | None:
    """The length of a stream after these bytes; None if they do not state it, or the stream is needed."""
    dictionary = before[max(before.rfind(b"obj"), 0) :]
    stated = _LENGTH.findall(dictionary)
    if len(stated) != 1 or _NEEDED.search(dictionary):
        return None
    return int(stated[0])
