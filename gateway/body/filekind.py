"""What a file is, as far as its pages go, by how it begins and what its part declares: pure.

A wrong guess costs money in one direction only: an image counts as one page. So a file is an image only if nothing
says otherwise, and whatever might be read as a PDF is one: pdfium looks for `%PDF` up to offset 1024 (tried), and
others look a little further.
"""

from enum import StrEnum
from typing import Final

SNIFFED: Final = 2048
"""How many bytes of a file decide, in bytes."""

_IMAGES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
_IMAGE_EXTENSIONS: Final = frozenset({"", "png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp", "tif", "tiff"})
_GENERIC_TYPES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


class FileKind(StrEnum):
    """What the bound of pages depends on."""

    PDF = "pdf"
    IMAGE = "image"
    UNKNOWN = "unknown"


def guess_kind(beginning: bytes, extension: str, content_type: str) -> FileKind:
    """Decides by the first SNIFFED bytes (fewer if the file is shorter) and what its part declares.

    Args:
        beginning: how the file begins.
        extension: of its filename, in lower case, without the dot; empty if there is none.
        content_type: `type/subtype` in lower case; empty if there is none.
    """
    if b"%PDF" in beginning[:SNIFFED]:
        return FileKind.PDF
    is_image = beginning.startswith(_IMAGES) or (beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP")
    declared = content_type in _GENERIC_TYPES or content_type.startswith("image/")
    if is_image and declared and extension in _IMAGE_EXTENSIONS:
        return FileKind.IMAGE
    return FileKind.UNKNOWN
