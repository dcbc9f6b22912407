import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.file_kind import SNIFFED, FileKind, extension_of, guess_kind

IMAGES = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF87a",
    b"GIF89a",
    b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    b"RIFF\x10\x00\x00\x00WEBPVP8X",
    b"BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00",
    b"8BPS\x00\x01",
    b"\x00\x00\x01\x00\x01\x00",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
    b"\x00\x00\x00\x18ftypavif" + b"\x00\x00\x00\x00mif1avif",
    b"\x00\x00\x00\x18ftypheic" + b"\x00\x00\x00\x00mif1heic",
]
TIFFS = [b"II*\x00\x08", b"MM\x00*"]
BRANDS = (b"avis", b"heix", b"hevc", b"mif1", b"msf1")
HTML = b"<html><p>" + b"many pages<br>" * 400
BINARY = b"\n%\xe2\xe3\xcf\xd3\n"  # the comment that says that a PDF is no text


@pytest.mark.parametrize(
    "beginning",
    [b"%PDF-1.7", b"\xef\xbb\xbf%PDF-1.4", b"\r\n%PDF-1.4" + BINARY, b"\x00" * 1019 + b"%PDF-1.4" + BINARY],
)
@pytest.mark.parametrize(
    "declared",
    [("pdf", "application/pdf"), ("", ""), ("pdf", "application/octet-stream"), ("2024", "application/x-pdf"),
     ("tmp", "")],
)  # fmt: skip
def test_a_pdf_that_nothing_contradicts_is_one(beginning: bytes, declared: tuple[str, str]) -> None:
    assert guess_kind(beginning, *declared) is FileKind.PDF


@pytest.mark.parametrize(
    "declared",
    [("docx", ""), ("html", ""), ("epub", "application/pdf"), ("xlsx", "application/octet-stream"), ("png", ""),
     ("pdf", "text/html"), ("pdf", "image/png"), ("", "application/msword"), ("pdf", "?"), ("?", "")],
)  # fmt: skip
def test_a_pdf_that_is_declared_as_something_else_is_unknown(declared: tuple[str, str]) -> None:
    assert guess_kind(b"%PDF-1.7", *declared) is FileKind.UNKNOWN


@pytest.mark.parametrize(
    "beginning",
    [
        b"<!DOCTYPE html><html><!--\n%PDF-1.4\n",
        b"<!-- " + BINARY + b"%PDF-1.4",  # HTML in another coding
        b"PK\x03\x04\x14\x00word/a.bin%PDF-1.4" + BINARY,
        b"stub PK\x03\x04%PDF-1.4" + BINARY,
        b"  \n%PDF-1.4\n1 0 obj <b>text</b>",  # it may be HTML: all of it is text, and a tag may come
        "caf\u00e9\n%PDF-1.4".encode(),
        b"x" * 1025 + b"%PDF-1.4" + BINARY,  # where pdfium does not look
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 504 + b"%PDF-1.4",
    ],
)
def test_what_may_be_a_pdf_and_another_kind_is_unknown(beginning: bytes) -> None:
    assert guess_kind(beginning, "pdf", "application/pdf") is FileKind.UNKNOWN
    assert guess_kind(beginning, "", "") is FileKind.UNKNOWN


def test_text_that_is_cut_in_a_character_is_text() -> None:
    text = b" %PDF-1.4 " + b"x" * (SNIFFED - 11) + "\u00e9".encode()
    assert guess_kind(text, "", "") is FileKind.UNKNOWN


@pytest.mark.parametrize(
    ("beginnings", "kind"), [(IMAGES, FileKind.IMAGE), (TIFFS, FileKind.TIFF)], ids=["images", "tiffs"]
)
@pytest.mark.parametrize(
    "declared",
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("", ""), ("", "application/octet-stream"),
     ("webp", "image/x-any"), ("heic", ""), ("psd", "image/vnd.adobe.photoshop"), ("7", "")],
)  # fmt: skip
def test_a_picture_is_what_it_begins_as(beginnings: list[bytes], kind: FileKind, declared: tuple[str, str]) -> None:
    assert {guess_kind(beginning, *declared) for beginning in beginnings} == {kind}


@pytest.mark.parametrize("beginning", IMAGES + TIFFS)
@pytest.mark.parametrize(
    "declared", [("pdf", ""), ("", "application/pdf"), ("docx", "image/png"), ("png", "text/plain"), ("png", "?")]
)
def test_a_picture_that_is_declared_as_something_else_is_unknown(beginning: bytes, declared: tuple[str, str]) -> None:
    assert guess_kind(beginning, *declared) is FileKind.UNKNOWN


