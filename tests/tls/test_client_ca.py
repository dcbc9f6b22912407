import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.config.settings import CertificatePair
from gateway.config.settings.service import Tls
from gateway.errors import SetupError
from gateway.tls.client_ca import ClientCa, load_client_ca
from gateway.tls.contexts import Certificates, load_pair
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.pure import document, make_settings

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
USAGE = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
     "encipher_only", "decipher_only"), False,
)  # fmt: skip


class Authority:
    """A CA with the extensions that a test gives it."""

    def __init__(
        self, *without: str, name: str = "CA", ends: datetime = NOW + DAY, by: "Authority | None" = None
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        issuer = by or self
        builder = self.builder(self.name, issuer, self.key.public_key(), ends)
        if "ca" not in without:
            critical = "critical" not in without
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical)
        if "usage" not in without:
            usage = x509.KeyUsage(**USAGE, key_cert_sign="sign" not in without)
            builder = builder.add_extension(usage, critical=True)
        if "subject key" not in without:
            subject_key = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            builder = builder.add_extension(subject_key, critical=False)
        if by is not None:
            builder = builder.add_extension(by.identifier(), critical=False)
        self.pem = builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def builder(self, name: x509.Name, issuer: "Authority", key: Any, ends: datetime) -> x509.CertificateBuilder:
        """A certificate without extensions."""
        serial, start = x509.random_serial_number(), min(NOW, ends) - DAY
        return x509.CertificateBuilder(issuer.name, name, key, serial, start, ends)

    def identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def issue(self, stem: Path) -> None:
        """Writes a client certificate with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
        builder = (
            self.builder(name, self, key.public_key(), NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self.identifier(), critical=False)
        )
        stem.with_suffix(".pem").write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        stem.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def tls_of(directory: Path, *pems: bytes, mode: str = "optional") -> Tls:
    path = directory / "clients.pem"
    path.write_bytes(b"".join(pems))
    tls = document(directory)["tls"]
    return make_settings(directory, tls={**tls, "client_ca": str(path), "client_certificates": mode}).tls


def loaded(directory: Path, *pems: bytes) -> ClientCa:
    client_ca = load_client_ca(tls_of(directory, *pems))
    assert client_ca is not None
    return client_ca


def is_believed(directory: Path, client_ca: ClientCa, authority: Authority) -> bool:
    """Whether a handshake with a client certificate of this CA ends well."""
    make_development_certificates(directory / "server", ["a.test"])
    pair = CertificatePair(
        certificate=directory / "server" / "server.pem", private_key=directory / "server" / "server.key"
    )
    certificates = Certificates([load_pair(pair, "intermediate", client_ca)], "intermediate")
    authority.issue(directory / "client")
    context = ssl.create_default_context(cafile=str(directory / "server" / "ca.pem"))
    context.load_cert_chain(directory / "client.pem", directory / "client.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    listener = certificates.for_handshake()
    server = listener.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname="a.test")
    for end in (client, server) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return bool(server.getpeercert())


# The file


def test_reads_the_cas_of_a_bundle(tmp_path: Path) -> None:
    one, two = Authority(name="one"), Authority(name="two")
    client_ca = loaded(tmp_path, one.pem, two.pem)
    assert client_ca.warnings == ()
    assert len(client_ca.ders) == 2  # each goes to OpenSSL on its own: 144 at once held the interpreter for 20 ms
    for authority in (one, two):
        assert is_believed(tmp_path, client_ca, authority)
    assert not is_believed(tmp_path, client_ca, Authority(name="one"))


def test_the_same_cas_have_the_same_digests_however_they_are_written(tmp_path: Path) -> None:
    one, two = Authority(name="one").pem, Authority(name="two").pem
    digests = loaded(tmp_path, one, two).digests
    assert loaded(tmp_path, b"# theirs\n", two, b"\n", one, two).digests == digests
    first, second = loaded(tmp_path, one).digests, loaded(tmp_path, two).digests
    assert (len(first), len(second), first | second) == (1, 1, digests)


def test_nothing_is_read_when_nobody_is_asked(tmp_path: Path) -> None:
    assert load_client_ca(tls_of(tmp_path, b"nonsense", mode="none")) is None
    assert load_client_ca(make_settings(tmp_path).tls) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Authority().pem[:-40]],
    ids=["empty", "nonsense", "no certificate", "cut off"],
)
def test_a_file_without_a_certificate_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SetupError) as caught:
        loaded(tmp_path, content)
    assert str(caught.value) == f"{tmp_path}/clients.pem holds no PEM certificate"


def test_a_file_that_has_gone_is_told(tmp_path: Path) -> None:
    tls = tls_of(tmp_path, Authority().pem)
    (tmp_path / "clients.pem").unlink()
    with pytest.raises(SetupError) as caught:
        load_client_ca(tls)
    assert str(caught.value) == f"{tmp_path}/clients.pem can't be read: No such file or directory"


@pytest.mark.parametrize("ca", [False, None])
def test_a_certificate_that_is_no_cas_is_told(tmp_path: Path, ca: bool | None) -> None:
    """With partial chains it would be believed itself."""
    if ca is None:
        no_ca = Authority("ca", name="leaf").pem
    else:
        Authority().issue(tmp_path / "leaf")
        no_ca = (tmp_path / "leaf.pem").read_bytes()
    with pytest.raises(SetupError, match=rf"^{tmp_path}/clients.pem holds a certificate that is not a CA's: CN="):
        loaded(tmp_path, Authority().pem, no_ca)


def test_a_certificate_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    authority = Authority()
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x02\xa3\x00")
    builder = authority.builder(authority.name, authority, authority.key.public_key(), NOW + DAY)
    signed = builder.add_extension(odd, critical=False).sign(authority.key, hashes.SHA256())
    with pytest.raises(SetupError) as caught:
        loaded(tmp_path, signed.public_bytes(Encoding.PEM))
    assert str(caught.value) == f"{tmp_path}/clients.pem holds a certificate that can't be read"


# What OpenSSL will not believe


@pytest.mark.parametrize(
    ("authority", "told"),
    [
        (Authority(ends=NOW - DAY), f"CN=CA expired on {NOW - DAY:%Y-%m-%d}"),
        (Authority("sign"), "CN=CA has a key usage without keyCertSign, so nothing that it signed is accepted"),
    ],
)
def test_a_ca_that_is_of_no_use_is_warned_of_and_truly_is_of_none(
    tmp_path: Path, authority: Authority, told: str
) -> None:
    client_ca = loaded(tmp_path, authority.pem)
    (warning,) = client_ca.warnings
    assert warning.startswith(told)
    assert not is_believed(tmp_path, client_ca, authority)


@pytest.mark.parametrize("without", ["usage", "critical", "subject key"])
def test_a_ca_need_not_be_strict(tmp_path: Path, without: str) -> None:
    """As plain `openssl req -x509` makes them, and as other servers believe them."""
    authority = Authority(without)
    client_ca = loaded(tmp_path, authority.pem)
    assert client_ca.warnings == ()
    assert is_believed(tmp_path, client_ca, authority)
    assert not is_believed(tmp_path, client_ca, Authority(without))


def test_an_intermediate_is_believed_for_itself_and_its_root_is_not(tmp_path: Path) -> None:
    root = Authority(name="root")
    intermediate, sibling = Authority(name="one", by=root), Authority(name="two", by=root)
    client_ca = loaded(tmp_path, intermediate.pem)
    assert client_ca.warnings == ()
    assert is_believed(tmp_path, client_ca, intermediate)
    for other in (root, sibling):
        assert not is_believed(tmp_path, client_ca, other)


def test_a_ca_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, Authority(name="", ends=NOW - DAY).pem).warnings
    assert warning.startswith("serial number ")


def test_the_configuration_says_when_the_file_is_not_there(tmp_path: Path) -> None:
    tls = {**document(tmp_path)["tls"], "client_ca": f"{tmp_path}/none.pem", "client_certificates": "optional"}
    with pytest.raises(SetupError) as caught:
        make_settings(tmp_path, tls=tls)
    why = "can't be read: No such file or directory (line 6)"
    assert str(caught.value) == f"tls.client_ca: {tmp_path}/none.pem {why}"
