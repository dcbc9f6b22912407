import ssl
import subprocess
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from gateway.config.settings import CertificatePair
from gateway.errors import SetupError
from gateway.tls.client_ca import ClientCa
from gateway.tls.contexts import (
    MOST_CONTEXTS,
    SESSION_SECONDS,
    Certificates,
    LoadedPair,
    base_context,
    fingerprint,
    hosts_in,
    hosts_of,
    load_pair,
    load_pairs,
    names_of,
)
from tests.support.pure import make_settings

Issue = Callable[..., CertificatePair]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def issue(authority: trustme.CA, tmp_path: Path) -> Issue:
    """Writes a pair for some names into files of its own."""

    def issued(
        *names: str, by: trustme.CA = authority, not_after: datetime | None = None, not_before: datetime | None = None
    ) -> CertificatePair:
        leaf = by.issue_cert(*names, not_after=not_after, not_before=not_before)
        number = len(list(tmp_path.glob("*.pem")))
        certificate, key = tmp_path / f"{number}.pem", tmp_path / f"{number}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return CertificatePair(certificate=certificate, private_key=key)

    return issued


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def shake_hands(
    server_context: ssl.SSLContext,
    context: ssl.SSLContext,
    name: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A whole handshake in memory: the client's end and the server's.

    Raises:
        ssl.SSLError: of the end that fails first.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    for end in (client, server) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == server.version()
    return client, server


def names_shown(certificates: Certificates, authority: trustme.CA, name: str | None) -> tuple[str, ...]:
    """The names of the certificate that a client gets who asks for this one."""
    context = client_context(authority)
    context.check_hostname = False
    client, _ = shake_hands(certificates.listener_context, context, name)
    shown = client.getpeercert()
    assert shown is not None
    return tuple(str(entry[1]) for entry in shown["subjectAltName"])


# Loading


def test_a_good_pair_knows_its_names_and_its_end(issue: Issue) -> None:
    end = datetime(2038, 1, 1, 12, tzinfo=UTC)
    loaded = load_pair(issue("A.test", "*.b.test", "127.0.0.1", not_after=end), "intermediate")
    assert loaded.names == ("a.test", "*.b.test")
    assert loaded.not_after == end


def test_a_mismatched_pair_is_told(issue: Issue) -> None:
    one, two = issue("a.test"), issue("a.test")
    mixed = CertificatePair(certificate=one.certificate, private_key=two.private_key)
    with pytest.raises(SetupError) as caught:
        load_pair(mixed, "intermediate")
    assert str(caught.value) == f"{two.private_key} is not the key of {one.certificate}"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_told_and_nobody_is_asked_for_its_password(issue: Issue, form: PrivateFormat) -> None:
    pair = issue("a.test")
    key = load_pem_private_key(pair.private_key.read_bytes(), None)
    pair.private_key.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
    with pytest.raises(SetupError) as caught:
        load_pair(pair, "intermediate")
    told = "the key is encrypted; store it decrypted, readable by the gateway alone"
    assert str(caught.value) == f"{pair.private_key} can't be used: {told}"


def test_a_certificate_out_of_its_time_is_told(issue: Issue) -> None:
    now = datetime.now(UTC)
    past, future = now - timedelta(days=2), now + timedelta(days=2)
    expired = issue("a.test", not_before=past - timedelta(days=1), not_after=past)
    with pytest.raises(SetupError) as caught:
        load_pair(expired, "intermediate")
    assert str(caught.value) == f"{expired.certificate} expired on {past:%Y-%m-%d %H:%M} UTC"
    early = issue("a.test", not_before=future)
    with pytest.raises(SetupError) as caught:
        load_pair(early, "intermediate")
    assert str(caught.value) == f"{early.certificate} is valid only from {future:%Y-%m-%d %H:%M} UTC"


def test_files_that_have_gone_are_told(issue: Issue) -> None:
    pair = issue("a.test")
    pair.private_key.unlink()
    with pytest.raises(SetupError, match=rf"^{pair.private_key} can't be read: No such file"):
        load_pair(pair, "intermediate")
    pair.certificate.unlink()
    with pytest.raises(SetupError) as caught:
        load_pair(pair, "intermediate")
    assert str(caught.value) == f"{pair.certificate} can't be read: No such file or directory"


def test_files_that_hold_something_else_are_told(issue: Issue) -> None:
    pair = issue("a.test")
    for content in (
        b"",
        b"no certificate",
        pair.private_key.read_bytes(),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ):
        certificate = pair.certificate.with_name("other.pem")
        certificate.write_bytes(content)
        with pytest.raises(SetupError) as caught:
            load_pair(CertificatePair(certificate=certificate, private_key=pair.private_key), "intermediate")
        instead = ", but a private key" if b"PRIVATE KEY" in content else ""
        assert str(caught.value) == f"{certificate} holds no PEM certificate{instead}"
    for content in (b"", b"no key", pair.certificate.read_bytes()):
        pair.private_key.write_bytes(content)
        with pytest.raises(SetupError) as caught:
            load_pair(pair, "intermediate")
        assert str(caught.value) == f"{pair.private_key} can't be used: it holds no PEM private key"


def test_a_key_that_is_too_weak_is_told(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- that is the point
    with pytest.raises(SetupError, match=r"can't be used: EE_KEY_TOO_SMALL$"):
        load_pair(self_signed(tmp_path, key), "intermediate")


def self_signed(
    directory: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, common: str = "no name"
) -> CertificatePair:
    """A pair with a common name alone: no SubjectAlternativeName."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
    )
    certificate, private_key = directory / "nameless.pem", directory / "nameless.key"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return CertificatePair(certificate=certificate, private_key=private_key)


@pytest.mark.parametrize(
    ("common", "hosts"),
    [
        ("Localhost", ["localhost"]), ("gateway.example", ["gateway.example"]), ("10.0.0.7", ["10.0.0.7"]),
        ("My gateway", []), ("*.example", []), ("a/b", []), ("évil.example", []),
    ],
)  # fmt: skip
def test_a_certificate_without_names_has_the_host_of_its_common_name(
    tmp_path: Path, common: str, hosts: list[str]
) -> None:
    """As `openssl req -x509 -subj /CN=localhost` makes it: every submit was a 421 without a word of why."""
    made = self_signed(tmp_path, ec.generate_private_key(ec.SECP256R1()), common)
    pair = load_pair(made, "modern")
    assert (pair.names, names_of([pair]), hosts_of([pair]), hosts_in(made.certificate)) == ((), [], hosts, hosts)


def test_a_common_name_beside_names_is_no_host(issue: Issue) -> None:
    pair = issue("a.test")
    loaded = replace(load_pair(pair, "modern"), common_name="b.test")
    assert hosts_of([loaded]) == ["a.test"] == hosts_in(pair.certificate)


def test_a_certificate_without_names_is_shown_to_who_asks_for_its_common_name(issue: Issue, tmp_path: Path) -> None:
    """OpenSSL, and so Python and curl, trust such a name; the host counted as ours, and got another's certificate."""
    named = load_pair(self_signed(tmp_path, ec.generate_private_key(ec.SECP256R1()), "b.test"), "intermediate")
    certificates = Certificates([load_pair(issue("a.test"), "intermediate"), named], "intermediate")
    context = ssl.create_default_context(cafile=str(tmp_path / "nameless.pem"))
    client, _ = shake_hands(certificates.for_handshake(), context, "b.test")
    assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert((tmp_path / "nameless.pem").read_text())


def test_loads_every_pair_of_the_configuration_the_default_first(issue: Issue, tmp_path: Path) -> None:
    pairs = [issue(name) for name in ("a.test", "b.test", "c.test")]
    first, *more = [{"certificate": str(pair.certificate), "private_key": str(pair.private_key)} for pair in pairs]
    settings = make_settings(tmp_path, tls={**first, "certificates": more})
    assert [pair.names for pair in load_pairs(settings)] == [("a.test",), ("b.test",), ("c.test",)]
    pairs[1].private_key.write_bytes(pairs[2].private_key.read_bytes())
    with pytest.raises(SetupError, match="is not the key of"):
        load_pairs(settings)


# Which certificate


@pytest.fixture
def certificates(issue: Issue) -> Certificates:
    pairs = [issue("default.test"), issue("a.test", "*.a.test"), issue("b.a.test"), issue("a.test", "late.test")]
    return Certificates([load_pair(pair, "intermediate") for pair in pairs], "intermediate")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("default.test", ("default.test",)),
        ("a.test", ("a.test", "*.a.test")),  # two have it: the first in the configuration
        ("A.TEST", ("a.test", "*.a.test")),
        ("x.a.test", ("a.test", "*.a.test")),
        ("X.a.Test", ("a.test", "*.a.test")),
        ("b.a.test", ("b.a.test",)),  # its own name before a wildcard
        ("x.b.a.test", ("default.test",)),  # a wildcard is for one label
        ("late.test", ("a.test", "late.test")),
        ("late.test.", ("a.test", "late.test")),  # one final dot, as resolvers write it
        ("x.a.test.", ("a.test", "*.a.test")),
        ("unknown.test", ("default.test",)),
        ("test", ("default.test",)),
        (None, ("default.test",)),
    ],
)
def test_the_name_that_a_client_asks_for_chooses(
    certificates: Certificates, authority: trustme.CA, asked: str | None, shown: tuple[str, ...]
) -> None:
    assert names_shown(certificates, authority, asked) == shown


