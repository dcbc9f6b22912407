"""How many bytes passed: counted by the connections, read by the metrics."""


class Traffic:
    """Bytes of all client connections since the start, in the clear."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
