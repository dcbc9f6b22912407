"""Whether the chunked coding of a request's body is out of proportion: pure counting.

A chunk costs us what it costs to read, however little is in it, and the sender next to nothing. No client that means
well cuts a long body into crumbs, or says more in the coding (extensions, trailers) than in the body.
"""

from typing import Final

_WINDOW: Final = 65_536  # bytes of the wire that are judged together
_LEAST_CHUNK: Final = 64  # bytes that chunks have on the average
_LEAST_SHARE: Final = 0.5  # of the wire that is body


class Coding:
    """Counts for one body. What came first is not judged: a small body may be cut as its sender likes."""

    __slots__ = ("_body", "_chunks", "_is_first", "_wire")

    def __init__(self) -> None:
        self._is_first = True
        self._begin()

    def _begin(self) -> None:
        self._wire = self._body = self._chunks = 0

    def is_wasteful(self, wire: int, body: int, chunks: int) -> bool:
        """Counts what came: bytes of the wire, bytes of the body in them, chunks that ended; judges each 64 KB."""
        self._wire += wire
        self._body += body
        self._chunks += chunks
        if self._wire < _WINDOW:
            return False
        are_crumbs = self._body < (self._chunks - 1) * _LEAST_CHUNK  # of the first, some came in the window before
        is_mostly_coding = self._body < self._wire * _LEAST_SHARE
        is_wasteful = not self._is_first and (are_crumbs or is_mostly_coding)
        self._is_first = False
        self._begin()
        return is_wasteful
