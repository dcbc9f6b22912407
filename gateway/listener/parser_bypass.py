"""Decides how much of a request's body bypasses aiohttp's parser: pure counting.

After its head, a body with a Content-Length is a plain run of bytes. The parser would copy each byte once more, which
is a tenth of an upload's cost. The bypass starts once the parser has delivered all the body bytes that it was given.
That is known only if the place of the head is: a request pipelined in one piece with another stays with the parser.
"""

from typing import Final

_END: Final = b"\r\n\r\n"
_LEAST: Final = 65_536  # bytes; for fewer, the new parser for the next request costs more than is saved


class ParserBypass:
    """Counts for one connection. `left` is how many of the next bytes bypass the parser."""

    __slots__ = ("_before_body", "_given", "_length", "left")

    def __init__(self) -> None:
        self._given = 0
        self._before_body = 0
        self._length: int | None = None
        self.left = 0

    def begin(self, beginning: bytes, given: int) -> None:
        """Begins a request: `beginning` is its first bytes, `given` what the parser got since the request before."""
        self._given = given
        self._before_body = beginning.find(_END) + len(_END) if len(beginning) == given and _END in beginning else -1
        self._length = None
        self.left = 0

    def give(self, size: int) -> None:
        """Notes that the parser was given `size` bytes."""
        self._given += size

    def expect(self, length: int | None) -> None:
        """Notes the body's size as its head says; None if the head does not say."""
        self._length = length if self._before_body >= 0 else None

    def open(self, given_out: int) -> None:
        """Starts the bypass for the rest, if the parser has delivered all that it was given of the body."""
        if self._length is None or self._before_body + given_out != self._given:
            return
        if self._length - given_out >= _LEAST:
            self.left = self._length - given_out
        self._length = None

    def take(self, data: bytes) -> bytes:
        """Returns those of the received bytes that bypass the parser."""
        piece = data if len(data) <= self.left else data[: self.left]
        self.left -= len(piece)
        return piece
