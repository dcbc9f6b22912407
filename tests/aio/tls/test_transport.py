"""transport.py between a scripted socket and OpenSSL's own client: its turns, its states, its end."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.aio.iteration import Iteration
from gateway.aio.tls.openssl import RECORDS_AT_ONCE, TlsEngine
from gateway.aio.tls.step_threads import StepThreads
from gateway.aio.tls.transport import RECORD, TlsTransport
from gateway.aio.turn import MAX_BYTES, MAX_CHUNKS
from gateway.aio.unwanted import AT_ONCE, MOST
from tests.aio.tls.test_client_hello import FFDHE8192, X25519, groups, message, records, shares, vector
from tests.support.iteration import buffers_now, iteration_now
from tests.support.keyupdates import Sealing
from tests.support.loop import steps
from tests.support.pure import examples
from tests.support.waiting import eventually

READ = 262_144
DAY = timedelta(days=1)
MAX_OF_A_TURN = MAX_CHUNKS // RECORD + RECORDS_AT_ONCE


class Raw:
    """A socket's transport, by what was asked of it."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_reading = True
        self.calls: list[str] = []
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.calls.append(f"limits {high} {low}")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 7)}.get(name, default)


class Above:
    """The protocol in the clear, by what it heard; `pauses` after so many bytes."""

    def __init__(self) -> None:
        self.transport: TlsTransport | None = None
        self.got: list[bytes] = []
        self.heard: list[str] = []
        self.error: Exception | None = None
        self.pauses = False

    @property
    def data(self) -> bytes:
        return b"".join(self.got)

    def connection_made(self, transport: TlsTransport) -> None:
        self.heard.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.got.append(data)
        if self.pauses:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.append("lost")
        self.error = error

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class Pair:
    """Our side, and the other: OpenSSL by itself."""

    def __init__(
        self,
        certificates: Path,
        *,
        as_client: bool = False,
        trusts: bool = True,
        version: ssl.TLSVersion | None = None,
        is_timeless: bool = False,
    ) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        client = ssl.create_default_context(cafile=str(certificates / "ca.pem") if trusts else None)
        client.maximum_version = version or ssl.TLSVersion.TLSv1_3
        self.server, self.client = server, client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.raw, self.above = Raw(), Above()
        self.iteration = iteration_now()
        if is_timeless:  # no turn is over because this machine is busy
            self.iteration = Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)
        if as_client:
            self.peer = server.wrap_bio(self.incoming, self.outgoing, server_side=True)
            self.tls = TlsTransport(client, self.above, buffers_now(), self.iteration, server="localhost")
        else:
            self.peer = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            self.tls = TlsTransport(server, self.above, buffers_now(), self.iteration)
            self.tls.read_much()

    def ask(self, chain: Path, key: Path, trusts: Path | None = None) -> None:
        """A server that asks for a certificate, and a client that has this chain; the connection is made."""
        self.server.load_verify_locations(trusts or chain)
        self.server.verify_mode = ssl.CERT_OPTIONAL
        self.client.load_cert_chain(chain, key)
        self.peer = self.client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.tls = TlsTransport(self.server, self.above, buffers_now(), self.iteration)
        self.tls.read_much()
        self.tls.connection_made(self.raw)  # type: ignore[arg-type] # a transport by what it has

    async def begin(self) -> None:
        self.tls.connection_made(self.raw)  # type: ignore[arg-type] # a transport by what it has
        for _ in range(4):  # flights; in each, our turn may end between two records
            self.take()
            with_want(self.peer.do_handshake)
            self.give(self.outgoing.read())
            await self.quiet()
        assert self.tls.opened.done()
        self.take()

    async def quiet(self) -> None:
        """Until ours has read all that came, also what a thread reads."""
        for _ in range(8):
            await asyncio.sleep(0)
        await eventually(lambda: repr(self.tls).endswith("waiting=0>") and "in a thread" not in repr(self.tls))

    def take(self) -> None:
        """The other side gets what ours wrote."""
        self.incoming.write(bytes(self.raw.written))
        self.raw.written.clear()

    def give(self, data: bytes) -> None:
        """Ours reads so much at once."""
        if data:
            self.tls.get_buffer(-1)[: len(data)] = data
            self.tls.buffer_updated(len(data))

    async def pour(self, data: bytes) -> list[int]:
        """Ours reads all of it, when it reads; how many bytes it delivered in each turn of the loop."""
        seen = [len(self.above.data)]
        for piece in cut(data, READ):
            while not self.raw.is_reading:
                await asyncio.sleep(0)
                seen.append(len(self.above.data))
            self.give(piece)
            seen.append(len(self.above.data))
        for _ in range(3 * len(data) // RECORDS_AT_ONCE + 3):
            seen.append(len(self.above.data))
            if self.raw.is_reading:
                break
            await asyncio.sleep(0)
        return [after - before for before, after in pairwise(seen)]

    def records(self, sizes: list[int]) -> bytes:
        """As many records of the other side as there are sizes."""
        for size in sizes:
            self.peer.write(b"x" * size)
        return self.outgoing.read()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[place : place + size] for place in range(0, len(data), size))


