"""Client certificates, on real connections: who is asked, who is believed, and what a changed CA ends."""

import asyncio
import select
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.app import build
from gateway.listener.connection import ClientConnection
from gateway.model.identity import ClientCertificate
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.backend import OK, Backend, Connection, obliging
from tests.support.client import Client
from tests.support.dearcertificates import dear_certificate, show
from tests.support.gateway import Running, Start, client_context, request
from tests.support.waiting import DEADLINE

DONE = "configuration reloaded"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13])
Bearing = Callable[..., ssl.SSLContext]


@pytest.fixture(autouse=True)
def reloads_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.reload.INTERVAL", 60.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Old")


@pytest.fixture(scope="module")
def other() -> trustme.CA:
    return trustme.CA(organization_name="New")


@pytest.fixture
def bundle(tmp_path: Path, authority: trustme.CA) -> Path:
    """The file of tls.client_ca."""
    path = tmp_path / "clients.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def asking(bundle: Path, start: Start) -> Running:
    """A gateway that asks for client certificates."""
    routes = [
        {"name": "result", "methods": ["GET"], "path": "/api/v1/marker/{request_id}"},
        {"name": "other", "methods": ["POST"], "path": "/other"},
    ]
    return await start(tls={"client_ca": str(bundle), "client_certificates": "optional"}, routes=routes)


@pytest.fixture
def bearing(certificates: Path) -> Bearing:
    """Makes what a client uses that has a certificate, or has none."""

    def made(
        leaf: trustme.LeafCert | None = None, version: ssl.TLSVersion = V13, *, pair: Path | None = None
    ) -> ssl.SSLContext:
        context = client_context(certificates)
        context.minimum_version = context.maximum_version = version
        if leaf is not None:
            leaf.configure_cert(context)
        if pair is not None:
            context.load_cert_chain(pair.with_suffix(".pem"), pair.with_suffix(".key"))
        return context

    return made


def connections(gateway: Running) -> list[ClientConnection]:
    return gateway.gateway.listeners.connections.all()


async def certificate_seen(gateway: Running, context: ssl.SSLContext) -> ClientCertificate | None:
    """What the gateway knows of a client that it serves."""
    async with await gateway.connect(context=context) as client:
        assert (await client.ask(request())).status == 200
        (connection,) = connections(gateway)
        seen = connection.peer.certificate
    await no_connections(gateway)
    return seen


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not is_true():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


async def no_connections(gateway: Running) -> None:
    await until(lambda: not gateway.gateway.listeners.public.connections)


async def is_refused(gateway: Running, context: ssl.SSLContext) -> None:
    """Asserts that the handshake fails. In TLS 1.3 the client learns it only when it reads."""
    before = gateway.metric("gateway_connections_refused_total", why="handshake")
    with suppress(ssl.SSLError, ConnectionError):
        client = await gateway.connect(context=context)
        client.send(request())
        await client.is_closed()
    await no_connections(gateway)
    assert gateway.metric("gateway_connections_refused_total", why="handshake") == before + 1
    assert gateway.counted() == 0


