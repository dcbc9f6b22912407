"""Records of TLS that have nothing for the protocol above: a few are honest, a flood of them is an attack. Pure.

They are empty, or messages of TLS itself: session tickets, KeyUpdates. To read one costs as much as one with data, or
more.
"""

from typing import Final

_MOST: Final = 64
"""Of a whole connection. Nobody honest sends so many: a flood of KeyUpdates does."""

_MOST_BYTES: Final = 16_384  # on the wire: less than a record of tickets; two honest ones have 500
_OF_A_CHUNK: Final = 3
"""Bytes of such a record that may cost as much as a chunk: a session ticket of 18 takes 6 microseconds."""


class IdleRecords:
    """Counts those of one connection."""

    __slots__ = ("_bytes", "_count")

    def __init__(self) -> None:
        self._count = self._bytes = 0

    def add(self, records: int, size: int) -> None:
        """Counts so many more, which had so many bytes on the wire."""
        self._count += records
        self._bytes += size

    @property
    def are_too_many(self) -> bool:
        """Whether nobody honest sends so many."""
        return self._count > _MOST or self._bytes > _MOST_BYTES


def cost_of_idle(size: int) -> int:
    """What a record of so many bytes may cost beside a record's cost, in chunks in the clear (turn.py)."""
    return size // _OF_A_CHUNK
