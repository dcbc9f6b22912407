"""Byte counters: incremented by the connections, read by the metrics."""


class Traffic:
    """Decrypted bytes of all client connections since the start."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
