r"""Follows the nesting depth in streamed JSON: pure, with a few operations on each piece, not on each mark.

A piece is passed as a whole if it stays below the top. To find the brackets outside of strings, it drops all bytes
but quotes and brackets, then the strings without a bracket (which leave `""`), then every other part between the
remaining quotes. Before that it overwrites the escapes `\\` and `\"` with neutral bytes of the same length. To find
the lowest depth within a piece, it uses a table for groups of eight brackets. To find where the top is reached, it
bisects the piece. Each piece is twice as large as the one before, so that no more is passed in vain after the end
than lies before it.
"""

from itertools import accumulate
from operator import add
from struct import unpack
from typing import Final, NamedTuple

_MARKS: Final = b'"{}[]'
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _MARKS)
_BRACKETS: Final = bytes.maketrans(b"{[]}", b"1100")
_BITS: Final = 8
_FIRST_PIECE: Final = 64
_LARGEST_PIECE: Final = 32_768
_FACTOR: Final = 2
_ESCAPES: Final = b'"\\'


def _steps(bits: int) -> list[int]:
    """The depth after each of eight brackets (1 opens), relative to the depth before them."""
    return list(accumulate(1 if bits >> place & 1 else -1 for place in reversed(range(_BITS))))


_CHANGE: Final = bytes(_steps(bits)[-1] & 0xFF for bits in range(1 << _BITS))  # signed, for bytes.translate
_LOWEST: Final = bytes(min(_steps(bits)) & 0xFF for bits in range(1 << _BITS))


class _Skipped(NamedTuple):
    """The effect of a piece: how the depth changes, its lowest point within, whether the piece ends in a string."""

    change: int
    lowest: int
    in_string: bool


class JsonDepth:
    """Follows the depth below an opened bracket; `depth` is 0 once that bracket is closed."""

    __slots__ = ("_escaped", "_in_string", "_size", "depth")

    def __init__(self) -> None:
        self.depth = 1
        self._in_string = False
        self._escaped = False
        self._size = _FIRST_PIECE

    def take(self, data: bytes, start: int) -> int:
        """Takes the bytes from `start` on; returns the place after the closing bracket, or the end of the data."""
        if self._escaped and data[start] in _ESCAPES:
            start += 1
        self._escaped = False
        while start < len(data) and self.depth:
            start = self._take_piece(data, start)
        return start

    def _take_piece(self, data: bytes, start: int) -> int:
        end = min(start + self._size, len(data))
        self._size = min(self._size * _FACTOR, _LARGEST_PIECE)
        piece = _painted(data[start:end])
        if piece.endswith(b"\\"):  # the escaped byte comes after the piece
            self._escaped = end == len(data)
            if not self._escaped:
                piece = _painted(data[start : end + 1])
        return start + self._pass(piece)

    def _pass(self, piece: bytes) -> int:
        """Passes a piece, or its part up to the bracket that reaches the top; returns how many bytes it passed."""
        passed = passed_over(piece, self._in_string, self.depth)
        if self.depth + passed.lowest > 0:
            self._follow(passed)
            return len(piece)
        start = 0
        while len(piece) > 1:
            half, rest = piece[: len(piece) // 2], piece[len(piece) // 2 :]
            passed = passed_over(half, self._in_string, self.depth)
            if self.depth + passed.lowest > 0:
                self._follow(passed)
                start += len(half)
                piece = rest
            else:
                piece = half
        self.depth = 0
        return start + 1

    def _follow(self, passed: _Skipped) -> None:
        self.depth += passed.change
        self._in_string = passed.in_string


def _painted(piece: bytes) -> bytes:
    if b"\\" not in piece:
        return piece
    return piece.replace(rb"\\", b"--").replace(rb"\"", b"--")


def passed_over(piece: bytes, in_string: bool, depth: int) -> _Skipped:
    """Passes a piece that begins at a given depth, within a string or not."""
    marks = piece.translate(_BRACKETS, _OTHERS).replace(b'""', b"")
    parts = marks.split(b'"')
    brackets = b"".join(parts[in_string::2])
    bits = int(brackets or b"0", 2)
    opened = bits.bit_count()
    closed = len(brackets) - opened
    lowest = -closed if closed < depth else _lowest(bits, len(brackets))
    return _Skipped(opened - closed, lowest, in_string ^ (len(parts) % 2 == 0))


def _lowest(brackets: int, count: int) -> int:
    """The lowest depth after any of so many brackets, one for each bit, relative to the depth before them."""
    missing = -count % _BITS
    size = (count + missing) // _BITS
    padded = (brackets + 1 << missing) - 1  # by brackets that open, and so are never the lowest
    eights, signed = padded.to_bytes(size, "big"), f"{size}b"
    changes = accumulate(unpack(signed, eights.translate(_CHANGE)), initial=0)
    lowest: int = min(map(add, changes, unpack(signed, eights.translate(_LOWEST))))
    return lowest
