"""How much is read of a body that nobody wants, before the connection ends: for both listeners, pure.

To close before a client's bytes are read would reset the connection, and the client might lose its answer. Little is
read to its end, and the connection goes on; of more the connection ends after the answer, and what still comes is
dropped before it is parsed (aio/unwanted.py).
"""

from typing import Final

MAX_DRAIN_BYTES: Final = 1_048_576
DRAIN_SECONDS: Final = 2.0
"""For the rest of a body, and for a client that still sends one to read our answer."""


def is_too_long_to_drain(length: int | None, taken: int) -> bool:
    """Whether the rest of a body is not read: its length, None if it is not stated, and what was taken of it."""
    return length is None or length - taken > MAX_DRAIN_BYTES
