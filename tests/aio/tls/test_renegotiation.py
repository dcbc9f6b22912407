"""Once a connection is open, no message of TLS itself costs much: no second handshake, few tickets in one turn."""

import contextlib
import ssl
from pathlib import Path

import pytest

from gateway.aio.tls.openssl import RECORDS_AT_ONCE, Clear, TlsEngine
from tests.support.keyupdates import Sealing
from tests.support.tls12 import CIPHER, DATA, HANDSHAKE, HELLO_REQUEST, Sealing12

ROOM = 320 * 1024


class Meeting:
    """Our end, open, and what the other side can say under its keys."""

    def __init__(self, certificates: Path, log: Path, version: ssl.TLSVersion, *, as_client: bool) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        server.num_tickets = 0
        client = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        client.maximum_version = version
        client.set_ciphers(CIPHER)
        ours, theirs = (client, server) if as_client else (server, client)
        theirs.keylog_filename = str(log)
        self.ours = TlsEngine(ours, "localhost" if as_client else None)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._peer = theirs.wrap_bio(
            self._incoming, self._outgoing, server_side=as_client, server_hostname=None if as_client else "localhost"
        )
        self._ours_said, self._peer_said = b"", b""
        if as_client:
            self.ours.advance_handshake()
        for _ in range(4):
            self._exchange()
        assert self.ours.is_open
        self.hellos = (self._ours_said, self._peer_said) if as_client else (self._peer_said, self._ours_said)

    def _exchange(self) -> None:
        said = self.ours.take_output()
        self._ours_said += said
        self._incoming.write(said)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._peer.do_handshake()
        came = self._outgoing.read()
        self._peer_said += came
        left = memoryview(came)
        while left:
            left = left[self.ours.feed(left)[0] :]
            self.ours.advance_handshake()

    def give(self, data: bytes, *, is_over: bool = False) -> Clear:
        return self.ours.open(memoryview(data), memoryview(bytearray(ROOM)), lambda: is_over)


@pytest.mark.parametrize("as_client", [True, False], ids=["a server asks for it", "a client begins it"])
def test_no_second_handshake_begins(as_client: bool, certificates: Path, tmp_path: Path) -> None:
    """A server's certificates in it were read in the loop: four of them for seven seconds, before any was trusted.

    And each hello of a client was answered with an alert, be there thousands in a record.
    """
    log = tmp_path / "keys"
    met = Meeting(certificates, log, ssl.TLSVersion.TLSv1_2, as_client=as_client)
    sealing = Sealing12(log, *met.hellos, is_server=as_client)
    first = met.give(sealing.record(DATA, b"hello"))
    assert (first.size, first.idle, first.error) == (5, 0, None)
    message = HELLO_REQUEST if as_client else b"\x01\0\0\x01x"
    begun = met.give(sealing.record(DATA, b"more") + sealing.record(HANDSHAKE, message * 1000))
    assert begun.size == 4
    assert begun.error is not None
    assert "renegotiate" in str(begun.error)
    assert not met.ours.has_output


@pytest.mark.parametrize("size", [1, 5, 6])
def test_the_type_of_a_record_is_seen_however_it_is_cut(size: int, certificates: Path, tmp_path: Path) -> None:
    met = Meeting(certificates, tmp_path / "keys", ssl.TLSVersion.TLSv1_2, as_client=True)
    sealing = Sealing12(tmp_path / "keys", *met.hellos, is_server=True)
    data, request = sealing.record(DATA, b"hello"), sealing.record(HANDSHAKE, HELLO_REQUEST)
    assert met.give(data[:size]).error is None
    assert met.give(data[size:]).size == 5
    error = met.give(request[:size]).error or met.give(request[size:]).error
    assert "renegotiate" in str(error)
    assert not met.ours.has_output


def tickets(count: int) -> bytes:
    """So many messages NewSessionTicket (RFC 8446, 4.6.1)."""
    body = bytes(9) + b"\0\x01x" + bytes(2)
    return (b"\x04" + len(body).to_bytes(3, "big") + body) * count


def test_behind_a_record_of_tickets_the_step_ends_when_the_turn_is_over(certificates: Path, tmp_path: Path) -> None:
    """Sixteen records of nine hundred tickets took a tenth of a second."""
    log = tmp_path / "keys"
    met = Meeting(certificates, log, ssl.TLSVersion.TLSv1_3, as_client=True)
    sealing = Sealing(log, "SERVER_TRAFFIC_SECRET_0")
    sent = b"".join(sealing.messages(tickets(800)) for _ in range(3)) + sealing.data(b"at last")
    record = len(sent) // 3 // 100 * 100
    opened = met.give(sent, is_over=True)
    assert (opened.size, opened.records, opened.idle, opened.error) == (0, 1, 1, None)
    assert record < opened.taken == opened.idle_bytes < len(sent) // 3 + 100
    rest = met.give(sent[opened.taken :])
    assert (rest.size, rest.records, rest.idle) == (7, 3, 2)
    assert rest.idle_bytes == 2 * opened.idle_bytes


def test_data_is_read_on_whatever_the_time(certificates: Path, tmp_path: Path) -> None:
    met = Meeting(certificates, tmp_path / "keys", ssl.TLSVersion.TLSv1_3, as_client=True)
    sealing = Sealing(tmp_path / "keys", "SERVER_TRAFFIC_SECRET_0")
    opened = met.give(b"".join(sealing.data(b"x") for _ in range(20)), is_over=True)
    assert (opened.size, opened.records) == (RECORDS_AT_ONCE, RECORDS_AT_ONCE)
