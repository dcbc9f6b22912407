"""OpenSSL's buffers never shrink, so they are filled a little at a time."""

import ssl
from pathlib import Path

import pytest

from gateway.aio.tls.openssl import MAX_RECORD, MOST_CERTIFICATES, RECORDS_AT_ONCE, TlsEngine

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


def engines(certificates: Path, version: ssl.TLSVersion, *, asks: bool = False) -> tuple[TlsEngine, TlsEngine]:
    """Ours, and a client's, which have said nothing yet."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server.maximum_version = version
    if asks:
        server.verify_mode = ssl.CERT_OPTIONAL
        server.load_verify_locations(certificates / "ca.pem")
    client = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    return TlsEngine(server, None), TlsEngine(client, "localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_follows_the_end_of_a_handshake_in_its_record_is_refused(
    certificates: Path, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL answered 3,000 requests to renegotiate at once, which took 17 ms; below TLS 1.3 alone there are any."""
    ours, theirs = engines(certificates, version)
    meet(theirs, ours)
    assert (ours.is_open, theirs.is_open) == (True, True)
    monkeypatch.setattr("gateway.aio.tls.openssl.LARGEST_FINISHED", 39)  # as though the end itself were too large
    ours, theirs = engines(certificates, version)
    if version is ssl.TLSVersion.TLSv1_3:
        meet(theirs, ours)
        assert (ours.is_open, theirs.is_open) == (True, True)
    else:
        with pytest.raises(ssl.SSLError, match="something follows"):
            meet(theirs, ours)
        assert not ours.is_open


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("count", [MOST_CERTIFICATES, MOST_CERTIFICATES + 1])
def test_a_server_that_shows_too_many_certificates_is_left(
    certificates: Path, tmp_path: Path, version: ssl.TLSVersion, count: int
) -> None:
    """With 700 of them, a record of session tickets held the loop for 14 ms."""
    shown, own = tmp_path / "shown.pem", (certificates / "server.pem").read_bytes()
    shown.write_bytes(own + (certificates / "ca.pem").read_bytes() * (count - own.count(b"BEGIN")))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown, certificates / "server.key")
    server.maximum_version = version
    client = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    ours, theirs = TlsEngine(server, None), TlsEngine(client, "localhost")
    if count == MOST_CERTIFICATES:
        meet(theirs, ours)
        assert theirs.is_open
    else:
        with pytest.raises(ssl.SSLError, match="more than 32 certificates"):
            meet(theirs, ours)
        assert not theirs.is_open


def test_who_was_asked_for_a_certificate_is_read_apart_whatever_the_name_makes_of_it(certificates: Path) -> None:
    """OpenSSL goes by the context that a connection began with; one of no certificates may be chosen by its name."""
    ours, theirs = engines(certificates, ssl.TLSVersion.TLSv1_2, asks=True)
    none = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    none.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    ours.object.context = none
    theirs.advance_handshake()
    ours.feed(memoryview(theirs.take_output()))
    ours.advance_handshake()
    assert not ours.is_heavy
    ours.feed(memoryview(b"\x16\x03\x03\x00\x07\x0b\x00\x00\x03\x00\x00\x00"))
    assert ours.is_heavy
