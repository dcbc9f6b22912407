"""A buffer of received, unread bytes, read in slices without copying the rest: pure."""

import re
from typing import Final

MAX_SKIPPED: Final = 8192
"""Bytes of empty lines that are dropped at once: a quarter of a millisecond."""

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n){0,%d}" % (MAX_SKIPPED // 2))


class Backlog:
    """The unread bytes of one connection, in order of arrival. Adding copies only what is added.

    It keeps none that were taken, once all were: a connection may be idle for long.
    """

    __slots__ = ("_data", "_more", "_place")

    def __init__(self) -> None:
        self._data = b""
        self._place = 0
        self._more = bytearray()  # what came while there was something: joined to it when that is asked for

    def __len__(self) -> int:
        return len(self._data) - self._place + len(self._more)

    def add(self, data: bytes) -> None:
        """Appends bytes."""
        if len(self):
            self._more += data
        else:
            self._data, self._place = data, 0

    def put_back(self, data: bytes) -> None:
        """Puts back, in front, bytes that were taken but not read."""
        self._data = data + self._data[self._place :]
        self._place = 0

    def take(self, most: int) -> bytes:
        """Takes at most `most` of the next bytes; if that is all of one `add`, returns the same object uncopied."""
        if len(self._data) - self._place < most:
            self._join()
        if self._place == 0 and len(self._data) <= most:
            data, self._data = self._data, b""
            return data
        data = self._data[self._place : self._place + most]
        self._move(len(data))
        return data

    def through(self, mark: bytes, before: bytes) -> int:
        """How many bytes reach through the first `mark`, which may begin in `before`; without a mark all of them."""
        self._join()
        seam = before[1 - len(mark) :]
        place = (seam + self._data[self._place : self._place + len(mark) - 1]).find(mark)
        if place >= 0:
            return place + len(mark) - len(seam)
        place = self._data.find(mark, self._place)
        return len(self) if place < 0 else place + len(mark) - self._place

    def skip_empty_lines(self) -> int:
        """Drops the empty lines that come next, up to MAX_SKIPPED bytes; returns how many bytes they had."""
        self._join()
        found = _EMPTY_LINES.match(self._data, self._place)
        skipped = 0 if found is None else found.end() - self._place
        self._move(skipped)
        return skipped

    def clear(self) -> None:
        """Drops all bytes."""
        self._data = b""
        self._place = 0
        self._more.clear()

    def _move(self, size: int) -> None:
        self._place += size
        if self._place == len(self._data):
            self._data, self._place = b"", 0

    def _join(self) -> None:
        if self._more:
            self._data = self._data[self._place :] + self._more
            self._place = 0
            self._more = bytearray()
