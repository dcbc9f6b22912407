"""A real PDF of any size around filler: ten empty pages, and one stream that nothing refers to."""

PAGES = 10


def envelope(size: int) -> tuple[bytes, bytes]:
    """The bytes before and behind the filler; with `size - len(both)` bytes between them the PDF is whole."""
    kids = " ".join(f"{number} 0 R" for number in range(3, 3 + PAGES))
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {PAGES} /MediaBox [0 0 595 842] >>",
        *["<< /Type /Page /Parent 2 0 R >>"] * PAGES,
    ]
    head, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(head))
        head += f"{number} 0 obj\n{body}\nendobj\n"
    offsets.append(len(head))
    stream = f"{len(offsets)} 0 obj\n<< /Length {{:012d}} >>\nstream\n"
    filler = size - len(head) - len(stream.format(0)) - len(closing(offsets, 0))
    return (head + stream.format(filler)).encode(), closing(offsets, len(head + stream.format(0)) + filler).encode()


def closing(offsets: list[int], end: int) -> str:
    """The end of the stream that ends at an offset, the table of objects, and where that table is."""
    ending = "\nendstream\nendobj\n"
    rows = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    count = len(offsets) + 1
    table = f"xref\n0 {count}\n0000000000 65535 f \n{rows}trailer\n<< /Size {count} /Root 1 0 R >>\n"
    return f"{ending}{table}startxref\n{end + len(ending):012d}\n%%EOF\n"
