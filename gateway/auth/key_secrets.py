"""The form of a key's secret: `dgw_<id>_<43 characters of base64url><6 of checksum>`. Pure.

The 43 characters are 256 random bits. The prefix lets secret scanners find a secret that was committed by mistake.
The id says which key to rotate. The checksum lets scanners and the gateway reject look-alikes, such as a secret that
was cut off, without asking the ledger.
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
    """Whether this has the form and checksum of a gateway secret; not whether it is known."""
    match = _FORM.match(credential)
    return match is not None and _checksum(credential[:-_SUM_DIGITS]) == match["sum"].decode("ascii")


def _checksum(text: bytes) -> str:
    """CRC-32 in base 62, as in GitHub's tokens."""
    rest, digits = zlib.crc32(text), ""
    for _ in range(_SUM_DIGITS):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