def test_the_whole_chain_is_sent(authority: trustme.CA, issue: Issue) -> None:
    pair = load_pair(issue("a.test", by=authority.create_child_ca()), "intermediate")
    client, _ = shake_hands(
        Certificates([pair], "intermediate").listener_context, client_context(authority), "a.test"
    )
    assert client.getpeercert()


def test_a_swap_is_for_the_next_handshake_and_connections_that_stand_keep_theirs(
    certificates: Certificates, authority: trustme.CA, issue: Issue
) -> None:
    context = client_context(authority)
    client, server = shake_hands(certificates.listener_context, context, "default.test")
    listener = certificates.listener_context
    new = issue("new.test", "default.test")
    certificates.swap([load_pair(new, "intermediate")])
    assert certificates.listener_context is listener
    assert names_shown(certificates, authority, "default.test") == ("new.test", "default.test")
    assert names_shown(certificates, authority, "a.test") == ("new.test", "default.test")
    client.write(b"still here")
    assert server.read() == b"still here"
    assert client.getpeercert()["subjectAltName"] == (("DNS", "default.test"),)  # type: ignore[index]


def test_tells_when_the_first_of_them_ends(issue: Issue) -> None:
    ends = [datetime(year, 1, 1, tzinfo=UTC) for year in (2038, 2036, 2037)]
    certificates = Certificates([load_pair(issue("a.test", not_after=end), "modern") for end in ends], "modern")
    assert certificates.not_after_timestamp() == ends[1].timestamp()
    certificates.swap([load_pair(issue("a.test", not_after=ends[2]), "modern")])
    assert certificates.not_after_timestamp() == ends[2].timestamp()


