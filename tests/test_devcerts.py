import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.devcerts import make_development_certificates, write_private
from gateway.errors import SetupError

HOSTS = ["gateway.test", "127.0.0.1", "::1"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    directory = tmp_path / "new" / "certs"
    make_development_certificates(directory, HOSTS)
    return directory


def certificate(path: Path) -> x509.Certificate:
    (only,) = x509.load_pem_x509_certificates(path.read_bytes())
    return only


def test_makes_three_files_in_a_directory_of_its_own(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == ["ca.pem", "server.key", "server.pem"]


def test_the_server_is_for_its_hosts_for_as_long_as_clients_accept(made: Path) -> None:
    server = certificate(made / "server.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.test"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert server.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "gateway.test"
    assert list(server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.now(UTC)
    assert server.not_valid_before_utc < now
    assert server.not_valid_after_utc - now < timedelta(days=398)
    assert server.not_valid_after_utc - now > timedelta(days=390)


def test_the_key_belongs_to_the_server_and_is_its_owners_alone(made: Path) -> None:
    key = load_pem_private_key((made / "server.key").read_bytes(), None)
    assert key.public_key() == certificate(made / "server.pem").public_key()
    assert stat.S_IMODE((made / "server.key").stat().st_mode) == 0o600


def test_nobody_can_sign_anything_more(made: Path) -> None:
    authority, server = certificate(made / "ca.pem"), certificate(made / "server.pem")
    server.verify_directly_issued_by(authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = load_pem_private_key((made / "server.key").read_bytes(), None)
    assert key.public_key() != authority.public_key()
    assert b"PRIVATE" not in (made / "ca.pem").read_bytes() + (made / "server.pem").read_bytes()


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_trusts_the_ca_believes_the_server(made: Path, host: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "server.pem", made / "server.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cafile=str(made / "ca.pem"))
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert()


def test_each_time_is_another_pair(tmp_path: Path) -> None:
    contents = set()
    for _ in range(2):
        make_development_certificates(tmp_path, ["a.test"])
        contents.add(tuple((tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem", "server.key")))
        certificate(tmp_path / "server.pem").verify_directly_issued_by(certificate(tmp_path / "ca.pem"))
    assert len(contents) == 2


def test_a_private_file_is_private_whatever_was_there(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("other")
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        path.write_text("old and readable")
        write_private(path, b"one")
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o600)
        path.unlink()
        path.symlink_to(other)
        write_private(path, b"two")
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.is_symlink(), other.read_text()) == (b"two", False, "other")


def test_says_so_when_it_can_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_development_certificates(tmp_path / "file", ["a.test"])


def test_its_own_certificates_are_made_anew_and_nobody_elses(tmp_path: Path) -> None:
    make_development_certificates(tmp_path, ["localhost"])
    first = (tmp_path / "server.key").read_bytes()
    make_development_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "server.key").read_bytes() != first
    (tmp_path / "ca.pem").unlink()
    kept = (tmp_path / "server.key").read_bytes()
    with pytest.raises(SetupError, match="not made by this command"):
        make_development_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "server.key").read_bytes() == kept
