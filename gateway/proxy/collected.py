"""Collects the answer to a submit whole, for the gateway has to read it; streaming.py passes on what is not read."""

from typing import Final

from gateway.errors import UpstreamBrokeOff
from gateway.upstream.connection import UpstreamConnection

_MAX_ANSWER: Final = 262_144  # reading it blocks the loop, for some 10 ms: what is in it is bounded (check_url.py)


class Collected:
    """Collects a small answer's body completely, because the gateway has to read it."""

    __slots__ = ("_content", "_upstream")

    def __init__(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        self._content = bytearray()  # not a list: an upstream may send one byte a piece

    async def run(self) -> bytes:
        """Waits for the whole body.

        Raises:
            UpstreamBrokeOff: the answer failed midway, or is larger than 256 KB.
        """
        await self._upstream.flow(self, looks_inside=False)
        return bytes(self._content)

    def take(self, data: bytes) -> None:
        """Called with the next piece of the body."""
        if len(self._content) + len(data) > _MAX_ANSWER:
            self._upstream.break_off(
                UpstreamBrokeOff("The upstream's answer to a submit is too large.", arrived=True)
            )
        else:
            self._content += data