# Profiles


@pytest.fixture
def good(issue: Issue) -> CertificatePair:
    return issue("a.test")


def listener(pair: CertificatePair, profile: str) -> ssl.SSLContext:
    return Certificates([load_pair(pair, profile)], profile).listener_context


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_tls_1_3_and_http_1_1_alone_are_agreed(good: CertificatePair, authority: trustme.CA, profile: str) -> None:
    context = client_context(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client, server = shake_hands(listener(good, profile), context, "a.test")
    assert (client.version(), client.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
    assert (server.compression(), server.selected_alpn_protocol()) == (None, "http/1.1")


def test_a_client_of_another_protocol_gets_none(good: CertificatePair, authority: trustme.CA) -> None:
    context = client_context(authority)
    context.set_alpn_protocols(["h2"])
    client, _ = shake_hands(listener(good, "intermediate"), context, "a.test")
    assert client.selected_alpn_protocol() is None


def test_intermediate_takes_tls_1_2_with_forward_secrecy(good: CertificatePair, authority: trustme.CA) -> None:
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client, _ = shake_hands(listener(good, "intermediate"), context, "a.test")
    cipher = client.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")
    assert client.version() == "TLSv1.2"


def test_modern_refuses_tls_1_2(good: CertificatePair, authority: trustme.CA) -> None:
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(listener(good, "modern"), context, "a.test")
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_no_profile_takes_less_than_tls_1_2(
    good: CertificatePair, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = client_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(listener(good, "intermediate"), context, "a.test")
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize(
    "cipher",
    [
        "AES128-GCM-SHA256",
        "AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "DHE-RSA-AES128-GCM-SHA256",
    ],
)
def test_no_cipher_without_forward_secrecy_or_aead(good: CertificatePair, authority: trustme.CA, cipher: str) -> None:
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError) as caught:
        shake_hands(listener(good, "intermediate"), context, "a.test")
    assert caught.value.reason == "NO_SHARED_CIPHER"


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_a_context_allows_no_more_than_its_profile(profile: str) -> None:
    context = base_context(profile)
    assert (
        context.minimum_version == {"intermediate": ssl.TLSVersion.TLSv1_2, "modern": ssl.TLSVersion.TLSv1_3}[profile]
    )
    assert context.maximum_version in {ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3}
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert context.options & option
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert all(cipher["aead"] for cipher in context.get_ciphers())
    assert context.verify_mode == ssl.CERT_NONE


def test_a_connection_cut_off_is_no_polite_end(good: CertificatePair, authority: trustme.CA) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = listener(good, "intermediate").wrap_bio(incoming, outgoing, server_side=True)
    client = client_context(authority).wrap_bio(outgoing, incoming, server_hostname="a.test")
    for end in (client, server) * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    incoming.write_eof()
    with pytest.raises(ssl.SSLError) as caught:
        server.read()
    assert caught.value.reason == "UNEXPECTED_EOF_WHILE_READING"


# Client certificates


@pytest.fixture
def asking(issue: Issue, authority: trustme.CA) -> Certificates:
    """The pairs of a listener that believes the same CA's clients."""
    return Certificates(asking_pairs(issue, authority), "intermediate")


def asking_pairs(issue: Issue, believed: trustme.CA) -> list[LoadedPair]:
    client_ca = client_ca_of(believed)
    return [load_pair(issue(name), "intermediate", client_ca) for name in ("default.test", "a.test")]


def client_ca_of(believed: trustme.CA) -> ClientCa:
    der = ssl.PEM_cert_to_DER_cert(believed.cert_pem.bytes().decode())
    return ClientCa((der,), frozenset({sha256(der).digest()}))


def bearer(authority: trustme.CA, by: trustme.CA | None = None) -> ssl.SSLContext:
    context = client_context(authority)
    context.check_hostname = False
    (by or authority).issue_cert("client.test").configure_cert(context)
    return context


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_without_client_cas_nobody_is_asked_and_all_handshakes_begin_with_one_context(
    good: CertificatePair, authority: trustme.CA, profile: str
) -> None:
    certificates = Certificates([load_pair(good, profile)] * 2, profile)
    assert certificates.client_ca is None
    assert certificates.for_handshake() is certificates.for_handshake() is certificates.listener_context
    assert certificates.listener_context.verify_mode == ssl.CERT_NONE
    assert certificates.listener_context.num_tickets == 1
    assert not certificates.listener_context.options & ssl.OP_NO_TICKET
    _, server = shake_hands(certificates.listener_context, bearer(authority), "a.test")
    assert not server.getpeercert()


def test_where_one_certificate_serves_all_no_handshake_is_handed_on(
    good: CertificatePair, authority: trustme.CA, issue: Issue
) -> None:
    """A callback in Python for nothing costs each handshake 8 us."""
    first = load_pair(good, "intermediate")
    certificates = Certificates([first], "intermediate")
    assert certificates.for_handshake() is first.context
    assert certificates.for_handshake().sni_callback is None
    context = bearer(authority)
    client, server = shake_hands(certificates.for_handshake(), context, "a.test")
    assert not server.getpeercert()
    server.write(b"x")
    client.read()  # and the ticket before it
    _, again = shake_hands(certificates.for_handshake(), context, "a.test", client.session)
    assert again.session_reused
    second, third = (load_pair(issue(name), "intermediate") for name in ("b.test", "c.test"))
    certificates.swap([second])
    assert certificates.for_handshake() is second.context
    certificates.swap([second, third])
    assert certificates.for_handshake() is certificates.listener_context


@pytest.mark.parametrize("names", [["a.test"], ["a.test", "b.test"]])
@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_context_keeps_more_than_some_sessions_that_would_all_be_let_go_at_once(
    authority: trustme.CA,
    issue: Issue,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    version: ssl.TLSVersion,
    tickets: bool,
) -> None:
    """20,480 of clients without tickets took 7 to 17 ms, in a reload or in the handshake in which they ended."""
    monkeypatch.setattr("gateway.tls.contexts.MOST_SESSIONS", 3)
    pairs = [load_pair(issue(name), "intermediate") for name in names]
    certificates = Certificates(pairs, "intermediate")
    client = client_context(authority)
    client.minimum_version = client.maximum_version = version
    if not tickets:
        client.options |= ssl.OP_NO_TICKET
    begun = list[ssl.SSLContext]()
    for _ in range(10):
        begun.append(certificates.for_handshake())
        _, server = shake_hands(begun[-1], client, names[-1])
        with suppress(ssl.SSLWantReadError):
            server.unwrap()  # OpenSSL keeps no session of a connection that was cut off
        assert begun[-1].session_stats()["number"] <= 3
    has_cached = version is ssl.TLSVersion.TLSv1_2 and not tickets
    assert len(set(begun)) == (4 if has_cached else 1)


def test_connections_that_last_do_not_keep_any_number_of_sessions(
    authority: trustme.CA, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each context stays with its sessions while one connection does that began with it: gigabytes in an hour."""
    monkeypatch.setattr("gateway.tls.contexts.MOST_SESSIONS", 3)
    now = [0.0]
    certificates = Certificates([load_pair(issue("a.test"), "intermediate")], "intermediate", lambda: now[0])
    client = client_context(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET

    def begun(count: int) -> list[ssl.SSLContext]:
        found = list[ssl.SSLContext]()
        for _ in range(count):
            found.append(certificates.for_handshake())
            _, server = shake_hands(found[-1], client, "a.test")
            with suppress(ssl.SSLWantReadError):
                server.unwrap()
        return found

    assert len(set(begun(3 + 3 * MOST_CONTEXTS))) == 1 + MOST_CONTEXTS
    own = begun(5)
    assert len(set(own)) == 5
    assert all(context.session_stats()["number"] <= 1 for context in own)
    now[0] = SESSION_SECONDS
    assert len(set(begun(3))) == 1


@pytest.mark.parametrize("name", ["default.test", "a.test", "unknown.test", None])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_is_believed_follows_the_swap_with_and_without_sni(
    asking: Certificates, authority: trustme.CA, issue: Issue, name: str | None, version: ssl.TLSVersion
) -> None:
    other = trustme.CA()
    old, new = bearer(authority), bearer(authority, by=other)
    old.minimum_version = new.minimum_version = old.maximum_version = new.maximum_version = version
    _, server = shake_hands(asking.for_handshake(), old, name)
    assert (server.getpeercert() or {})["subjectAltName"] == (("DNS", "client.test"),)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(asking.for_handshake(), new, name)
    before = asking.client_ca
    asking.swap(asking_pairs(issue, other))
    assert asking.client_ca not in {before, None}
    _, server = shake_hands(asking.for_handshake(), new, name)
    assert server.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(asking.for_handshake(), old, name)


def test_a_client_without_a_certificate_comes_through_the_handshake(
    asking: Certificates, authority: trustme.CA
) -> None:
    _, server = shake_hands(asking.for_handshake(), client_context(authority), "a.test")
    assert server.getpeercert() is None


@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed_where_clients_are_asked(
    asking: Certificates, good: CertificatePair, authority: trustme.CA, version: ssl.TLSVersion, tickets: bool
) -> None:
    def is_resumed(certificates: Certificates) -> bool:
        context = bearer(authority)
        context.minimum_version = context.maximum_version = version
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
        session = None
        for _ in range(2):
            client, server = shake_hands(certificates.for_handshake(), context, "a.test", session)
            server.write(b"x")
            client.read(1)  # a ticket of TLS 1.3 comes with it
            session = client.session
        return bool(client.session_reused)

    assert not is_resumed(asking)
    if tickets:  # and that is no accident of this test's client
        assert is_resumed(Certificates([load_pair(good, "intermediate")], "intermediate"))


def test_a_context_outlives_a_hello_that_comes_twice(asking: Certificates, authority: trustme.CA) -> None:
    """After a HelloRetryRequest the sni_callback runs a second time, out of the context that the handshake left."""
    context = asking.for_handshake()
    calls = list[str | None]()
    real: Any = context.sni_callback

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, begun_with: ssl.SSLContext) -> None:
        calls.append(name)
        real(connection, name, begun_with)

    context.sni_callback = choose
    context.set_ecdh_curve("secp384r1")  # clients send another share first
    _, server = shake_hands(context, bearer(authority), "a.test")
    assert server.getpeercert()
    assert calls == ["a.test", "a.test"]


def test_contexts_that_ask_resume_nothing_and_believe_what_others_do(issue: Issue, authority: trustme.CA) -> None:
    pairs = asking_pairs(issue, authority)
    asking = Certificates(pairs, "intermediate")
    for context in (asking.for_handshake(), *(pair.context for pair in pairs)):
        assert context.verify_mode == ssl.CERT_OPTIONAL
        assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert context.options & ssl.OP_NO_TICKET
        assert context.num_tickets == 0
    assert asking.for_handshake() is not asking.for_handshake()
    assert asking.for_handshake().get_ca_certs() == []  # whoever is not handed on is believed by nobody


def test_loads_the_cas_with_the_pairs(issue: Issue, authority: trustme.CA, tmp_path: Path) -> None:
    pair = issue("a.test")
    tls = {"certificate": str(pair.certificate), "private_key": str(pair.private_key)}
    tls |= {"client_ca": str(tmp_path / "clients"), "client_certificates": "required"}
    authority.cert_pem.write_to_path(tmp_path / "clients")
    (loaded,) = load_pairs(make_settings(tmp_path, tls=tls))
    assert loaded.client_ca == client_ca_of(authority).digests
    (tmp_path / "clients").write_text("nonsense")
    with pytest.raises(SetupError, match=r"/clients holds no PEM certificate$"):
        load_pairs(make_settings(tmp_path, tls=tls))


# Content


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    one, two, missing = tmp_path / "one", tmp_path / "two", tmp_path / "missing"
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    before = fingerprint([one, two])
    assert fingerprint([two, one]) != before
    two.touch()
    assert fingerprint([one, two]) == before
    one.write_bytes(b"a")
    two.write_bytes(b"bc")
    assert fingerprint([one, two]) != before
    one.write_bytes(b"")
    assert fingerprint([one]) == fingerprint([missing]) == fingerprint([tmp_path])
    assert fingerprint([]) != fingerprint([missing])


def test_pairs_are_values(good: CertificatePair) -> None:
    loaded = load_pair(good, "modern")
    assert loaded == LoadedPair(loaded.context, loaded.names, loaded.not_after)


def test_a_certificate_whose_names_can_not_be_read_is_refused(tmp_path: Path) -> None:
    """An x400Address, which cryptography raises a kind of its own for; it ended the watch for good once."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x02\xa3\x00")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(odd, critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "odd.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "odd.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pair = CertificatePair(certificate=tmp_path / "odd.pem", private_key=tmp_path / "odd.key")
    with pytest.raises(SetupError, match="subjectAltName can't be read"):
        load_pair(pair, "intermediate")


def test_a_key_that_only_openssl_knows_is_served(tmp_path: Path) -> None:
    """Only to say how large it is, it is read once more: one that could not be ended the start in a traceback."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:brainpoolP256t1 -pkeyopt ec_param_enc:named_curve"
    about = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -days 2 -nodes"
    words = ["openssl", *command.split(), *about.split(), "-keyout", str(key), "-out", str(certificate)]
    if subprocess.run(words, capture_output=True, check=False).returncode:  # noqa: S603 -- fixed words
        pytest.skip("this OpenSSL makes no such key")
    loaded = load_pair(CertificatePair(certificate=certificate, private_key=key), "intermediate")
    assert (loaded.names, loaded.rsa_bits) == (("localhost",), 0)