@pytest.mark.parametrize("declared", [("tif", ""), ("tiff", "image/png"), ("", "image/tiff"), ("gif", "image/x-tif")])
def test_only_a_tiff_may_be_called_one(declared: tuple[str, str]) -> None:
    """As a TIFF, the frames of a GIF may be read as its pages, though it is one picture for others."""
    assert {guess_kind(beginning, *declared) for beginning in IMAGES} == {FileKind.UNKNOWN}
    assert {guess_kind(beginning, *declared) for beginning in TIFFS} == {FileKind.TIFF}


@pytest.mark.parametrize("beginning", IMAGES + TIFFS)
def test_what_may_be_a_picture_and_a_pdf_is_unknown(beginning: bytes) -> None:
    assert guess_kind(beginning + b"\xff\n%PDF-1.4", "", "") is FileKind.UNKNOWN


@pytest.mark.parametrize(
    "beginning",
    [b"", b"PK\x03\x04", b"PK\x03\x04ftypheic" + bytes(9) + b"word/a\xff\xfe" + bytes(SNIFFED),
     b"\xd0\xcf\x11\xe0", b"RIFF\x10\x00\x00\x00WAVE", b"RIFF\x10\x00\x00\x00WEBPXXXX", b"<svg>",
     b"BM<html>" + b"<p>x</p>" * 9, b"x" * SNIFFED + b"%PDF-", b"\x00\x00\x00\x18ftypisom", b"8BPS\x00\x03",
     b"II+\x00\x08\x00\x00\x00", b"MM\x00+\x00\x08\x00\x00",
     *(b"\x00\x00\x00\x18ftyp" + brand + b"\x00\x00\x00\x00mif1" + HTML for brand in BRANDS)],
)  # fmt: skip
def test_anything_else_is_unknown(beginning: bytes) -> None:
    assert guess_kind(beginning, "pdf", "application/pdf") is FileKind.UNKNOWN
    assert guess_kind(beginning, "png", "image/png") is FileKind.UNKNOWN


@pytest.mark.parametrize(
    ("filename", "extension"),
    [(b"a.pdf", "pdf"), (b"a.PDF", "pdf"), (b"a", ""), (b"", ""), (b"a.tar.gz", "gz"), (b"a.docx ", "docx"),
     (b"a.docx.", "docx"), (b"a.docx. /", "docx"), (b"a.do cx", "docx"), ("a.docx\u00a0".encode(), "docx"),
     (b"a.docx\xff", "docx"), ("a.d\u00e9ocx".encode(), "docx"), (b"a.docx::$DATA", "docxdata"),
     (b"v1. final", "final"),
     (b"Dr. Smith's report", "?"), (b".htaccess", "htaccess")],
)  # fmt: skip
def test_an_extension_is_what_anybody_could_take_for_one(filename: bytes, extension: str) -> None:
    assert extension_of(filename) == extension


@given(st.binary(max_size=64), st.text(max_size=6), st.text(max_size=20))
def test_nothing_is_a_kind_that_its_name_contradicts(beginning: bytes, name: str, content_type: str) -> None:
    assert guess_kind(beginning, "docx", content_type) is FileKind.UNKNOWN
    assert guess_kind(beginning, name, "text/html") is FileKind.UNKNOWN


def ftyp(brand: bytes, *compatible: bytes) -> bytes:
    return (
        (16 + 4 * len(compatible)).to_bytes(4, "big") + b"ftyp" + brand + b"\x00\x00\x00\x00" + b"".join(compatible)
    )


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), FileKind.IMAGE),
        (ftyp(b"avif"), FileKind.IMAGE),
        (ftyp(b"mif1", b"miaf", b"heic"), FileKind.IMAGE),
        (ftyp(b"mif1", b"miaf"), FileKind.UNKNOWN),
        (ftyp(b"heix", b"heic"), FileKind.UNKNOWN),
        (b"\x00\x00\x00\x0fftypheic", FileKind.UNKNOWN),
        (b"\x7f\x7f\x7f\x7fftypheic", FileKind.UNKNOWN),
    ],
)
def test_what_marker_knows_for_a_picture_may_begin_as_text(box: bytes, kind: FileKind) -> None:
    """A picture of an iPhone has a kilobyte of tiles first, which are text by chance."""
    assert guess_kind(box + b"\x00\x00\x02\x00meta" + b"\x00infe" * 500, "heic", "image/heic") is kind