def with_want(advance: Any) -> None:
    try:
        advance()
    except ssl.SSLWantReadError:
        return


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_records_of_one_byte_take_their_turns(certificates: Path, version: ssl.TLSVersion) -> None:
    pair = Pair(certificates, version=version)
    await pair.begin()
    turns = await pair.pour(pair.records([1] * 30_000))
    assert pair.above.data == b"x" * 30_000
    assert max(turns) <= MAX_OF_A_TURN
    assert pair.raw.is_reading
    assert "opened" not in repr(pair.tls)
    assert repr(pair.tls) == "<TlsTransport open waiting=0>"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_servers_certificates_are_read_by_a_thread_however_small(
    certificates: Path, version: ssl.TLSVersion
) -> None:
    """One of 500 bytes, with a curve of its own, took half a second on the loop."""
    pair = Pair(certificates, as_client=True, version=version, is_timeless=True)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    assert "in a thread" not in repr(pair.tls)  # there is nothing of the server's yet
    pair.take()
    with_want(pair.peer.do_handshake)
    flight = pair.outgoing.read()
    hello = 5 + int.from_bytes(flight[3:5])
    pair.give(flight[:hello])
    assert "in a thread" not in repr(pair.tls)
    pair.give(flight[hello:-1])
    assert "in a thread" in repr(pair.tls)
    await pair.quiet()
    assert "in a thread" not in repr(pair.tls)  # of half a record nothing is read
    pair.give(flight[-1:])
    await pair.quiet()
    pair.take()
    with_want(pair.peer.do_handshake)
    pair.give(pair.outgoing.read())
    await pair.quiet()
    assert pair.tls.opened.done()


async def test_whom_the_kernel_no_longer_knows_is_served_as_whom_it_is_for(certificates: Path) -> None:
    """The loop has None for the address of a peer that left before it could ask: a TypeError."""
    pair = Pair(certificates, as_client=True)
    with patch.object(Raw, "get_extra_info", lambda _, name, default=None: None if name == "peername" else default):
        await pair.begin()
    await pair.tls.until_open()


@pytest.mark.parametrize(("version", "steps"), [(ssl.TLSVersion.TLSv1_2, 5), (ssl.TLSVersion.TLSv1_3, 4)])
async def test_what_surely_has_no_certificates_costs_no_thread(
    certificates: Path, version: ssl.TLSVersion, steps: int
) -> None:
    """It were seven and six: for each a thread, and a turn of the loop."""
    pair = Pair(certificates, as_client=True, version=version)
    with patch.object(StepThreads, "begin", autospec=True, side_effect=StepThreads.begin) as begin:
        await pair.begin()
    assert begin.call_count == steps


