"""Who takes the body of an upstream's answer, and how it says that it is behind. Pure."""

from collections.abc import Callable
from typing import Protocol

GoOn = Callable[[], bool]
"""A step of what a sink is behind with; returns whether more is left."""


class BodySink(Protocol):
    """Takes the body of an answer, in order and whole pieces."""

    def take(self, data: bytes) -> GoOn | None:
        """Takes the next bytes of the body; gives what it does, in turns, before it takes more, if anything."""
