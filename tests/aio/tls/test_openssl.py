"""OpenSSL's buffers never shrink, so they are filled a little at a time."""

import ssl
from pathlib import Path

import pytest

from gateway.aio.tls.openssl import MAX_RECORD, RECORDS_AT_ONCE, TlsEngine

ROOM = 64 * 1024


def never() -> bool:
    """No turn is over."""
    return False


def meet(one: TlsEngine, other: TlsEngine) -> None:
    """Lets them complete the handshake."""
    for _ in range(4):
        for mine, theirs in ((one, other), (other, one)):
            if not mine.is_open:
                mine.advance_handshake()
            take_all(theirs, mine.take_output())


def take_all(engine: TlsEngine, sent: bytes) -> None:
    came = memoryview(sent)
    while came:
        if engine.is_open:
            came = came[engine.open(came, memoryview(bytearray(ROOM)), never).taken :]
        else:
            came = came[engine.feed(came)[0] :]
            engine.advance_handshake()


@pytest.fixture
def ends(certificates: Path) -> tuple[TlsEngine, TlsEngine]:
    """Ours, and a client's, which are open."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    client = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    ours, theirs = TlsEngine(server, None), TlsEngine(client, "localhost")
    meet(theirs, ours)
    assert ours.is_open
    assert theirs.is_open
    return ours, theirs


@pytest.mark.parametrize("size", [1, 100, MAX_RECORD - 1, MAX_RECORD])
def test_what_is_read_is_given_to_it_a_little_at_a_time(ends: tuple[TlsEngine, TlsEngine], size: int) -> None:
    """A connection that once uploaded kept 266 KB while it was idle."""
    ours, theirs = ends
    wanted = b"".join(bytes([number]) * size for number in range(RECORDS_AT_ONCE))
    sent = b"".join(b"".join(theirs.seal(wanted[place : place + size])) for place in range(0, len(wanted), size))
    filled = list[int]()

    class Watched:
        """A buffer of OpenSSL, by how much it held."""

        def __init__(self, real: ssl.MemoryBIO) -> None:
            self._real = real

        @property
        def pending(self) -> int:
            return self._real.pending

        def write(self, data: memoryview) -> int:
            written = self._real.write(data)
            filled.append(self._real.pending)
            return written

    ours._incoming = Watched(ours._incoming)  # type: ignore[assignment]
    clear = memoryview(bytearray(len(wanted) + MAX_RECORD))
    came = memoryview(sent)
    for part in (came[: len(sent) // 2], came[len(sent) // 2 :]):
        opened = ours.open(part, clear, never)
        assert opened.taken == len(part)
        assert not opened.is_ended
        assert opened.error is None
        assert bytes(clear[: opened.size]) == wanted[: opened.size]
        wanted = wanted[opened.size :]
    assert wanted == b""
    assert max(filled) <= 34 * 1024


def test_what_is_sealed_comes_in_pieces(ends: tuple[TlsEngine, TlsEngine]) -> None:
    """A connection that once had a large answer kept 266 KB while it was idle."""
    ours, theirs = ends
    data = bytes(range(256)) * 1000
    sealed = ours.seal(data)
    assert max(map(len, sealed)) <= 34 * 1024
    got, clear = b"", memoryview(bytearray(320 * 1024))
    came = memoryview(b"".join(sealed))
    while came:
        opened = theirs.open(came, clear, never)
        came = came[opened.taken :]
        got += bytes(clear[: opened.size])
    assert got == data


def test_an_end_among_what_came_is_told(ends: tuple[TlsEngine, TlsEngine]) -> None:
    ours, theirs = ends
    sent = b"".join(theirs.seal(b"a" * 40_000))
    theirs.end()
    sent += theirs.take_output() + b"\x17\x03\x03\x00\x02ab"
    clear = memoryview(bytearray(80_000))
    opened = ours.open(memoryview(sent), clear, never)
    assert (opened.size, opened.is_ended, opened.error) == (40_000, True, None)


def test_an_error_among_what_came_is_told(ends: tuple[TlsEngine, TlsEngine]) -> None:
    ours, theirs = ends
    sent = b"".join(theirs.seal(b"a" * 40_000)) + b"\x17\x03\x03\x00\x20" + b"?" * 32
    clear = memoryview(bytearray(80_000))
    opened = ours.open(memoryview(sent), clear, never)
    assert opened.size == 40_000
    assert opened.error is not None
