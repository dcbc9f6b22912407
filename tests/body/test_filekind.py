import pytest

from gateway.body.filekind import SNIFFED, FileKind, guess_kind

PNG = b"\x89PNG\r\n\x1a\n"
IMAGES = [
    PNG,
    b"\xff\xd8\xff\xe0",
    b"GIF87a",
    b"GIF89a",
    b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
]


@pytest.mark.parametrize(
    "beginning", [b"%PDF-1.7", b"\x00" * 1019 + b"%PDF-", b"junk\n%PDF-1.4", b"x" * (SNIFFED - 4) + b"%PDF"]
)
@pytest.mark.parametrize(
    "declared", [("pdf", "application/pdf"), ("png", "image/png"), ("", ""), ("docx", "text/plain")]
)
def test_a_pdf_is_one_whatever_it_is_called(beginning: bytes, declared: tuple[str, str]) -> None:
    assert guess_kind(beginning, *declared) is FileKind.PDF


@pytest.mark.parametrize("beginning", IMAGES)
@pytest.mark.parametrize(
    "declared",
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("tiff", ""), ("", ""), ("", "application/octet-stream"),
     ("webp", "image/x-any")],
)  # fmt: skip
def test_an_image_that_nothing_contradicts_is_one(beginning: bytes, declared: tuple[str, str]) -> None:
    assert guess_kind(beginning, *declared) is FileKind.IMAGE


@pytest.mark.parametrize("beginning", IMAGES)
@pytest.mark.parametrize(
    "declared", [("pdf", ""), ("", "application/pdf"), ("docx", "image/png"), ("png", "text/plain"), ("png", "?")]
)
def test_an_image_that_is_declared_as_something_else_is_unknown(beginning: bytes, declared: tuple[str, str]) -> None:
    assert guess_kind(beginning, *declared) is FileKind.UNKNOWN


@pytest.mark.parametrize("beginning", IMAGES)
def test_what_may_be_both_is_a_pdf(beginning: bytes) -> None:
    assert guess_kind(beginning + b"\n%PDF-1.4", "png", "image/png") is FileKind.PDF


@pytest.mark.parametrize(
    "beginning",
    [b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"RIFF\x10\x00\x00\x00WAVE", b"x" * SNIFFED + b"%PDF-", b"<svg>"],
)
def test_anything_else_is_unknown(beginning: bytes) -> None:
    assert guess_kind(beginning, "pdf", "application/pdf") is FileKind.UNKNOWN
    assert guess_kind(beginning, "png", "image/png") is FileKind.UNKNOWN
