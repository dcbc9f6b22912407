"""A small, real PDF, so that a first run and the tests have a file to convert.

Written object by object: this needs neither a binary file in the repository nor a library that writes PDFs.
"""

import zlib

_WIDTH, _HEIGHT = 595, 842  # points: A4
_IMAGE_SIDE = 48  # pixels
_CATALOG, _PAGES, _FONT, _IMAGE = 1, 2, 3, 4  # object numbers; a page and its content follow in pairs
_FIRST_PAGE = 5
_PARAGRAPHS = (
    ("The gateway stands in front of the container.", "It asks every caller who they are."),
    ("A page is counted before it is converted.", "What fails is given back."),
)


def sample_pdf(pages: int = 3) -> bytes:
    """Makes a PDF with a heading and two paragraphs on each page, and an image on every second one.

    Args:
        pages: how many, at least 1.

    Returns:
        The whole file. The same number of pages gives the same bytes.

    Raises:
        ValueError: fewer than one page.
    """
    if pages < 1:
        raise ValueError("a PDF has at least one page")
    kids = " ".join(f"{_FIRST_PAGE + 2 * page} 0 R" for page in range(pages))
    objects = [
        f"<< /Type /Catalog /Pages {_PAGES} 0 R >>".encode(),
        f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        _image(),
    ]
    for page in range(pages):
        objects += [_page(page), _stream(b"", _content(page))]
    return _file(objects)


def _page(page: int) -> bytes:
    resources = f"/Font << /F1 {_FONT} 0 R >> /XObject << /Im1 {_IMAGE} 0 R >>"
    return (
        f"<< /Type /Page /Parent {_PAGES} 0 R /MediaBox [0 0 {_WIDTH} {_HEIGHT}] "
        f"/Resources << {resources} >> /Contents {_FIRST_PAGE + 2 * page + 1} 0 R >>"
    ).encode()


def _content(page: int) -> bytes:
    """Draws a page; the gap between paragraphs is wider than the gap between lines."""
    drawing = [f"BT /F1 22 Tf 72 760 Td (Sample document, page {page + 1}) Tj ET"]
    height = 700
    for paragraph in _PARAGRAPHS:
        for line in paragraph:
            drawing.append(f"BT /F1 12 Tf 72 {height} Td ({line}) Tj ET")
            height -= 15
        height -= 20
    if page % 2 == 1:
        drawing.append("q 144 0 0 144 72 420 cm /Im1 Do Q")
    return "\n".join(drawing).encode()


def _image() -> bytes:
    """An RGB square, red to the right and green downwards."""
    step = 255 // (_IMAGE_SIDE - 1)
    side = range(_IMAGE_SIDE)
    pixels = bytes(channel for y in side for x in side for channel in (x * step, y * step, 128))
    about = (
        f"/Type /XObject /Subtype /Image /Width {_IMAGE_SIDE} /Height {_IMAGE_SIDE} "
        "/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode"
    )
    return _stream(about.encode(), zlib.compress(pixels))


def _stream(about: bytes, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (about, len(data), data)


def _file(objects: list[bytes]) -> bytes:
    """Writes the numbered objects one after another, then the table of their offsets."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    starts = []
    for number, body in enumerate(objects, start=1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % start for start in starts)
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\n" % (len(objects) + 1, _CATALOG)
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)
