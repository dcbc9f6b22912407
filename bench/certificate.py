"""The one certificate that all peers show: P-256, self-signed, for this run alone."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write(folder: Path) -> None:
    """Writes server.pem, server.key and both in pair.pem, readable by the owner only."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = signed(key).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, content in (("server.pem", pem), ("server.key", secret), ("pair.pem", pem + secret)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


def signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Makes the certificate, good for a day."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1))
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
