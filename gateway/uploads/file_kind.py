"""Guesses what kind of file the container will read, as far as its page count is concerned: pure.

Datalab's marker checks in this order (marker/providers/registry.py, 2025-07): an image by its beginning; a PDF by its
first bytes; an EPUB or an office document by its beginning; HTML, if it is UTF-8 and has a tag anywhere; else by the
name's ending, and a name without one means PDF. Other containers check the name or the declared type first. So a file
has a kind here only if all of them must agree: its bytes say so, and neither its name nor its type contradicts.
Any other file is unknown, and counts as the most pages that a request may have.

Of a picture with several frames (GIF, WEBP, APNG, AVIF, HEIC, MPO) marker takes the first: its ImageProvider has
image_count = 1. The images of a TIFF are pages, as scanners use it, so they are counted.
"""

import re
from enum import StrEnum
from typing import Final

SNIFFED: Final = 2048
"""How many bytes at a file's beginning decide."""

_OTHERS: Final = (b"<", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # HTML, ZIP and so office files, older office files
_LATEST_PDF: Final = 1024  # pdfium looks for the header up to here (tried)
_BOM: Final = b"\xef\xbb\xbf"
_PDF: Final = b"%PDF"
_TIFFS: Final = (b"II*\x00", b"MM\x00*")  # not BigTIFF, which readers read in different ways
_IMAGES: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"8BPS\x00\x01",
    b"8BPS\x00\x02",
    b"\x00\x00\x01\x00",  # ICO
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x4f\xff\x51",  # its bare code stream
)
_BRANDS: Final = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_KNOWN_BRANDS: Final = frozenset({b"avif", b"heic"})
_GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
_LEAST_BOX: Final = 16  # bytes
_BMP_HEADERS: Final = range(12, 256)  # bytes: sizes of the header that follows
_MAX_EXTENSION: Final = 8
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9]+")
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NO_EXTENSIONS: Final = frozenset({"", "bin", "dat", "tmp", "part", "upload", "download", "file"})
_PDF_EXTENSIONS: Final = _NO_EXTENSIONS | {"pdf"}
_IMAGE_EXTENSIONS: Final = _NO_EXTENSIONS | {
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "mpo", "gif", "webp", "bmp", "dib", "tif", "tiff", "psd", "ico",
    "avif", "heic", "heif", "hif", "jp2", "jpx", "jpf", "j2k", "j2c", "jpc",
}  # fmt: skip
_TIFF_EXTENSIONS: Final = frozenset({"tif", "tiff"})
_TIFF_TYPES: Final = frozenset({"image/tiff", "image/tif", "image/x-tiff", "image/x-tif"})
_NO_TYPES: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/force-download", "application/download"}
)
_PDF_TYPES: Final = _NO_TYPES | {"application/pdf", "application/x-pdf", "application/acrobat", "text/pdf"}


class FileKind(StrEnum):
    """The kinds that the page limit distinguishes."""

    PDF = "pdf"
    TIFF = "tiff"
    IMAGE = "image"
    UNKNOWN = "unknown"


COUNTED: Final = frozenset({FileKind.PDF, FileKind.TIFF})
"""The kinds whose pages are counted from the whole file."""


def guess_kind(beginning: bytes, extension: str, content_type: str) -> FileKind:
    """Decides by the first SNIFFED bytes (fewer if the file is shorter) and the declarations of its part.

    Args:
        beginning: the file's first bytes.
        extension: of its filename, as returned by extension_of.
        content_type: `type/subtype` in lower case; empty if it is missing.
    """
    kind = _by_content(beginning[:SNIFFED])
    extension = "" if extension.isdecimal() else extension  # `report.2024`
    if kind is FileKind.PDF:
        agrees = extension in _PDF_EXTENSIONS and content_type in _PDF_TYPES
    else:
        # One that is called a TIFF may have its frames read as a TIFF's pages.
        is_called_tiff = extension in _TIFF_EXTENSIONS or content_type in _TIFF_TYPES
        is_declared = content_type in _NO_TYPES or content_type.startswith("image/")
        agrees = extension in _IMAGE_EXTENSIONS and is_declared and (kind is FileKind.TIFF or not is_called_tiff)
    return kind if agrees else FileKind.UNKNOWN


def extension_of(filename: bytes) -> str:
    """What any reader could take for a filename's extension, in lower case; `?` if that is unclear.

    Containers strip blanks and drop characters that a file system may not like, so these must not hide an extension:
    `a.docx. ` is a docx.
    """
    text = filename.decode("utf-8", "replace")
    last = next((place for place in range(len(text), 0, -1) if text[place - 1] in _PLAIN), 0)
    _, dot, end = text[:last].rpartition(".")
    if not dot:
        return ""
    plain = _NOT_PLAIN.sub("", end).lower()
    return plain if len(plain) <= _MAX_EXTENSION else "?"


def _by_content(beginning: bytes) -> FileKind:
    kind = _picture(beginning)
    place = beginning.find(_PDF)
    if place < 0:
        return kind
    return FileKind.PDF if kind is FileKind.UNKNOWN and _is_pdf(beginning, place) else FileKind.UNKNOWN


def _picture(beginning: bytes) -> FileKind:
    if beginning.startswith(_TIFFS):
        return FileKind.TIFF
    is_image = (
        beginning.startswith(_IMAGES)
        or (beginning[:4] == b"RIFF" and beginning[8:15] == b"WEBPVP8")
        or (beginning[4:8] == b"ftyp" and beginning[8:12] in _BRANDS and _is_picture_box(beginning))
        or (beginning[:2] == b"BM" and int.from_bytes(beginning[14:18], "little") in _BMP_HEADERS)
    )
    return FileKind.IMAGE if is_image else FileKind.UNKNOWN


def _is_picture_box(beginning: bytes) -> bool:
    """Whether marker, too, takes a file with a HEIF brand for a picture.

    It knows two brands, and two more if they list one of these as compatible; it takes any other for HTML, if it is
    text. The box is all within the beginning: `PK` as a size would be one of an office file.
    """
    size = int.from_bytes(beginning[:4], "big")
    if not _LEAST_BOX <= size <= len(beginning):
        return False
    brand, compatible = beginning[8:12], beginning[16:size]
    brands = {compatible[place : place + 4] for place in range(0, len(compatible), 4)}
    is_known = brand in _KNOWN_BRANDS or (brand in _GENERAL_BRANDS and not brands.isdisjoint(_KNOWN_BRANDS))
    return is_known or not _may_be_text(beginning)


def _is_pdf(beginning: bytes, place: int) -> bool:
    """Whether a file with a PDF header at this place can only be a PDF.

    After anything other than a byte order mark only pdfium finds the header. Then the file must not be readable as
    text, or a later tag may make it HTML.
    """
    before = beginning[:place]
    if before in (b"", _BOM):
        return True
    if place > _LATEST_PDF or any(mark in before for mark in _OTHERS):
        return False
    return not _may_be_text(beginning)


def _may_be_text(beginning: bytes) -> bool:
    """Whether it is UTF-8, apart from a character cut in two at its end."""
    try:
        beginning.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