async def test_the_rest_of_a_certificate_that_looks_like_a_hello_is_read_by_a_thread(certificates: Path) -> None:
    pair = Pair(certificates, as_client=True, version=ssl.TLSVersion.TLSv1_2)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    pair.take()
    with_want(pair.peer.do_handshake)
    flight = pair.outgoing.read()
    rest = b"\x02\x00\x00\x28" + b"x" * 40
    hello = 5 + int.from_bytes(flight[3:5])
    pair.give(flight[:hello] + b"\x16\x03\x03\x00\x04\x0b" + len(rest).to_bytes(3))
    await pair.quiet()
    assert not pair.tls.opened.done()
    pair.give(b"\x16\x03\x03" + len(rest).to_bytes(2) + rest)
    assert "in a thread" in repr(pair.tls)
    await pair.quiet()
    with pytest.raises(ssl.SSLError):
        await pair.tls.until_open()


async def test_of_large_records_a_turn_is_bounded_by_bytes(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    turns = await pair.pour(pair.records([16_384] * 256))
    assert sum(turns) == 256 * 16_384
    assert max(turns) <= MAX_BYTES + READ


def test_whatever_the_records_no_turn_is_longer_and_nothing_is_lost(certificates: Path) -> None:
    sizes = st.lists(st.one_of(st.just(1), st.integers(1, 40), st.integers(1, 16_384)), min_size=1, max_size=40)
    repeated = st.tuples(sizes, st.integers(1, 100)).map(lambda given: given[0] * given[1])

    @settings(max_examples=examples(60), deadline=None)
    @given(repeated, st.lists(st.integers(1, 5000), min_size=1, max_size=30))
    def holds(sizes: list[int], cuts: list[int]) -> None:
        async def check() -> None:
            pair = Pair(certificates)
            await pair.begin()
            sizes_in_turns: list[int] = []
            data = pair.records(sizes)
            places = [*accumulate(cuts, initial=0), len(data)]
            for start, end in pairwise(places):
                sizes_in_turns += await pair.pour(data[start : max(start, end)])
            ends = list(accumulate(sizes))
            assert pair.above.data == b"x" * ends[-1]
            place = 0
            for size in sizes_in_turns:
                assert sum(place < end <= place + size for end in ends) <= MAX_OF_A_TURN
                place += size

        asyncio.run(check())

    holds()


async def test_who_pauses_gets_no_more_and_later_all(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.above.pauses = True
    pair.give(pair.records([1] * 200))
    assert len(pair.above.data) == RECORDS_AT_ONCE
    assert not pair.raw.is_reading
    assert repr(pair.tls).startswith("<TlsTransport open paused waiting=")
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(pair.above.data) == RECORDS_AT_ONCE
    pair.above.pauses = False
    pair.tls.resume_reading()
    assert len(pair.above.data) == RECORDS_AT_ONCE  # not within the call
    await eventually(lambda: pair.raw.is_reading)
    assert pair.above.data == b"x" * 200


async def test_what_is_delivered_once_more_after_a_pause_is_kept(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.above.pauses = True
    pair.give(pair.records([1] * 100))
    pair.give(pair.records([2] * 10))
    pair.above.pauses = False
    pair.tls.resume_reading()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pair.above.data == b"x" * 120


async def test_what_is_written_is_read(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.tls.write(b"")
    pair.tls.writelines([b"a" * 50_000, b"b"])
    pair.take()
    got = b""
    while len(got) < 50_001:
        got += pair.peer.read(65_536)
    assert got == b"a" * 50_000 + b"b"


@pytest.mark.parametrize("as_client", [False, True])
async def test_to_close_says_so_and_a_server_waits_for_the_others_end(certificates: Path, as_client: bool) -> None:
    pair = Pair(certificates, as_client=as_client)
    await pair.begin()
    late = pair.records([5])
    pair.tls.write(b"last")
    pair.tls.close()
    pair.tls.close()
    pair.tls.write(b"dropped")
    pair.take()
    assert pair.peer.read(100) == b"last"
    assert pair.peer.read(100) == b""  # close_notify
    assert pair.raw.calls == (["close"] if as_client else [])
    assert pair.tls.is_closing()
    pair.give(late)
    assert pair.above.data == b""
    assert pair.tls.eof_received() is False
    pair.tls.connection_lost(None)
    assert (pair.above.heard, pair.above.error) == (["made", "lost"], None)


def is_read(pair: Pair) -> bool:
    """Asks anew: mypy takes what an attribute once said for its answer ever after."""
    return pair.raw.is_reading


async def test_what_comes_after_our_end_is_dropped_in_turns(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.tls.close()
    dropped = 0
    while is_read(pair):
        pair.give(bytes(len(pair.tls.get_buffer(-1))))
        dropped += AT_ONCE
        assert not is_read(pair)  # libuv stops here, though there is more
        await steps(3)
    assert dropped == MOST
    assert (pair.above.data, pair.raw.calls) == (b"", [])  # what was written may still be taken


async def test_who_waited_for_a_turn_when_it_was_closed_reads_on_in_it(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.give(pair.records([1] * 9000))
    assert not is_read(pair)
    pair.tls.close()
    await steps(9)
    assert is_read(pair)
    pair.tls.abort()
    assert pair.raw.calls == ["abort"]


async def test_the_others_end_ends_ours(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.peer.write(b"whole")
    with pytest.raises(ssl.SSLWantReadError):
        pair.peer.unwrap()
    pair.give(pair.outgoing.read())
    assert (pair.above.data, pair.raw.calls) == (b"whole", ["close"])
    assert pair.raw.written == b""  # no end of ours, which would say that what we wrote is whole
    pair.tls.connection_lost(None)
    assert pair.above.error is None


@pytest.mark.parametrize(("as_client", "kind"), [(True, ssl.SSLEOFError), (False, type(None))])
async def test_an_end_without_close_notify_may_be_an_attackers(
    certificates: Path, as_client: bool, kind: type[object]
) -> None:
    pair = Pair(certificates, as_client=as_client)
    await pair.begin()
    pair.give(pair.records([9]))
    assert pair.tls.eof_received() is False
    pair.tls.connection_lost(None)
    assert pair.above.heard == ["made", "lost"]
    assert isinstance(pair.above.error, kind)


async def test_a_record_that_was_changed_ends_it_with_an_alert(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    good, bad = pair.records([7]), bytearray(pair.records([7]))
    bad[-1] ^= 1
    pair.give(good + bad + pair.records([7]))
    assert (pair.above.data, pair.raw.calls) == (b"x" * 7, ["close"])
    pair.take()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.peer.read(1)
    pair.tls.connection_lost(None)
    assert isinstance(pair.above.error, ssl.SSLError)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP_REQUEST"),
        (b"\x80\x2e\x01\x03\x03" + bytes(60), "SSL 2"),
        (bytes(40), "WRONG_VERSION"),
        (records(message(groups(FFDHE8192), shares(FFDHE8192))), "none of its groups"),
        (records(message(groups(X25519), shares(FFDHE8192))), "finite field"),
        (records(b"\x01" + vector(3, bytes(9000))), "too long"),
    ],
    ids=["http", "ssl2", "zeros", "ffdhe", "ffdhe-share", "long"],
)
async def test_what_is_no_hello_is_told(certificates: Path, hello: bytes, words: str) -> None:
    pair = Pair(certificates)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    pair.give(hello)
    with pytest.raises(ssl.SSLError, match=words):
        await pair.tls.until_open()
    assert (pair.above.heard, pair.raw.calls) == ([], ["close"])
    pair.tls.connection_lost(None)
    pair.tls.pause_writing()
    pair.tls.resume_writing()
    assert pair.above.heard == []


async def test_a_handshake_has_a_bound(certificates: Path) -> None:
    pair = Pair(certificates)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    with_want(pair.peer.do_handshake)
    pair.give(pair.outgoing.read())
    for _ in range(300):
        pair.give(b"\x14\x03\x03\x00\x01\x01" * 20)  # of no meaning in TLS 1.3, and without end
        await asyncio.sleep(0)
    with pytest.raises(ssl.SSLError):
        await pair.tls.until_open()
    assert pair.raw.calls == ["close"]


@pytest.mark.parametrize(("length", "is_over"), [(3, True), (80, False)])
async def test_a_chain_of_certificates_has_a_bound(
    certificates: Path, tmp_path: Path, length: int, is_over: bool
) -> None:
    authority = trustme.CA()
    client = authority.issue_cert("client@example.com")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(client.cert_chain_pems[0].bytes() + authority.cert_pem.bytes() * (length - 1))
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    pair = Pair(certificates)
    pair.ask(chain, tmp_path / "client.key")
    for _ in range(4):
        pair.take()
        with_want(pair.peer.do_handshake)
        pair.give(pair.outgoing.read())
        for _ in range(length):
            await asyncio.sleep(0)
    if is_over:
        await pair.tls.until_open()
        assert pair.tls.get_extra_info("peercert")
    else:
        with pytest.raises(ssl.SSLError, match="the handshake is too long"):
            await pair.tls.until_open()
        assert (pair.above.heard, pair.raw.calls) == ([], ["close"])


async def test_the_longest_chains_that_honest_clients_have_fit(certificates: Path, tmp_path: Path) -> None:
    """Four certificates of RSA-4096, each with twenty names."""
    key = rsa.generate_private_key(65537, 4096)
    (tmp_path / "client.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    names = [x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"Authority {place}")]) for place in range(5)]
    hosts = x509.SubjectAlternativeName([x509.DNSName(f"service-{place}.tenant.example.com") for place in range(20)])
    now = datetime.now(UTC)
    chain = [
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), now - DAY, now + DAY)
        .add_extension(x509.BasicConstraints(ca=place > 0, path_length=None), critical=True)
        .add_extension(hosts, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        for place, (subject, issuer) in enumerate(pairwise(names))
    ]
    root = x509.CertificateBuilder(names[4], names[4], key.public_key(), 1, now - DAY, now + DAY)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (tmp_path / "root.pem").write_bytes(root.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (tmp_path / "chain.pem").write_bytes(b"".join(chain))
    pair = Pair(certificates)
    pair.ask(tmp_path / "chain.pem", tmp_path / "client.key", tmp_path / "root.pem")
    await complete_handshake(pair)
    await pair.tls.until_open()
    assert pair.tls.get_extra_info("peercert")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_clients_certificates_are_read_by_a_thread_however_small(
    certificates: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    authority = trustme.CA()
    client = authority.issue_cert("client@example.com")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair = Pair(certificates, version=version)
    pair.ask(tmp_path / "client.pem", tmp_path / "client.pem", tmp_path / "ca.pem")
    assert await complete_handshake(pair) == {threading.main_thread().name, "tls"}  # the hello is read by the loop
    await pair.tls.until_open()


async def complete_handshake(pair: Pair) -> set[str]:
    """Both complete the handshake; the names of ours' threads."""
    names, go_on = set[str](), TlsEngine.advance_handshake

    def noting(engine: TlsEngine) -> bool:
        names.add(threading.current_thread().name)
        return go_on(engine)

    with patch.object(TlsEngine, "advance_handshake", noting):
        for _ in range(4):
            pair.take()
            with_want(pair.peer.do_handshake)
            pair.give(pair.outgoing.read())
            await pair.quiet()
    return names


async def in_handshake_with_a_long_chain(certificates: Path, directory: Path, trusts: Path | None = None) -> Pair:
    """A client has sent seven kilobytes of certificates: a thread of ours has the handshake now."""
    authority = trustme.CA()
    client = authority.issue_cert("client@example.com")
    chain = directory / "chain.pem"
    chain.write_bytes(client.cert_chain_pems[0].bytes() + authority.cert_pem.bytes() * 11)
    client.private_key_pem.write_to_path(directory / "client.key")
    pair = Pair(certificates)
    pair.ask(chain, directory / "client.key", trusts)
    for _ in range(100):  # on a busy machine each step may have to wait for its turn
        pair.take()
        with_want(pair.peer.do_handshake)
        pair.give(pair.outgoing.read())
        if "in a thread" not in repr(pair.tls):
            await steps(1)
        if "in a thread" in repr(pair.tls):
            assert not pair.raw.is_reading
            return pair
    raise AssertionError


async def test_a_long_chain_is_read_by_a_thread(certificates: Path, tmp_path: Path) -> None:
    pair = await in_handshake_with_a_long_chain(certificates, tmp_path)
    assert not pair.tls.opened.done()
    async with asyncio.timeout(60.0):
        await pair.tls.until_open()
    assert (pair.above.heard, pair.raw.is_reading, pair.tls.waits) == (["made"], True, False)
    assert pair.tls.get_extra_info("peercert")
    await pair.pour(pair.records([100]))
    assert pair.above.data == b"x" * 100


@pytest.mark.parametrize("way", ["abort", "lost", "cancelled"])
async def test_who_leaves_while_a_thread_reads_is_not_announced(certificates: Path, tmp_path: Path, way: str) -> None:
    pair = await in_handshake_with_a_long_chain(certificates, tmp_path)
    if way == "cancelled":
        pair.tls.opened.cancel()
    elif way == "abort":
        pair.tls.abort()
    else:
        pair.tls.connection_lost(None)
    async with asyncio.timeout(60.0):
        while "in a thread" in repr(pair.tls):  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.001)
    await steps(5)
    assert pair.above.heard == []
    if way == "lost":
        with pytest.raises(ConnectionResetError):
            await pair.tls.until_open()


async def test_a_chain_that_is_none_ends_it_with_an_alert(certificates: Path, tmp_path: Path) -> None:
    pair = await in_handshake_with_a_long_chain(certificates, tmp_path, trusts=certificates / "ca.pem")
    async with asyncio.timeout(60.0):
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            await pair.tls.until_open()
    assert (pair.above.heard, pair.raw.calls) == ([], ["close"])


async def test_a_client_does_not_take_a_stranger_for_the_server(certificates: Path) -> None:
    pair = Pair(certificates, as_client=True, trusts=False)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    pair.take()
    with_want(pair.peer.do_handshake)
    pair.give(pair.outgoing.read())
    with pytest.raises(ssl.SSLCertVerificationError):
        await pair.tls.until_open()
    assert pair.above.heard == []


async def test_who_hangs_up_within_the_handshake_is_told(certificates: Path) -> None:
    pair = Pair(certificates)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    assert pair.tls.eof_received() is False
    pair.tls.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await pair.tls.until_open()


async def test_who_gave_up_before_the_socket_came_closes_it(certificates: Path) -> None:
    pair = Pair(certificates)
    pair.tls.opened.cancel()
    pair.tls.abort()
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    assert pair.raw.calls == ["abort"]
    pair.tls.connection_lost(None)
    assert (pair.above.heard, pair.tls.is_closing(), pair.tls.get_write_buffer_size()) == ([], True, 0)
    assert pair.tls.get_extra_info("peername", "none") == "none"


async def test_a_handshake_that_nobody_waits_for_is_not_announced(certificates: Path) -> None:
    pair = Pair(certificates)
    pair.tls.opened.cancel()
    await pair.begin()
    assert (pair.above.heard, pair.raw.calls) == ([], ["abort"])


async def test_the_rest_is_the_sockets(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.raw.unsent = 77
    pair.tls.set_write_buffer_limits(high=9, low=3)
    pair.tls.pause_writing()
    pair.tls.resume_writing()
    assert pair.raw.calls == ["limits 9 3"]
    assert pair.above.heard == ["made", "pause", "resume"]
    assert pair.tls.get_write_buffer_size() == 77
    assert pair.tls.get_extra_info("peername") == ("192.0.2.1", 7)
    assert pair.tls.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert isinstance(pair.tls.get_extra_info("sslcontext"), ssl.SSLContext)
    assert pair.tls.get_extra_info("peercert") is None
    pair.tls.abort()
    assert pair.raw.calls[-1] == "abort"


@pytest.mark.parametrize(
    ("order", "state"),
    [
        ("k" * 60 + "d", "open"),
        (("k" * 60 + "d") * 20, "closed"),
        ("k" * 100 + "d", "closed"),
        ("d" + "k" * 3000, "closed"),
    ],
    ids=["some", "some-again", "more", "flood"],
)
@pytest.mark.parametrize("each", [True, False], ids=["each", "together"])
async def test_messages_of_tls_itself_are_taken_up_to_a_bound(
    order: str, state: str, each: bool, certificates: Path, tmp_path: Path
) -> None:
    pair = Pair(certificates)
    pair.client.keylog_filename = str(tmp_path / "keys")
    await pair.begin()
    sealing = Sealing(tmp_path / "keys", "CLIENT_TRAFFIC_SECRET_0")
    records = [sealing.key_update() if sort == "k" else sealing.data(b"x") for sort in order]
    for piece in records if each else [b"".join(records)]:
        await pair.pour(piece)
    assert repr(pair.tls).startswith(f"<TlsTransport {state}")
    taken = order if state == "open" else order[: 64 + order[:65].count("d")]  # none that follow are of any use
    assert len(pair.above.data) in {taken.count("d"), taken.rstrip("k").count("d")}
    assert "lost" not in pair.above.heard  # that is the socket's to say


async def test_a_handshake_waits_for_an_iteration_that_has_time_for_it(certificates: Path) -> None:
    pair = Pair(certificates)
    pair.tls.connection_made(pair.raw)  # type: ignore[arg-type] # a transport by what it has
    with_want(pair.peer.do_handshake)
    pair.iteration.add(1.0, 0)
    pair.give(pair.outgoing.read())
    assert (bytes(pair.raw.written), pair.raw.is_reading, pair.tls.waits) == (b"", False, True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert pair.raw.written.startswith(b"\x16\x03\x03")
    assert (pair.raw.is_reading, pair.tls.waits) == (True, False)
    assert pair.tls.waited > 0.0


async def test_it_says_that_something_is_still_to_be_read(certificates: Path) -> None:
    """Also where a turn ends exactly behind what the protocol above waited for."""
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    await pair.pour(pair.records([1]))
    unread = [pair.tls.has_unread]
    most = MAX_CHUNKS // RECORD
    pair.give(pair.records([1] * most))
    unread.append(pair.tls.has_unread)
    for _ in range(3):
        await asyncio.sleep(0)
    unread.append(pair.tls.has_unread)
    assert (len(pair.above.data), unread) == (most + 1, [False, True, False])


async def test_what_is_behind_the_bytes_that_are_given_is_still_to_be_read(certificates: Path) -> None:
    """Also in the very call in which they are given: another exchange may begin in it."""
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    await pair.pour(pair.records([1]))
    unread = list[bool]()
    taken = pair.above.data_received

    def take(data: bytes) -> None:
        unread.append(pair.tls.has_unread)
        taken(data)

    with patch.object(pair.above, "data_received", take):
        await pair.pour(pair.records([1] * (RECORDS_AT_ONCE + 1)))
    assert (unread[0], unread[-1], pair.tls.has_unread) == (True, False, False)


@pytest.mark.parametrize("way", ["close_notify", "changed"])
async def test_an_end_behind_the_bytes_that_are_given_is_still_to_be_read(certificates: Path, way: str) -> None:
    """A connection whose server said in the same step that it closes was used for the next request."""
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    await pair.pour(pair.records([1]))
    unread = list[bool]()
    sent = pair.records([5])
    if way == "changed":
        record = pair.records([5])
        sent += record[:-1] + bytes([record[-1] ^ 1])
    else:
        with_want(pair.peer.unwrap)
        sent += pair.outgoing.read()
    with patch.object(pair.above, "data_received", lambda _: unread.append(pair.tls.has_unread)):
        await pair.pour(sent)
    assert unread == [True]
    assert pair.tls.is_closing()


async def test_half_a_record_is_still_to_be_read(certificates: Path) -> None:
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    record = pair.records([1])
    unread = list[bool]()
    for piece in (record[:3], record[3:9], record[9:]):
        await pair.pour(piece)
        unread.append(pair.tls.has_unread)
    assert unread == [True, True, False]


async def test_it_is_lost_from_then_on_and_not_from_the_turn_on_in_which_that_is_told(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.iteration.add(1.0, 0)
    pair.tls.connection_lost(ConnectionResetError())
    assert ("lost" in pair.above.heard, pair.tls.is_lost) == (False, True)


async def lost_with_an_answer(certificates: Path, answer: bytes, *, says_so: bool = False) -> Pair:
    """A client whose server answered in a full iteration, and broke off before that was read."""
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    for piece in cut(answer, 100):
        pair.peer.write(piece)
    if says_so:
        with_want(pair.peer.unwrap)
    pair.iteration.add(1.0, 0)
    pair.give(pair.outgoing.read())
    assert (pair.above.got, pair.raw.is_reading) == ([], False)
    pair.tls.connection_lost(ConnectionResetError("by peer"))
    return pair


async def test_what_a_server_said_before_it_broke_off_is_read_in_turns(certificates: Path) -> None:
    pair = await lost_with_an_answer(certificates, b"x" * 60_000)
    assert (pair.above.heard, pair.tls.is_closing()) == (["made"], True)
    assert "lost" in repr(pair.tls)
    pair.tls.write(b"nobody gets that")
    seen = []
    while "lost" not in pair.above.heard:
        seen.append(len(pair.above.data))
        await asyncio.sleep(0)
    assert len(pair.above.data) == 60_000
    assert len(set(seen)) > 2  # 600 records are no longer for being the last
    assert pair.above.heard == ["made", "lost"]
    assert isinstance(pair.above.error, ConnectionResetError)


async def test_an_end_that_was_said_before_it_broke_off_counts(certificates: Path) -> None:
    pair = await lost_with_an_answer(certificates, b"an answer that lasts until the end", says_so=True)
    await steps(9)
    assert (pair.above.data, pair.above.heard) == (b"an answer that lasts until the end", ["made", "lost"])
    assert pair.above.error is None


async def test_who_reads_slowly_gets_what_was_said_before_it_broke_off(certificates: Path) -> None:
    pair = await lost_with_an_answer(certificates, b"x" * 20_000)
    pair.above.pauses = True
    await steps(9)
    before = len(pair.above.data)
    assert 0 < before < 20_000
    assert pair.above.heard == ["made"]
    pair.above.pauses = False
    pair.tls.resume_reading()
    await steps(30)
    assert (len(pair.above.data), pair.above.heard) == (20_000, ["made", "lost"])


@pytest.mark.parametrize("way", ["abort", "close"])
async def test_who_wants_no_more_of_it_is_told_once(certificates: Path, way: str) -> None:
    pair = await lost_with_an_answer(certificates, b"x" * 20_000)
    getattr(pair.tls, way)()
    assert pair.above.heard == ["made"]  # not within that call
    await steps(9)
    assert (pair.above.data, pair.above.heard) == (b"", ["made", "lost"])


async def test_what_was_changed_before_it_broke_off_ends_it(certificates: Path) -> None:
    pair = Pair(certificates, as_client=True)
    await pair.begin()
    pair.peer.write(b"x" * 100)
    record = bytearray(pair.outgoing.read())
    record[-1] ^= 1
    pair.iteration.add(1.0, 0)
    pair.give(bytes(record))
    pair.tls.pause_writing()
    pair.tls.connection_lost(ConnectionResetError("by peer"))
    await steps(9)
    assert pair.above.heard == ["made", "pause", "resume", "lost"]
    assert (pair.above.data, isinstance(pair.above.error, ssl.SSLError)) == (b"", True)


async def test_the_ends_of_many_wait_for_an_iteration_that_has_time_for_them(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.iteration.add(1.0, 0)
    pair.tls.connection_lost(None)
    assert (pair.above.heard, pair.tls.is_closing()) == (["made"], True)
    await steps(3)
    assert pair.above.heard == ["made", "lost"]


async def test_a_server_reads_little_at_once_until_it_is_told_more(certificates: Path) -> None:
    pair = Pair(certificates)
    stranger = TlsTransport(pair.server, pair.above, buffers_now(), pair.iteration)
    assert len(stranger.get_buffer(-1)) == 16_384
    stranger.read_much()
    assert len(stranger.get_buffer(-1)) == 262_144
    assert len(Pair(certificates, as_client=True).tls.get_buffer(-1)) == 262_144


async def test_what_nobody_wants_is_read_in_pieces_of_their_own_size(certificates: Path) -> None:
    pair = Pair(certificates)
    await pair.begin()
    pair.tls.close()
    pair.tls.read_much()
    assert len(pair.tls.get_buffer(-1)) == 65_536
