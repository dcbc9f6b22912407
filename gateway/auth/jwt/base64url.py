"""Base64url with exactly one spelling for each byte string (RFC 7515, section 2): pure."""

import binascii
import re
from typing import Final

_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+")
_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")


def decode_base64url(text: bytes) -> bytes | None:
    """Decodes base64url without padding (RFC 7515 2); None for every other spelling of the same bytes."""
    if not _BASE64URL.fullmatch(text):
        return None
    padded = text.translate(_TO_BASE64) + b"=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(padded)
    except binascii.Error:  # no byte string encodes to this length
        return None
    return data if binascii.b2a_base64(data, newline=False) == padded else None
