"""What of a PDF need not be written aside to count its pages: the insides of its large streams. Pure.

To count pages pdfium reads a PDF's tables and its page tree, not its pictures; to write those aside costs a fifth of
an upload, and the disk. So of a stream that says its length in front of it only both ends are kept. That is a guess,
which may be as wrong as it likes: where the gaps are is written behind the document (`table`), and the worker gives a
document up when pdfium asks for a byte in one of them. What is counted is counted as if there were none.

The first 4 MB of a document are always kept. A damaged one is read by pdfium from end to end, so if it is large it
can't be counted any more.
"""

import re
import struct
from typing import Final, NamedTuple

_PAIR: Final = struct.Struct("<QQ")  # worker.py has the same
_ALWAYS_KEPT: Final = 4 * 1_048_576
_MARGIN: Final = 4096  # bytes of a stream that are kept at each end: pdfium reads in blocks
_LEAST: Final = 65_536  # bytes of a gap behind the piece in which its stream begins
_MAX: Final = 4096
_CONTEXT: Final = 2048  # bytes in front of a stream in which its length is looked for
_KEYWORD: Final = b"stream"
_LENGTH: Final = re.compile(rb"/Length\s+([0-9]{1,15})(?=[\s/>])(?!\s+[0-9]+\s+R)")
_NEEDED: Final = re.compile(rb"/(?:ObjStm|XRef)\b")  # such as hold other objects, or tell where they are


class Gap(NamedTuple):
    """Bytes of a document that are left out: the place of the first, and of the first that is kept again."""

    start: int
    end: int


class PdfGaps:
    """Finds the gaps of one document as it comes."""

    __slots__ = ("_before", "_found", "_gap", "_place")

    def __init__(self) -> None:
        self._place = 0
        self._before = b""
        self._gap: Gap | None = None
        self._found: list[Gap] = []

    def take(self, piece: bytes) -> list[bytes]:
        """Goes on with the next bytes; gives those of them that are kept."""
        start, self._place = self._place, self._place + len(piece)
        before, self._before = self._before, (self._before + piece[-_CONTEXT:])[-_CONTEXT:]
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
        """What follows the kept bytes: each gap's start and end, then the document's size and the number of gaps.

        Empty for a document that has none. Asked for once the document is whole.
        """
        self._end_gap()
        found = self._found
        return b"".join(_PAIR.pack(*pair) for pair in (*found, (self._place, len(found)))) if found else b""

    def _begin_gap(self, before: bytes, piece: bytes, start: int) -> None:
        """Begins one if the last stream of this piece, which is at `start`, goes on far behind it."""
        found = piece.rfind(_KEYWORD) if len(self._found) < _MAX else -1
        if found < 0:
            return
        front = piece[max(found - _CONTEXT, 0) : found]
        length = stated_length(front if found >= _CONTEXT else before + front)
        if length is None:
            return
        content = start + found + len(_KEYWORD)
        gap = Gap(max(content + _MARGIN, _ALWAYS_KEPT), content + length - _MARGIN)
        if gap.end - max(gap.start, self._place) >= _LEAST:
            self._gap = gap

    def _end_gap(self) -> None:
        """Notes the gap that is open, as far as the document has come."""
        gap, self._gap = self._gap, None
        if gap is not None and gap.start < self._place:
            self._found.append(Gap(gap.start, min(gap.end, self._place)))


def stated_length(before: bytes) -> int | None:
    """How long a stream is in whose front these bytes stand; None if they don't say, or if it is needed."""
    dictionary = before[max(before.rfind(b"obj"), 0) :]
    stated = _LENGTH.findall(dictionary)
    if len(stated) != 1 or _NEEDED.search(dictionary):
        return None
    return int(stated[0])