async def alert_of(gateway: Running, context: ssl.SSLContext) -> str:
    """The alert that a client gets whose certificate is refused."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.port, ssl=context, server_hostname="localhost"
    )
    try:
        writer.write(request())
        await reader.read()
    except ssl.SSLError as error:
        return str(error.reason)
    finally:
        writer.transport.abort()
    return "none"


@pytest.mark.parametrize(
    ("kind", "alert", "why"),
    [
        ("expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "certificate has expired"),
        ("other", "TLSV1_ALERT_UNKNOWN_CA", "unable to get local issuer certificate"),
    ],
)
async def test_a_refused_certificate_gets_an_alert_and_an_event(
    asking: Running, authority: trustme.CA, other: trustme.CA, bearing: Bearing, kind: str, alert: str, why: str
) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    expired = authority.issue_cert("batch.test", not_before=past - timedelta(days=1), not_after=past)
    assert await alert_of(asking, bearing(expired if kind == "expired" else other.issue_cert("batch.test"))) == alert
    event = await asking.says("client certificate refused")
    assert (event["why"], event["peer"], event["level"]) == (why, "127.0.0.1", "info")


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def reloaded(gateway: Running, count: int = 1) -> None:
    gateway.gateway.reloader.force()
    await gateway.says(DONE, count)


# Who is asked, and who is believed


@VERSIONS
async def test_a_client_is_known_by_the_names_of_its_certificate(
    asking: Running, authority: trustme.CA, bearing: Bearing, version: ssl.TLSVersion
) -> None:
    leaf = authority.issue_cert("Batch.test", "batch@site.test", common_name="Batch")
    expected = ClientCertificate(dns=("batch.test",), email=("batch@site.test",), cn=("Batch",))
    assert await certificate_seen(asking, bearing(leaf, version)) == expected
    assert await certificate_seen(asking, bearing(None, version)) is None


async def test_nobody_is_asked_when_certificates_are_off(
    bundle: Path, start: Start, authority: trustme.CA, bearing: Bearing
) -> None:
    gateway = await start(tls={"client_ca": str(bundle)})
    assert await certificate_seen(gateway, bearing(authority.issue_cert("batch.test"))) is None


async def test_required_asks_in_the_handshake_and_refuses_nobody_there(
    bundle: Path, start: Start, authority: trustme.CA, bearing: Bearing
) -> None:
    """So that who has none gets an answer: the handler's 401."""
    gateway = await start(tls={"client_ca": str(bundle), "client_certificates": "required"})
    async with await gateway.connect(context=bearing(authority.issue_cert("batch.test"))) as client:
        assert (await client.ask(request())).status == 200
    async with await gateway.connect() as client:
        assert (await client.ask(request())).status in {200, 401}


@VERSIONS
async def test_a_certificate_of_another_ca_is_refused(
    asking: Running, other: trustme.CA, bearing: Bearing, version: ssl.TLSVersion
) -> None:
    await is_refused(asking, bearing(other.issue_cert("batch.test"), version))


@VERSIONS
async def test_a_certificate_out_of_its_time_is_refused(
    asking: Running, authority: trustme.CA, bearing: Bearing, version: ssl.TLSVersion
) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    leaf = authority.issue_cert("batch.test", not_before=past - timedelta(days=1), not_after=past)
    await is_refused(asking, bearing(leaf, version))


async def test_a_connection_ends_with_the_certificate_that_it_was_made_with(
    start: Start, tmp_path: Path, authority: trustme.CA, bearing: Bearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later:
        """The time module as build.py sees it, two hours on; OpenSSL sees today's."""

        monotonic, perf_counter = time.monotonic, time.perf_counter

        @staticmethod
        def time() -> float:
            return time.time() + 7200

    monkeypatch.setattr(build, "time", Later)
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    gateway = await start(tls={"client_ca": f"{tmp_path}/ca.pem", "client_certificates": "optional"})
    ends = datetime.now(UTC) + timedelta(hours=1)
    ended = await gateway.connect(context=bearing(authority.issue_cert("batch.test", not_after=ends)))
    stands = await gateway.connect(context=bearing(authority.issue_cert("batch.test")))
    await ended.is_closed()
    assert (await stands.ask(request())).status == 200


@VERSIONS
async def test_a_servers_certificate_is_no_clients(
    tmp_path: Path, start: Start, bearing: Bearing, version: ssl.TLSVersion
) -> None:
    """One CA for both, and its server's key is stolen: extendedKeyUsage is what keeps it from being a client."""
    make_development_certificates(tmp_path / "dev", ["localhost"], ["Batch.test", "me@a.test"])
    gateway = await start(tls={"client_ca": f"{tmp_path}/dev/ca.pem", "client_certificates": "optional"})
    await is_refused(gateway, bearing(version=version, pair=tmp_path / "dev" / "server"))
    by_name = {
        "Batch.test": ClientCertificate(dns=("batch.test",), cn=("Batch.test",)),
        "me@a.test": ClientCertificate(email=("me@a.test",), cn=("me@a.test",)),
    }
    for name, expected in by_name.items():
        context = bearing(version=version)
        context.load_cert_chain(tmp_path / "dev" / f"{name}.pem", tmp_path / "dev" / f"{name}.key")
        assert await certificate_seen(gateway, context) == expected


async def test_a_certificate_whose_names_are_no_text_is_refused_like_any_other(
    asking: Running, authority: trustme.CA, bearing: Bearing, tmp_path: Path
) -> None:
    """Python's ssl raises UnicodeDecodeError for it, in the middle of the loop's handshake."""
    leaf = authority.issue_cert("batch.test")
    like = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    builder = x509.CertificateBuilder(
        like.issuer, like.subject, like.public_key(), 7, like.not_valid_before_utc, like.not_valid_after_utc
    )
    for extension in like.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            value = x509.UnrecognizedExtension(extension.oid, b"\x30\x04\x86\x02\xff\xfe")
        builder = builder.add_extension(value, extension.critical)
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    odd = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type] # trustme's is an EC key
    (tmp_path / "odd.pem").write_bytes(odd.public_bytes(Encoding.PEM))
    leaf.private_key_pem.write_to_path(tmp_path / "odd.key")
    loop, told = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    await is_refused(asking, bearing(pair=tmp_path / "odd"))
    assert [type(error) for error in told] in ([], [UnicodeDecodeError])
    assert await certificate_seen(asking, bearing()) is None


