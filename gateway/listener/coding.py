"""Detects a request body whose chunked coding is out of proportion: pure counting.

Each chunk costs us time, however small it is, and costs the sender almost nothing. No well-meaning client cuts a long
body into tiny chunks, or sends more coding (extensions, trailers) than body.
"""

from typing import Final

_WINDOW: Final = 65_536  # bytes on the wire that are judged together
_LEAST_CHUNK: Final = 64  # average bytes of a chunk
_LEAST_SHARE: Final = 0.5  # share of the body in the bytes on the wire


class Coding:
    """Counts for one body. Does not judge the first window: a small body may be cut in any way."""

    __slots__ = ("_body", "_chunks", "_is_first", "_wire")

    def __init__(self) -> None:
        self._is_first = True
        self._begin()

    def _begin(self) -> None:
        self._wire = self._body = self._chunks = 0

    def is_wasteful(self, wire: int, body: int, chunks: int) -> bool:
        """Counts bytes on the wire, body bytes among them, and chunks that ended; judges each 64 KB."""
        self._wire += wire
        self._body += body
        self._chunks += chunks
        if self._wire < _WINDOW:
            return False
        are_crumbs = self._body < (self._chunks - 1) * _LEAST_CHUNK  # the first chunk began in the window before
        is_mostly_coding = self._body < self._wire * _LEAST_SHARE
        is_wasteful = not self._is_first and (are_crumbs or is_mostly_coding)
        self._is_first = False
        self._begin()
        return is_wasteful
