"""What came and was not read yet, given out in slices without copying what is left: pure."""


class Backlog:
    """Bytes of one connection, in the order in which they came."""

    __slots__ = ("_data", "_place")

    def __init__(self) -> None:
        self._data = b""
        self._place = 0

    def __len__(self) -> int:
        return len(self._data) - self._place

    def add(self, data: bytes) -> None:
        """Puts bytes behind what is there."""
        self._data = self._data[self._place :] + data if len(self) else data
        self._place = 0

    def take(self, most: int) -> bytes:
        """Takes the next bytes, so many at the most; all of what came at once is the very object."""
        if self._place == 0 and len(self._data) <= most:
            data, self._data = self._data, b""
            return data
        data = self._data[self._place : self._place + most]
        self._place += len(data)
        return data

    def clear(self) -> None:
        """Drops all of it."""
        self._data = b""
        self._place = 0