async def test_the_proxy_header_names_the_address_and_tls_the_certificate(
    bundle: Path, start: Start, authority: trustme.CA, bearing: Bearing
) -> None:
    gateway = await start(
        tls={"client_ca": str(bundle), "client_certificates": "optional"},
        listen={"proxy_protocol": True},
        network={"allow": ["192.0.2.0/24"], "trusted_proxies": ["127.0.0.1/32"]},
    )
    context = bearing(authority.issue_cert("batch.test"))
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
    async with await gateway.connect(before=header, context=context) as client:
        assert (await client.ask(request())).status == 200
        (connection,) = connections(gateway)
        assert (str(connection.peer.ip), connection.peer.port) == ("192.0.2.7", 4711)
        assert connection.peer.certificate is not None
        assert connection.peer.certificate.dns == ("batch.test",)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@VERSIONS
async def test_a_ca_made_by_plain_openssl_is_believed(
    start: Start, bearing: Bearing, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """It has no key usage; and what it signs without extensions has no purpose that could be the wrong one."""

    def openssl(*arguments: str) -> None:
        command = ("openssl", *arguments)
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=DEADLINE)  # noqa: S603

    new_key = ("-newkey", "rsa:2048", "-nodes", "-subj")
    for name in ("clients", "others"):
        openssl("req", "-x509", *new_key, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl("req", *new_key, "/CN=batch", "-keyout", f"of-{name}.key", "-out", "batch.csr")
        signing = ("-CA", f"{name}.pem", "-CAkey", f"{name}.key", "-CAcreateserial", "-out", f"of-{name}.pem")
        openssl("x509", "-req", "-in", "batch.csr", *signing)
    gateway = await start(tls={"client_ca": str(tmp_path / "clients.pem"), "client_certificates": "optional"})
    seen = await certificate_seen(gateway, bearing(version=version, pair=tmp_path / "of-clients"))
    assert seen == ClientCertificate(cn=("batch",))
    with suppress(ssl.SSLError, ConnectionError):
        client = await gateway.connect(context=bearing(version=version, pair=tmp_path / "of-others"))
        client.send(request())
        await client.is_closed()
    assert gateway.counted() == 1


# No resumption


@VERSIONS
@pytest.mark.parametrize("tickets", [True, False])
async def test_no_session_is_resumed(
    asking: Running, authority: trustme.CA, bearing: Bearing, version: ssl.TLSVersion, tickets: bool
) -> None:
    context = bearing(authority.issue_cert("batch.test"), version)
    if not tickets:
        context.options |= ssl.OP_NO_TICKET

    def ask(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        with (
            socket.create_connection(("127.0.0.1", asking.port), timeout=DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
        ):
            secured.sendall(request(close=True))
            while secured.recv(65536):
                pass
            return secured.session, bool(secured.session_reused)

    session, _ = await asyncio.to_thread(ask, None)
    assert session is not None
    assert not session.has_ticket
    _, was_resumed = await asyncio.to_thread(ask, session)
    assert not was_resumed
    await asking.finished(2)


# Another CA


async def without_sni(gateway: Running, context: ssl.SSLContext) -> Client:
    """A client that asks for no name: TLS has none for addresses."""
    made = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context, server_hostname="127.0.0.1")
    return Client(*made)


@VERSIONS
@pytest.mark.parametrize("sni", [True, False])
async def test_after_a_reload_the_new_ca_is_believed_and_the_old_one_is_not(
    asking: Running,
    bundle: Path,
    authority: trustme.CA,
    other: trustme.CA,
    bearing: Bearing,
    version: ssl.TLSVersion,
    sni: bool,
) -> None:
    old, new = (bearing(ca.issue_cert("batch.test"), version) for ca in (authority, other))

    async def is_served(context: ssl.SSLContext) -> bool:
        try:
            client = await (asking.connect(context=context) if sni else without_sni(asking, context))
        except (ssl.SSLError, ConnectionError):
            return False
        async with client:
            client.send(request(close=True))
            return b"200" in (await client.rest())[:15]

    assert [await is_served(context) for context in (old, new)] == [True, False]
    other.cert_pem.write_to_path(bundle)
    await reloaded(asking)
    assert [await is_served(context) for context in (old, new)] == [False, True]
    write(bundle, authority.cert_pem.bytes() + other.cert_pem.bytes())
    await reloaded(asking, 2)
    assert [await is_served(context) for context in (old, new)] == [True, True]


async def test_a_bundle_that_can_not_be_used_changes_nothing(
    asking: Running, bundle: Path, authority: trustme.CA, bearing: Bearing
) -> None:
    client = await asking.connect(context=bearing(authority.issue_cert("batch.test")))
    assert (await client.ask(request())).status == 200
    write(bundle, b"nonsense")
    asking.gateway.reloader.force()
    event = await asking.says("reload refused, the old configuration stays in force")
    assert event["faults"] == [f"tls.client_ca: {bundle} holds no PEM certificate"]
    assert (await client.ask(request())).status == 200


@pytest.fixture
def change_ca(asking: Running, bundle: Path, other: trustme.CA) -> Callable[[], Any]:
    async def change() -> None:
        other.cert_pem.write_to_path(bundle)
        await reloaded(asking)

    return change


@pytest.mark.parametrize("shows_one", [True, False])
async def test_a_changed_ca_closes_what_is_idle(
    asking: Running, authority: trustme.CA, bearing: Bearing, change_ca: Callable[[], Any], shows_one: bool
) -> None:
    leaf = authority.issue_cert("batch.test") if shows_one else None
    used, unused, within_head = [await asking.connect(context=bearing(leaf)) for _ in range(3)]
    assert (await used.ask(request())).status == 200
    within_head.send(request()[:-2])
    await until(
        lambda: [" head " in repr(c) for c in connections(asking)].count(True) == 1 and len(connections(asking)) == 3
    )
    await change_ca()
    for client in (used, unused, within_head):
        await client.is_closed()
    assert asking.counted() == 1


async def test_a_busy_connection_ends_after_its_present_answer(
    asking: Running, backend: Backend, authority: trustme.CA, bearing: Bearing, change_ca: Callable[[], Any]
) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await asking.connect(context=bearing(authority.issue_cert("batch.test")))
    client.send(request("POST", "/other", "Content-Length: 10") + b"hello")
    await backend.connected()
    await change_ca()
    client.send(b"world" + request() + request())
    await backend.got(1)
    answers.set()
    assert (await client.response(b"POST")).status == 200
    await client.is_closed()
    await asking.finished(1)
    assert len(backend.requests) == 1


@VERSIONS
@pytest.mark.parametrize("stays", [True, False])
async def test_what_waits_loses_its_identity_with_the_ca_that_signed_for_it(
    bundle: Path,
    start: Start,
    backend: Backend,
    authority: trustme.CA,
    other: trustme.CA,
    bearing: Bearing,
    version: ssl.TLSVersion,
    stays: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its CA may be gone because it signed for strangers; one that stays beside a new one still stands for it."""
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    gateway = await start(
        tls={"client_ca": str(bundle), "client_certificates": "optional"},
        authentication={"certificates": {"identity": "dns", "profile": "default"}},
        profiles={"default": {}},
    )
    backend.script = script
    gateway.own("job-1", "cert:batch.test")
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)  # else one that is a second old
    client = await gateway.connect(context=bearing(authority.create_child_ca().issue_cert("batch.test"), version))
    client.send(request(key=None))
    await backend.connected()
    write(bundle, other.cert_pem.bytes() + (authority.cert_pem.bytes() if stays else b""))
    await reloaded(gateway)
    answers.set()
    answer = await client.response()
    if stays:
        assert answer.status == 200
    else:
        answer.is_refusal(401, "unauthenticated")
    await client.is_closed()


async def test_an_upload_under_way_keeps_all_its_bytes_when_the_cas_change(
    asking: Running, backend: Backend, authority: trustme.CA, bearing: Bearing, change_ca: Callable[[], Any]
) -> None:
    body = bytes(range(256)) * 1024  # enough to go past the parser
    client = await asking.connect(context=bearing(authority.issue_cert("batch.test")))
    client.send(request("POST", "/other", f"Content-Length: {len(body)}") + body[:1000])
    backend_connection = await backend.connected()
    await backend_connection.has(1000)
    client.send(body[1000:60_000])  # past the parser
    await backend_connection.has(60_000)
    await change_ca()
    client.send(body[60_000:] + request())
    assert (await client.response(b"POST")).status == 200
    await client.is_closed()
    assert [arrived.body for arrived in backend.requests] == [body]


async def test_the_same_cas_written_differently_end_nothing(
    asking: Running, bundle: Path, authority: trustme.CA, bearing: Bearing
) -> None:
    client = await asking.connect(context=bearing(authority.issue_cert("batch.test")))
    assert (await client.ask(request())).status == 200
    pem = authority.cert_pem.bytes()
    write(bundle, b"# the clients' CA\n" + pem + pem)
    await reloaded(asking)
    assert (await client.ask(request())).status == 200


def answered(strangers: list[socket.socket]) -> int:
    """How many of them the gateway has told what it thinks of their certificates."""
    return len(select.select(strangers, [], [], 0.0)[0])


async def test_strangers_with_dear_certificates_do_not_keep_others_out(
    asking: Running, authority: trustme.CA, bearing: Bearing
) -> None:
    """One thread read them all, one after the other, and none can be stopped: 17 KB of them took it 25 seconds."""
    dear, most = [dear_certificate()] * 2, 8
    strangers = [
        await asyncio.to_thread(show, asking.port, dear, f"127.0.0.{place}")
        for place in (*range(2, 2 + most), *(2,) * most)  # one address has many, which wait for each other
    ]
    try:
        context = bearing(authority.issue_cert("batch.test"))
        async with await asking.connect(context=context) as client:
            assert (await client.ask(request())).status == 200
        assert answered(strangers) < most
    finally:
        for stranger in strangers[most:]:
            stranger.close()  # what waits runs no more
        async with asyncio.timeout(60.0):
            while answered(strangers[:most]) < most:  # noqa: ASYNC110 -- no thread outlasts this test
                await asyncio.sleep(0.05)
        for stranger in strangers:
            stranger.close()


async def read_through(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: Client) -> bytes:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return tls.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(await plain.reader.read(65536))


async def test_a_handshake_that_the_change_overtakes_brings_no_request_through(
    asking: Running, authority: trustme.CA, bearing: Bearing, change_ca: Callable[[], Any]
) -> None:
    context = bearing(authority.issue_cert("batch.test"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    plain = await Client.connect(asking.port, None)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    plain.send(outgoing.read())
    incoming.write(await plain.reader.read(65536))  # the server's flight: it has chosen its CA by now
    await change_ca()
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            incoming.write(await plain.reader.read(65536))
    tls.write(request())
    plain.send(outgoing.read())
    assert await read_through(tls, incoming, plain) == b""
    plain.abort()
    await no_connections(asking)
    assert asking.counted() == 0
