"""How much of a request's body passes aiohttp's parser by: pure counting.

Behind its head a body with a Content-Length is nothing but so many bytes. The parser would copy each of them once
more, a tenth of what an upload costs. It is passed by as soon as it has given out all that it was given, which is
known only where the head is: for a request that came behind another one in the same piece, the parser stays.
"""

from typing import Final

_END: Final = b"\r\n\r\n"
_LEAST: Final = 65_536  # bytes; for less, the new parser that the next request needs costs more than is saved


class ParserBypass:
    """Counts for one connection. `left` is how many of the next bytes pass the parser by."""

    __slots__ = ("_before_body", "_given", "_length", "left")

    def __init__(self) -> None:
        self._given = 0
        self._before_body = 0
        self._length: int | None = None
        self.left = 0

    def begin(self, beginning: bytes, given: int) -> None:
        """A request begins: what came of it first, and how many bytes the parser was given since the one before."""
        self._given = given
        self._before_body = beginning.find(_END) + len(_END) if len(beginning) == given and _END in beginning else -1
        self._length = None
        self.left = 0

    def give(self, size: int) -> None:
        """The parser was given so many bytes."""
        self._given += size

    def expect(self, length: int | None) -> None:
        """The body has so many bytes, as its head says; None if that says nothing."""
        self._length = length if self._before_body >= 0 else None

    def open(self, given_out: int) -> None:
        """Lets the rest pass by, if the parser has given out all it was given of the body."""
        if self._length is None or self._before_body + given_out != self._given:
            return
        if self._length - given_out >= _LEAST:
            self.left = self._length - given_out
        self._length = None

    def take(self, data: bytes) -> bytes:
        """Of bytes that came, those that pass by."""
        piece = data if len(data) <= self.left else data[: self.left]
        self.left -= len(piece)
        return piece
