"""What came and was not read yet, given out in slices without copying what is left: pure."""

import re
from typing import Final

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")


class Backlog:
    """Bytes of one connection, in the order in which they came. Adding copies no more than what is added."""

    __slots__ = ("_data", "_more", "_place")

    def __init__(self) -> None:
        self._data = b""
        self._place = 0
        self._more = bytearray()  # what came while there was something: joined to it when that is asked for

    def __len__(self) -> int:
        return len(self._data) - self._place + len(self._more)

    def add(self, data: bytes) -> None:
        """Puts bytes behind what is there."""
        if len(self):
            self._more += data
        else:
            self._data, self._place = data, 0

    def put_back(self, data: bytes) -> None:
        """Puts bytes before what is there: they were taken, and are not read yet."""
        self._data = data + self._data[self._place :]
        self._place = 0

    def take(self, most: int) -> bytes:
        """Takes the next bytes, so many at the most; all of what came at once is the very object."""
        if len(self._data) - self._place < most:
            self._join()
        if self._place == 0 and len(self._data) <= most:
            data, self._data = self._data, b""
            return data
        data = self._data[self._place : self._place + most]
        self._place += len(data)
        return data

    def through(self, mark: bytes, before: bytes) -> int:
        """How many bytes reach to the end of the first mark, which may have begun `before` them; else all of them."""
        self._join()
        seam = before[1 - len(mark) :]
        place = (seam + self._data[self._place : self._place + len(mark) - 1]).find(mark)
        if place >= 0:
            return place + len(mark) - len(seam)
        place = self._data.find(mark, self._place)
        return len(self) if place < 0 else place + len(mark) - self._place

    def skip_empty_lines(self) -> int:
        """Drops the empty lines that come next; how many bytes they had."""
        self._join()
        found = _EMPTY_LINES.match(self._data, self._place)
        skipped = 0 if found is None else found.end() - self._place
        self._place += skipped
        return skipped

    def clear(self) -> None:
        """Drops all of it."""
        self._data = b""
        self._place = 0
        self._more.clear()

    def _join(self) -> None:
        if self._more:
            self._data = self._data[self._place :] + self._more
            self._place = 0
            self._more = bytearray()
