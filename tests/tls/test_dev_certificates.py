import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.cli.main import cli
from gateway.errors import SetupError
from gateway.tls.dev_certificates import make_development_certificates, write_private

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


# Clients


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    make_development_certificates(tmp_path, HOSTS, ["Batch.test", "me@a.test"])
    return tmp_path


def test_clients_get_certificates_of_the_same_ca(clients: Path) -> None:
    names = [
        "Batch.test.key",
        "Batch.test.pem",
        "ca.pem",
        "me@a.test.key",
        "me@a.test.pem",
        "server.key",
        "server.pem",
    ]
    assert sorted(path.name for path in clients.iterdir()) == names
    for name in ("Batch.test", "me@a.test"):
        client = certificate(clients / f"{name}.pem")
        client.verify_directly_issued_by(certificate(clients / "ca.pem"))
        assert list(client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
            ExtendedKeyUsageOID.CLIENT_AUTH
        ]
        assert client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
        key = load_pem_private_key((clients / f"{name}.key").read_bytes(), None)
        assert key.public_key() == client.public_key()
        assert stat.S_IMODE((clients / f"{name}.key").stat().st_mode) == 0o600


def test_a_client_has_one_name_a_dns_name_or_a_mail_address(clients: Path) -> None:
    batch, me = (certificate(clients / f"{name}.pem") for name in ("Batch.test", "me@a.test"))
    named = [entry.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for entry in (batch, me)]
    assert [list(names) for names in named] == [[x509.DNSName("batch.test")], [x509.RFC822Name("me@a.test")]]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "/a", "a/b", "-a", ".a", "a b", "a\n", "a\0", "ä", "a@", "@a", "a@b@c", "x" * 64, "a\\b"],
)
def test_a_name_that_is_no_file_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match="is not a client's name"):
        make_development_certificates(tmp_path / "new", HOSTS, [name])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("names", [["ca"], ["Server"], ["a", "b", "A"]])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(SetupError, match=f"^a client can't be named {names[-1]}: "):
        make_development_certificates(tmp_path / "new", HOSTS, names)
    assert not (tmp_path / "new").exists()


def test_a_clients_own_pair_is_made_anew_and_nobody_elses(clients: Path) -> None:
    make_development_certificates(clients, HOSTS, ["me@a.test"])
    certificate(clients / "me@a.test.pem").verify_directly_issued_by(certificate(clients / "ca.pem"))
    (clients / "other.key").write_text("somebody's only key")
    before = (clients / "ca.pem").read_bytes()
    with pytest.raises(SetupError, match="not made by this command"):
        make_development_certificates(clients, HOSTS, ["other"])
    assert (clients / "other.key").read_text() == "somebody's only key"
    assert (clients / "ca.pem").read_bytes() == before


def test_what_can_not_be_made_leaves_all_as_it_was(made: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    with pytest.raises(ValueError, match="64"):
        make_development_certificates(made, ["x" * 65])
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_the_command_makes_them_and_says_where(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["certs", "dev", str(tmp_path), "--client", "a.test", "--client", "b.test"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{tmp_path}/ca.pem  {tmp_path}/server.pem  {tmp_path}/server.key",
        f"{tmp_path}/a.test.pem  {tmp_path}/a.test.key",
        f"{tmp_path}/b.test.pem  {tmp_path}/b.test.key",
    ]
    assert CliRunner().invoke(cli, ["certs", "dev", str(tmp_path), "--client", "../a"]).exit_code == 1
