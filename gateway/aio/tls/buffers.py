"""The memory that all TLS connections of a loop read into, one after the other: 256 KB for each would be many."""

from functools import cached_property
from typing import Final

from gateway.aio.tls.openssl import MAX_RECORD
from gateway.aio.tls.step_threads import StepThreads

_SIZE: Final = 262_144


class TlsBuffers:
    """Where connections of one loop read to: what is in them is taken out before the call ends that filled them.

    Both are made when they are first needed. `threads` are for steps of handshakes that may be too long for the loop.
    """

    def __init__(self, threads: StepThreads) -> None:
        self.threads = threads

    @cached_property
    def wire(self) -> memoryview:
        """For what the socket has."""
        return memoryview(bytearray(_SIZE))

    @cached_property
    def clear(self) -> memoryview:
        """For what is decrypted of it; a record may have begun in an earlier read."""
        return memoryview(bytearray(_SIZE + MAX_RECORD))
