"""A CA and certificates for development: `gateway certs dev` and the demo. Never for production."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import SetupError

_CA_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Document gateway development CA")])
_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 397  # the longest that clients accept


def make_development_certificates(directory: Path, hosts: list[str]) -> None:
    """Writes ca.pem, server.pem and server.key (0600) into a directory, which is made.

    The CA's key is thrown away: nobody can sign another certificate that those who trust ca.pem would believe.

    Raises:
        OSError: when a file can't be written.
        SetupError: when the directory holds a certificate or key that was not made here.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _refuse_to_overwrite(directory)
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _sign(_ca_builder(ca_key), ca_key)
    server = _sign(_server_builder(server_key, authority, ca_key, hosts), ca_key)
    (directory / "ca.pem").write_bytes(_pem(authority))
    write_private(directory / "server.key", _key_pem(server_key))
    (directory / "server.pem").write_bytes(_pem(server))


def _refuse_to_overwrite(directory: Path) -> None:
    """Certificates of an earlier call may be made anew; anybody else's key would be lost for good."""
    if not any((directory / name).exists() for name in ("ca.pem", "server.pem", "server.key")):
        return
    try:
        authority, server = (
            x509.load_pem_x509_certificate((directory / name).read_bytes()) for name in ("ca.pem", "server.pem")
        )
        ours = authority.subject == server.issuer == _CA_NAME
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise SetupError(
            f"{directory} holds certificates that were not made by this command; choose another directory"
        )


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, from its first moment on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _ca_builder(key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    name = _CA_NAME
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _server_builder(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    hosts: list[str],
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(subject, authority.subject, key.public_key(), _SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
