"""Reads the scalars at the top of a JSON object while it streams by, and nothing else of it. Pure.

A result may have 50 MB, nearly all of it in a few long strings: these are skipped by find(), and what lies below the
top by one expression. What is remembered is bounded, and the time is linear, whatever the upstream sends. What can't
be read is `broken`, and tells nothing.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_OPENING: Final = frozenset(b"{[")
_CLOSING: Final = frozenset(b"}]")
_SPACE: Final = b" \t\r\n"
_AT_TOP: Final = re.compile(rb'["{}\[\]:,]')
_BELOW: Final = re.compile(rb'["{}\[\]]')
# Strings, flat arrays, and objects of these that are here whole. Unrolled, so that there is one way to match it:
# linear on any bytes.
_FLAT: Final = rb'[^"{}\[\]]*'
_SIMPLE: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"|\[' + _FLAT + rb"\]"
_PASSED: Final = _SIMPLE + rb"|\{" + _FLAT + rb"(?:(?:" + _SIMPLE + rb")" + _FLAT + rb")*\}"
_BELOW_TOP: Final = re.compile(_FLAT + rb"(?:(?:" + _PASSED + rb")" + _FLAT + rb")*", re.DOTALL)
_AT_ONCE: Final = 8192  # the expression remembers up to 65 bytes for each that it has passed
_FIRST_PIECE: Final = 256
_FACTOR: Final = 4
_LONGEST: Final = 1024
_DEEPEST: Final = 1000
_MOST_MARKS: Final = (
    1_000_000  # each costs some microseconds, and nobody's answer has so many outside what is skipped
)
_OPENING_BRACE: Final = 0x7B
_COLON: Final = 0x3A
_UNREADABLE: Final = object()


class TopScalars:
    """Takes an object's bytes in pieces of any size; `values` holds its wanted members that are scalars."""

    __slots__ = (
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
        self._marks = 0
        self._in_string = False
        self._escaped = False
        self._is_key = True
        self._key: str | None = None
        self._text = bytearray()

    @property
    def is_whole(self) -> bool:
        """Whether the object has ended."""
        return not self.broken and self._depth == 0 and self._key == ""

    def take(self, data: bytes) -> None:
        """Takes the next bytes."""
        place, end = 0, len(data)
        while place < end and not self.broken:
            read = self._through_string if self._in_string else self._to_mark
            place = read(data, place)

    def _through_string(self, data: bytes, start: int) -> int:
        end, self._escaped = _string_end(data, start + self._escaped)
        is_over = end < len(data)
        self._keep(data, start, end + is_over)
        self._in_string = not is_over
        return end + is_over

    def _to_mark(self, data: bytes, start: int) -> int:
        if self._depth > 1:
            skipped = _BELOW_TOP.match(data, start, start + _AT_ONCE)
            start = skipped.end() if skipped else start
        found = (_AT_TOP if self._depth == 1 else _BELOW).search(data, start)
        end = found.start() if found else len(data)
        self._keep(data, start, end)
        if found is None:
            return end
        mark = data[end]
        self._marks += 1
        self.broken |= self._marks > _MOST_MARKS
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
        elif self._depth == 1 and len(self._text) <= _LONGEST:
            self._text += data[start : min(end, start + _LONGEST + 1)]

    def _open(self, mark: int) -> None:
        if self._depth == 0:
            self.broken |= mark != _OPENING_BRACE or self._key is not None
        self._depth += 1
        self.broken |= self._depth > _DEEPEST
        if self._depth == 1:
            self._text.clear()
        elif len(self._text) <= _LONGEST:
            self._text += b"x" * (_LONGEST + 1)  # a container is no scalar: what stands here can't be read as one

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
            self.broken |= not isinstance(key, str) and len(self._text) <= _LONGEST
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
    """Where the quote is that ends a string, or the end of the data; whether what comes behind that is escaped."""
    quote = data.find(b'"', start)
    end = len(data) if quote < 0 else quote
    if end == start or data[end - 1] != _BACKSLASH:
        return end, False
    return _unescaped_quote(data, start)


def _unescaped_quote(data: bytes, start: int) -> tuple[int, bool]:
    """The same where there are backslashes: escapes are painted over, in pieces, since the quote may be near."""
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
    if len(text) > _LONGEST:
        return _UNREADABLE
    try:
        return orjson.loads(bytes(text))
    except ValueError:
        return _UNREADABLE
