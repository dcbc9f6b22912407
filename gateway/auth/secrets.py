"""The form of a key's secret: `dgw_<id>_<43 characters of base64url><6 of checksum>`. Pure.

256 random bits; the prefix lets secret scanners find what was committed by mistake, the id tells which key to rotate,
and the checksum lets them, and us, tell a secret from a text that only looks like one, such as one that was cut off,
without asking the ledger.
"""

import base64
import re
import zlib
from typing import Final

SECRET_BYTES: Final = 32
PREFIX: Final = b"dgw_"
_FORM: Final = re.compile(rb"dgw_(?P<id>[a-z0-9-]{1,63})_(?P<random>[A-Za-z0-9_-]{43})(?P<sum>[0-9A-Za-z]{6})\Z")
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUM_DIGITS: Final = 6


def make_secret(key_id: str, random: bytes) -> str:
    """Writes a secret; `random` is 32 bytes from the system's generator."""
    text = f"dgw_{key_id}_{base64.urlsafe_b64encode(random).decode('ascii').rstrip('=')}"
    return text + _checksum(text.encode("ascii"))


def is_secret(credential: bytes) -> bool:
    """Whether this is a secret of ours by form and checksum; not whether it is known."""
    match = _FORM.match(credential)
    return match is not None and _checksum(credential[:-_SUM_DIGITS]) == match["sum"].decode("ascii")


def _checksum(text: bytes) -> str:
    """CRC-32 in base 62, as GitHub's tokens have it."""
    rest, digits = zlib.crc32(text), ""
    for _ in range(_SUM_DIGITS):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
