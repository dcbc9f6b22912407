"""The CAs trusted for client certificates: reads and checks the file of tls.client_ca.

CAs are compared by content: comments and the order in the file make no difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.aio.named_files import PEM_BYTES, read_named
from gateway.config.settings.service import Tls
from gateway.errors import FileUnusable, SetupError


@dataclass(frozen=True, slots=True)
class ClientCa:
    """The certificates of these CAs, each in DER, and its SHA-256 digest.

    `warnings` names CAs whose client certificates will not be accepted, and why.
    """

    ders: tuple[bytes, ...]
    digests: frozenset[bytes]
    warnings: tuple[str, ...] = ()


def load_client_ca(tls: Tls) -> ClientCa | None:
    """Reads the CAs; None when clients are not asked for a certificate.

    Raises:
        SetupError: when the file is unreadable, empty or not PEM, or holds a certificate that is not a CA's.
    """
    if tls.client_ca is None or tls.client_certificates == "none":
        return None
    try:
        found = x509.load_pem_x509_certificates(read_named(tls.client_ca, PEM_BYTES))
        warnings = [warning for certificate in found for warning in _judge(tls.client_ca, certificate)]
    except FileUnusable as error:
        raise SetupError(f"{tls.client_ca} {error}") from None
    except SetupError:
        raise
    except ValueError:
        raise SetupError(f"{tls.client_ca} holds no PEM certificate") from None
    except Exception:  # noqa: BLE001 -- cryptography raises its own error types for extensions that it does not know
        raise SetupError(f"{tls.client_ca} holds a certificate that can't be read") from None
    each = sorted({certificate.public_bytes(Encoding.DER) for certificate in found})
    return ClientCa(tuple(each), frozenset(sha256(der).digest() for der in each), tuple(warnings))


def _judge(path: Path, certificate: x509.Certificate) -> Iterator[str]:
    """Warns of a CA whose certificates OpenSSL will reject: a failed handshake does not say why."""
    name = certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        raise SetupError(f"{path} holds a certificate that is not a CA's: {name}")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        yield f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.value.key_cert_sign:
        yield f"{name} has a key usage without keyCertSign, so nothing that it signed is accepted (RFC 5280 4.2.1.3)"


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
