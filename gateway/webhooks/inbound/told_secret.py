"""Finds the secret that JSON tells in its member webhook_secret, while the JSON comes in pieces: pure.

To read a megabyte of JSON holds all others for 10 ms, so of a stranger's nothing is read but that member's value. It
is found by its name, which everybody may know. To look for the secret itself would tell it: how long a search takes
depends on which bytes of the needle there are, and where. What is found is compared in constant time.
"""

import hmac
import json
import re
from collections.abc import Sequence
from typing import Final

MEMBER: Final = "webhook_secret"
_NAME: Final = f'"{MEMBER}"'.encode()
_MOST: Final = 4  # places, each of which may take a millisecond; a sender has one
_ESCAPE: Final = 6  # bytes of one character, as JSON may spell it
_BLANKS: Final = 64
_VALUE: Final = re.compile(rb'[ \t\r\n]{0,32}:[ \t\r\n]{0,32}("(?:[^"\\]|\\.)*")', re.DOTALL)


class ToldSecret:
    """Where the member's name stands in the text that came so far. Its name has to be spelled without escapes."""

    __slots__ = ("_places", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._size = 0
        self._places: list[int] = []

    def take(self, piece: bytes) -> None:
        """Takes the text's next bytes."""
        text = self._tail + piece
        begin, found = self._size - len(self._tail), text.find(_NAME)
        while found >= 0 and len(self._places) <= _MOST:
            self._places.append(begin + found + len(_NAME))
            found = text.find(_NAME, found + len(_NAME))
        self._size += len(piece)
        self._tail = text[max(0, len(text) - len(_NAME) + 1) :]

    def is_one_of(self, secrets: Sequence[bytes], text: bytes) -> bool:
        """Whether the member tells one of the secrets; `text` is all that was taken."""
        most = _ESCAPE * max(map(len, secrets), default=0) + _BLANKS
        told = [_value(text[place : place + most]) for place in self._places[:_MOST]]
        equal = [hmac.compare_digest(one, secret) for one in told for secret in secrets]
        return any(equal)


def _value(text: bytes) -> bytes:
    """The text that a member has as its value; nothing if it has another."""
    match = _VALUE.match(text)
    try:
        return b"" if match is None else str(json.loads(match[1])).encode("utf-8", "surrogatepass")
    except ValueError:
        return b""
