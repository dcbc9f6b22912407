"""Finds where TLS records end in a stream of bytes: pure.

A record is five bytes (type, version, length), then as many bytes as the length says (RFC 8446, section 5.1). One
byte in a record of its own costs as much to decrypt as a kilobyte, so limits on that work count records. OpenSSL
itself refuses invalid records; only the SSL 2 format, whose length is in another place, has to be detected here.
"""

from typing import Final

_HEADER: Final = 5
_CHANGE_CIPHER_SPEC: Final = b"\x14\x03\x03\x00\x01\x01"
HANDSHAKE: Final = 22
"""A record's type."""

_APPLICATION_DATA: Final = 23
_SERVER_HELLO: Final = 2  # a message's type
_SSL_2: Final = 0x80  # first bit of a ClientHello in SSL 2 format, which OpenSSL still accepts


class Records:
    """Follows the records in one direction of one connection, from its first byte on."""

    __slots__ = ("_header", "_is_first", "_left", "after_change", "handshakes", "is_foreign")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._is_first = True
        self.is_foreign = False
        """Whether the stream began in SSL 2 format: its records can't be followed."""
        self.handshakes = 0
        """How many records of handshakes have begun, as far as that is not encrypted."""
        self.after_change: int | None = None
        """The size of the largest record of a handshake behind a ChangeCipherSpec; None before that."""

    @property
    def is_within(self) -> bool:
        """Whether a record has begun and is incomplete."""
        return bool(self._left or self._header)

    def end_of_whole(self, data: memoryview, place: int = 0) -> int:
        """Where the record ends that begins at a place, if it is one of application data and all there; else 0.

        Such a one need not be followed by `advance`, which does for all others.
        """
        if self._left or self._header or len(data) < place + _HEADER or data[place] != _APPLICATION_DATA:
            return 0
        end = place + _HEADER + (data[place + 3] << 8 | data[place + 4])
        return end if end <= len(data) else 0

    def advance(self, data: memoryview, place: int = 0) -> tuple[int, bool]:
        """Advances to the end of a record, or of the data; returns the position, and whether a record ended there."""
        if self._is_first and data:
            self._is_first = False
            self.is_foreign = bool(data[0] & _SSL_2)
        size = len(data)
        while place < size:
            if not self._left:
                place = self._read_header(data, place)
            end = place + self._left
            if end > size:
                self._left = end - size
                return size, False
            place, self._left = end, 0
            if not self._header:
                return place, True
        return place, False

    def _read_header(self, data: memoryview, place: int) -> int:
        header: memoryview | bytes = data[place : place + _HEADER - len(self._header)]
        place += len(header)
        if self._header:
            header = self._header + header
        if len(header) < _HEADER:
            self._header = bytes(header)
        else:
            self._header = b""
            self._left = header[3] << 8 | header[4]
            if header[0] == HANDSHAKE:
                self.handshakes += 1
                self.after_change = None if self.after_change is None else max(self.after_change, self._left)
            elif header[0] == _CHANGE_CIPHER_SPEC[0]:
                self.after_change = self.after_change or 0
        return place


def has_no_certificates(record: bytes, *, is_first: bool) -> bool:
    """Whether a whole record of a handshake surely has no certificates, nor the end of one. `is_first` of its sender.

    So are two that each handshake has: a ServerHello that fills the first one, and ChangeCipherSpec. A later one that
    looks like a ServerHello may be a piece of a certificate, and of those that are encrypted nobody knows it.
    """
    if record == _CHANGE_CIPHER_SPEC:
        return True
    is_hello = is_first and record[0] == HANDSHAKE and record[_HEADER : _HEADER + 1] == bytes([_SERVER_HELLO])
    return is_hello and int.from_bytes(record[_HEADER + 1 : _HEADER + 4]) == len(record) - _HEADER - 4
