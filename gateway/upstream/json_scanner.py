"""Reads only the top-level scalars of a JSON object while it streams by. Pure.

A result may have 200 MB: a few long strings, or millions of small values. find() skips top-level strings. Content
below the top level passes in pieces, with a few operations on each whole piece (json_depth.py), so that the cost of a
byte does not depend on its value. The top level itself is small: an answer with more than about a thousand members is
`broken`, as is an unreadable one, and yields nothing. Memory is limited.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from gateway.upstream.json_depth import JsonDepth

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_OPENING: Final = frozenset(b"{[")
_CLOSING: Final = frozenset(b"}]")
_SPACE: Final = b" \t\r\n"
_AT_TOP: Final = re.compile(rb'["{}\[\]:,]')
_AROUND: Final = re.compile(rb'["{}\[\]]')
_FIRST_PIECE: Final = 256
_FACTOR: Final = 4
_MAX_LENGTH: Final = 1024
_MAX_MARKS: Final = 2000  # at the top level, where each costs some microseconds
_MARKS_OF_A_CONTAINER: Final = 10  # finding the end of a short one by bisection costs as much
_OPENING_BRACE: Final = 0x7B
_COLON: Final = 0x3A
_UNREADABLE: Final = object()


class JsonScanner:
    """Takes an object's bytes in pieces of any size; `values` holds those of its wanted members that are scalars."""

    __slots__ = (
        "_below",
        "_depth",
        "_escaped",
        "_in_string",
        "_is_key",
        "_key",
        "_marks",
        "_text",
        "_wanted",
        "broken",
        "values",
    )

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = frozenset(wanted)
        self.values: dict[str, Any] = {}
        self.broken = False
        self._depth = 0
        self._below: JsonDepth | None = None
        self._marks = 0
        self._in_string = False
        self._escaped = False
        self._is_key = True
        self._key: str | None = None
        self._text = bytearray()

    @property
    def is_whole(self) -> bool:
        """Whether the object is complete."""
        return not self.broken and self._depth == 0 and self._key == ""

    def take(self, data: bytes) -> None:
        """Takes the next bytes."""
        place, end = 0, len(data)
        while place < end and not self.broken:
            if self._below is not None:
                place = self._through_below(self._below, data, place)
            elif self._in_string:
                place = self._through_string(data, place)
            else:
                place = self._to_mark(data, place)

    def _through_below(self, below: JsonDepth, data: bytes, start: int) -> int:
        place = below.take(data, start)
        if not below.depth:
            self._below = None
        return place

    def _through_string(self, data: bytes, start: int) -> int:
        end, self._escaped = _string_end(data, start + self._escaped)
        is_over = end < len(data)
        self._keep(data, start, end + is_over)
        self._in_string = not is_over
        return end + is_over

    def _to_mark(self, data: bytes, start: int) -> int:
        found = (_AT_TOP if self._depth else _AROUND).search(data, start)
        end = found.start() if found else len(data)
        self._keep(data, start, end)
        if found is None:
            return end
        mark = data[end]
        self._marks += 1
        self.broken |= self._marks > _MAX_MARKS
        if mark == _QUOTE:
            self._keep(data, end, end + 1)
            self._in_string = True
        elif mark in _OPENING:
            self._open(mark)
        elif mark in _CLOSING:
            self._close()
        else:
            self._next_part(mark)
        return end + 1

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if self._depth == 0:
            self.broken |= bool(data[start:end].strip(_SPACE))
        elif len(self._text) <= _MAX_LENGTH:
            self._text += data[start : min(end, start + _MAX_LENGTH + 1)]

    def _open(self, mark: int) -> None:
        if self._depth == 0:
            self.broken |= mark != _OPENING_BRACE or self._key is not None
            self._depth = 1
            self._text.clear()
            return
        self._below = JsonDepth()
        self._marks += _MARKS_OF_A_CONTAINER
        if len(self._text) <= _MAX_LENGTH:
            self._text += b"x" * (_MAX_LENGTH + 1)  # a container is not a scalar: make this member's value unreadable

    def _close(self) -> None:
        if self._depth == 1:
            self._end_member()
            self._key = ""
            self._text.clear()
        self._depth -= 1
        self.broken |= self._depth < 0

    def _next_part(self, mark: int) -> None:
        if mark == _COLON and self._is_key:
            key = _scalar(self._text)
            self.broken |= not isinstance(key, str) and len(self._text) <= _MAX_LENGTH
            self._key = key if isinstance(key, str) else None
            self._is_key = False
            self._text.clear()
        elif mark == _COLON:
            self.broken = True
        else:
            self._end_member()

    def _end_member(self) -> None:
        if not self._is_key and self._key in self._wanted:
            value = _scalar(self._text)
            if value is _UNREADABLE:
                self.values.pop(str(self._key), None)
            else:
                self.values[str(self._key)] = value
        self._is_key = True
        self._text.clear()


def _string_end(data: bytes, start: int) -> tuple[int, bool]:
    """The place of the string's closing quote, or the end of the data; and whether the next byte is escaped."""
    quote = data.find(b'"', start)
    end = len(data) if quote < 0 else quote
    if end == start or data[end - 1] != _BACKSLASH:
        return end, False
    return _unescaped_quote(data, start)


def _unescaped_quote(data: bytes, start: int) -> tuple[int, bool]:
    """The same for data with backslashes: overwrites escapes, piece by piece, since the quote may be near."""
    size = _FIRST_PIECE
    while True:
        piece = data[start : start + size].replace(rb"\\", b"--").replace(rb"\"", b"--")
        quote = piece.find(b'"')
        if quote >= 0:
            return start + quote, False
        is_cut = piece.endswith(b"\\")
        start += len(piece) - is_cut
        if start + is_cut == len(data):
            return len(data), is_cut
        size *= _FACTOR


def _scalar(text: bytearray) -> Any:
    if len(text) > _MAX_LENGTH:
        return _UNREADABLE
    try:
        return orjson.loads(bytes(text))
    except ValueError:
        return _UNREADABLE
