"""Request ids and the Date header, passed to the parts that need them."""

import os
import time
from email.utils import formatdate


class HttpDate:
    """The value of a Date header (RFC 9110 5.6.7), formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        """The value for now."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode("ascii")
        return self._text


class RandomIds:
    """Random ids of 32 hexadecimal digits. Reads random bytes in batches: one system call per id is expensive."""

    def __init__(self) -> None:
        self._digits = ""
        self._next = 0

    def __call__(self) -> str:
        """The next id."""
        start = self._next
        if start >= len(self._digits):
            self._digits, start = os.urandom(4096).hex(), 0
        self._next = start + 32
        return self._digits[start : start + 32]
