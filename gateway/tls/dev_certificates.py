"""A CA and certificates for development: `gateway certs dev` and the demo. Never for production."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import SetupError

_CA_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Document gateway development CA")])
_CA_DAYS: Final = 3650
_LEAF_DAYS: Final = 397  # the longest that clients accept for a server
_SERVER: Final = "server"
# A DNS name or a mail address that can also be a file name.
_CLIENT: Final = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9][A-Za-z0-9._-]*(?:@[A-Za-z0-9][A-Za-z0-9._-]*)?")
_TAKEN: Final = frozenset({"ca", _SERVER})


class _Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_development_certificates(directory: Path, hosts: list[str], clients: Sequence[str] = ()) -> None:
    """Writes ca.pem, server.pem and server.key (0600) into a directory, which it creates; also each client's pair.

    The CA's key is thrown away, so no further certificate can be signed that clients with ca.pem would trust. Client
    certificates are therefore made in the same call as the CA, or never.

    Raises:
        OSError: when a file can't be written.
        SetupError: when the directory holds a certificate or key not made here, or a client's name is invalid.
    """
    _check_names(clients)
    directory.mkdir(parents=True, exist_ok=True)
    _refuse_to_overwrite(directory, clients)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    authority = _Authority(_sign(_ca_builder(ca_key), ca_key), ca_key)
    pairs = {
        _SERVER: _pair(authority, hosts[0], [_host_name(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH)
    }
    for client in clients:
        pairs[client] = _pair(authority, client, [_client_name(client)], ExtendedKeyUsageOID.CLIENT_AUTH)
    _write_anew(directory / "ca.pem", _pem(authority.certificate), 0o644)
    for name, (certificate, key) in pairs.items():
        write_private(directory / f"{name}.key", _key_pem(key))
        _write_anew(directory / f"{name}.pem", _pem(certificate), 0o644)


def _check_names(clients: Sequence[str]) -> None:
    for i, client in enumerate(clients):
        if not _CLIENT.fullmatch(client):
            raise SetupError(f"{client!r} is not a client's name: a DNS name or a mail address, short and plain")
        if client.lower() in {*_TAKEN, *(other.lower() for other in clients[:i])}:
            raise SetupError(f"a client can't be named {client}: {client.lower()}.pem is another certificate's file")


def _refuse_to_overwrite(directory: Path, clients: Sequence[str]) -> None:
    """Allows overwriting certificates of an earlier call; any other key would be lost for good."""
    pairs = [("ca", _SERVER), *((client,) for client in clients)]
    there = [stem for stems in pairs if _is_there(directory, stems) for stem in stems]
    ours = [_issuer(directory / f"{stem}.pem") == _CA_NAME for stem in there]
    if not all(ours):
        raise SetupError(
            f"{directory} holds certificates that were not made by this command; choose another directory"
        )


def _is_there(directory: Path, stems: Sequence[str]) -> bool:
    return any((directory / f"{stem}.{end}").exists() for stem in stems for end in ("pem", "key"))


def _issuer(path: Path) -> x509.Name | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).issuer
    except (OSError, ValueError):
        return None


def _pair(
    authority: _Authority, subject: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _leaf_builder(key, authority.certificate, subject, names).add_extension(
        x509.ExtendedKeyUsage([usage]), critical=False
    )
    return _sign(builder, authority.key), key


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read from the moment it is created."""
    _write_anew(path, content, 0o600)


def _write_anew(path: Path, content: bytes, mode: int) -> None:
    """Writes a new file in place of an old one, or of a symlink, which is not followed."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
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


def _leaf_builder(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    name: str,
    names: list[x509.GeneralName],
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    return (
        _builder(subject, authority.subject, key.public_key(), _LEAF_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
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


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _client_name(client: str) -> x509.GeneralName:
    return x509.RFC822Name(client) if "@" in client else x509.DNSName(client.lower())


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
