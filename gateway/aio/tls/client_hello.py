"""Refuses TLS ClientHellos that cost too much: reads their bytes before OpenSSL does. Pure.

OpenSSL accepts finite-field groups (ffdhe2048 to ffdhe8192, RFC 7919) for TLS 1.3, whatever ciphers are set, and
Python can't set the groups of a context, only one curve. An ffdhe8192 key costs a quarter of a second, and any client
can ask for one with a kilobyte. So no key share may be of these groups, and the groups must include a curve: OpenSSL
prefers curves, so a HelloRetryRequest asks for a curve's share, and OpenSSL then takes no other one.
Some of OpenSSL's loops are quadratic in the size of the hello: hence the limits. Format: RFC 8446, section 4.1.2.
"""

from typing import Final

from gateway.aio.tls.records import HANDSHAKE

MAX_BYTES: Final = 8192
"""Byte limit of a ClientHello; one with a post-quantum share and a session ticket has two or three thousand."""

_MAX_GROUPS: Final = 128  # OpenSSL looks for each share in them; clients name some ten
_MAX_SHARES: Final = 32  # and send two or three

_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_GROUPS: Final = 10
_KEY_SHARES: Final = 51
_CURVES: Final = frozenset({23, 24, 25, 29, 30})  # P-256, P-384, P-521, X25519, X448
_HEADER: Final = 4
_RECORD_HEADER: Final = 5
_MAX_RECORDS: Final = 16
_FIXED: Final = 34  # version and random


class HelloError(ValueError):
    """Why a ClientHello is refused, in words for the log."""


class _ByteReader:
    """Reads length-prefixed vectors; as strict as OpenSSL."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._place : self._place + size]
        if len(taken) < size:
            raise HelloError("its lengths do not fit")
        self._place += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))


def size_of(begun: bytes) -> int | None:
    """The size of a handshake message, header included; None while the header is incomplete.

    Raises:
        HelloError: it is not a ClientHello, or it is too long.
    """
    if begun and begun[0] != _CLIENT_HELLO:
        raise HelloError("it is not a ClientHello")
    if len(begun) < _HEADER:
        return None
    size = _HEADER + int.from_bytes(begun[1:_HEADER], "big")
    if size > MAX_BYTES:
        raise HelloError("it is too long")
    return size


def check_hello(message: bytes) -> None:
    """Checks a whole ClientHello.

    Raises:
        HelloError: it is malformed, has a finite-field key share, has groups but no curve, has too many of either, or
            has a server name that is not ASCII, which Python's ssl can't report.
    """
    extensions = _extensions(_ByteReader(message[_HEADER:]))
    if extensions.get(_SERVER_NAME):
        _check_names(_vector_of(extensions[_SERVER_NAME]))
    if _GROUPS in extensions:
        _check_groups(_vector_of(extensions[_GROUPS]))
    if _KEY_SHARES in extensions:
        _check_shares(_vector_of(extensions[_KEY_SHARES]))


def _check_names(data: bytes) -> None:
    names = _ByteReader(data)
    while names:
        names.take(1)
        if not names.vector(2).isascii():
            raise HelloError("its server's name is not ASCII")


def _check_groups(groups: bytes) -> None:
    if len(groups) > 2 * _MAX_GROUPS:
        raise HelloError("it has too many groups")
    named = {int.from_bytes(groups[i : i + 2], "big") for i in range(0, len(groups), 2)}
    if not named & _CURVES:
        raise HelloError("none of its groups is a curve")


def _check_shares(data: bytes) -> None:
    shares, count = _ByteReader(data), 0
    while shares:
        count += 1
        if count > _MAX_SHARES:
            raise HelloError("it has too many key shares")
        group = shares.number(2)
        shares.vector(2)
        if group >> 8 == 1:
            raise HelloError("a key share is of a finite field")


def _vector_of(data: bytes) -> bytes:
    reader = _ByteReader(data)
    vector = reader.vector(2)
    if reader:
        raise HelloError("its lengths do not fit")
    return vector


def _extensions(hello: _ByteReader) -> dict[int, bytes]:
    hello.take(_FIXED)
    for width in (1, 2, 1):  # session id, ciphers, compressions
        hello.vector(width)
    if not hello:
        return {}
    block = _ByteReader(hello.vector(2))
    if hello:
        raise HelloError("its lengths do not fit")
    extensions: dict[int, bytes] = {}
    while block:
        kind = block.number(2)
        if kind in extensions:
            raise HelloError("an extension comes twice")
        extensions[kind] = block.vector(2)
    return extensions


class HelloGate:
    """Keeps a client's first bytes from OpenSSL until they are a whole, checked ClientHello."""

    __slots__ = ("_held", "is_open")

    def __init__(self) -> None:
        self._held = b""
        self.is_open = False

    def take(self, data: bytes) -> bytes:
        """Takes at most the rest of one record; returns what may go to OpenSSL now, in the end all of it.

        Raises:
            HelloError: the hello is refused, or is not whole within a few records.
        """
        self._held += data
        message, announced = _message_in(self._held)
        size = size_of(message)
        if size is not None and announced > size:
            # No client may say more before our hello: OpenSSL would read it together with this one.
            raise HelloError("something follows it in its record")
        if size is None or len(message) < size:
            return b""
        check_hello(message)
        self.is_open = True
        held, self._held = self._held, b""
        return held


def _message_in(stream: bytes) -> tuple[bytes, int]:
    """The content of a stream's handshake records, and how much of it they announce: the last may be incomplete."""
    message, announced, place = b"", 0, 0
    for _ in range(_MAX_RECORDS):
        if place < len(stream) and stream[place] != HANDSHAKE:
            raise HelloError("something else comes before it is whole")
        if place + _RECORD_HEADER > len(stream):
            return message, announced
        size = int.from_bytes(stream[place + 3 : place + _RECORD_HEADER], "big")
        place += _RECORD_HEADER
        message += stream[place : place + size]
        announced += size
        place += size
    if place < len(stream):
        raise HelloError("it is in too many records")
    return message, announced
