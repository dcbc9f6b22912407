import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.app.prepare import prepare
from gateway.cli.checked import Checked
from gateway.cli.run_check import check_live, check_settings
from gateway.cli.this_machine import local_addresses
from gateway.errors import SetupError
from gateway.http.public_origin import UNKNOWN, UNSIGNABLE
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.pure import document, write
from tests.support.tokens import jwk_of, jwks_of, p256_key, rsa_key
from tests.tls.test_client_ca import Authority

SECRET = "a-secret-of-enough-bytes-to-be-good"
ENVIRON = {"K": SECRET}
KEY = {"id": "a", "secret": {"env": "K"}}
SERVER = "certificate for gateway.test ends 2037-01-02"

JWKS = jwks_of(jwk_of(p256_key(), kid="one"), jwk_of(p256_key(1), kid="two"))

Serve = Callable[..., int]


def checked(directory: Path, **sections: Any) -> list[str]:
    """What is found, but for the lines that say that ledger, certificate and configuration are well."""
    make_development_certificates(directory, ["gateway.test"])
    path = write(directory, document(directory, **{"keys": [KEY], "ledger": ledger_in(directory), **sections}))
    findings = check_settings(path, ENVIRON)
    assert findings[-1] == Checked("ok", f"{path} is a valid configuration")
    told = [str(finding) for finding in findings[:-1]]
    while told[-1].startswith(("ok: certificate for gateway.test ends", "ok: CA ends")):
        told.pop()
    assert told[-1].startswith("ok: ledger ")
    return told[:-1]


def ledger_in(directory: Path) -> dict[str, Any]:
    return {"url": f"sqlite:///{directory}/ledger.db"}


# The configuration alone


def test_a_good_configuration_is_told_so(tmp_path: Path) -> None:
    assert checked(tmp_path) == []


def test_a_bad_one_has_every_fault_and_nothing_else(tmp_path: Path) -> None:
    path = write(
        tmp_path, document(tmp_path, listen={"prot": 1}, log={"level": "x"}, network={"allow": ["0.0.0.0/0"]})
    )
    for findings in (check_settings(path, {}), check_live(path, {})):
        assert [str(finding) for finding in findings] == [
            "fault: listen.prot: there is no such setting; did you mean port? (line 2)",
            'fault: log.level: must be debug, info, warning or error (line 4: "x")',
        ]
        assert all(finding.is_fault for finding in findings)
    assert not Checked("warning", "x").is_fault
    assert not Checked("ok", "x").is_fault


NO_KEY = (
    "keys: there is none in the file and none in the ledger, so only routes with access: anyone can be used; "
    "make one: gateway keys create ID --config FILE"
)


@pytest.mark.parametrize(
    ("sections", "warnings"),
    [
        ({"keys": []}, [NO_KEY]),
        ({"keys": [], "authentication": {"api_keys": {"enabled": False}}}, [NO_KEY]),
        ({"public_url": "https://gateway.test:8443"}, []),
        ({"aliases": {"/v9": "/api/v9"}, "webhooks": {"out": {"allow": ["hooks.test"]}}},
         ["aliases./v9: leads to /api/v9, where no route is",
          "webhooks.out.secret: is not set, nor secrets, so no webhook is sent"]),
    ],
)  # fmt: skip
def test_warns_of_what_works_and_may_not_be_meant(
    tmp_path: Path, sections: dict[str, Any], warnings: list[str]
) -> None:
    assert checked(tmp_path, **sections) == [f"warning: {warning}" for warning in warnings]


def test_webhooks_that_have_no_origin_to_sign_are_a_fault(tmp_path: Path) -> None:
    made, webhooks = tmp_path / "made", {"out": {"secret": {"env": "K"}}}
    make_development_certificates(made, ["*.gateway.test"])
    tls = {"certificate": str(made / "server.pem"), "private_key": str(made / "server.key")}
    path = write(tmp_path, document(tmp_path, ledger=ledger_in(tmp_path), tls=tls, keys=[KEY], webhooks=webhooks))
    (fault,) = (str(found) for found in check_settings(path, ENVIRON) if found.is_fault)
    assert fault == f"fault: public_url: {UNSIGNABLE}"
    with pytest.raises(SetupError, match="public_url: is needed"):
        prepare(path, ENVIRON)


def test_a_certificate_that_names_nobody_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, document(tmp_path, ledger=ledger_in(tmp_path), keys=[KEY]))
    leaf = trustme.CA().issue_cert("somebody@gateway.test")
    (tmp_path / "server.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (tmp_path / "server.key").write_bytes(leaf.private_key_pem.bytes())
    assert f"warning: public_url: {UNKNOWN}" in map(str, check_settings(path, ENVIRON))


def test_where_tokens_or_certificates_are_identities_no_key_is_missed(tmp_path: Path) -> None:
    make_development_certificates(tmp_path, ["gateway.test"])
    asking = {"client_ca": str(tmp_path / "ca.pem"), "client_certificates": "optional"}
    tls = {**document(tmp_path)["tls"], **asking}
    certificates = {"identity": "dns", "names": {"a.test": {"scopes": ["admin", "all"]}}}
    assert checked(tmp_path, keys=[], tls=tls, authentication={"certificates": certificates}) == [
        "warning: authentication.certificates.names.a.test.scopes: all opens nothing; the only scope is admin"
    ]
    issuer = {"issuer": "https://idp.test", "audience": "gateway", "discovery": True}
    assert checked(tmp_path, keys=[], authentication={"jwt": [issuer]}) == []
    (told,) = checked(tmp_path, keys=[], tls=tls)
    assert told == f"warning: {NO_KEY}"


def check_client_ca(directory: Path, pem: bytes) -> list[str]:
    make_development_certificates(directory, ["gateway.test"])
    (directory / "clients.pem").write_bytes(pem)
    tls = {"client_ca": str(directory / "clients.pem"), "client_certificates": "optional"}
    tls = {**document(directory)["tls"], **tls}
    path = write(directory, document(directory, keys=[KEY], ledger=ledger_in(directory), tls=tls))
    return [str(finding) for finding in check_settings(path, ENVIRON)][1:]


def test_a_client_ca_that_can_not_be_used_is_a_fault(tmp_path: Path) -> None:
    assert check_client_ca(tmp_path, b"") == [
        f"fault: tls.client_ca: {tmp_path}/clients.pem holds no PEM certificate"
    ]


def test_a_client_ca_that_has_expired_is_warned_of(tmp_path: Path) -> None:
    end = datetime.now(UTC) - timedelta(days=1)
    told = f"warning: tls.client_ca: CN=theirs expired on {end:%Y-%m-%d}"
    assert check_client_ca(tmp_path, Authority(name="theirs", ends=end).pem)[0] == told


def test_a_name_that_nobody_knows_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    told = "warning: upstream.url: documents cross the network to container.test in the clear"
    assert checked(tmp_path, upstream={"url": "http://container.test:8000"}) == [told]


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test", ".a"])
def test_no_host_name_makes_it_stumble(tmp_path: Path, host: str) -> None:
    """Names that the resolver's codec raises UnicodeError for, which is no OSError."""
    path = write(tmp_path, document(tmp_path, keys=[KEY], upstream={"url": f"http://{host}:8000"}))
    (finding,) = map(str, check_settings(path, ENVIRON))
    assert finding.startswith("fault: upstream.url: has a host name with characters that none has (line ")


# Live


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = JWKS if self.path == "/jwks" else b""
        status = 200 if body else self.server.status if self.path == "/health_check" else 404  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", f"{len(body)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts upstreams; tells their ports."""
    with ExitStack() as stack:

        def started(address: str = "127.0.0.1", status: int = 200) -> int:
            server = stack.enter_context(ThreadingHTTPServer((address, 0), _Answers))
            server.status = status  # type: ignore[attr-defined]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield started


def live(
    directory: Path,
    url: str,
    *,
    end: datetime | None = None,
    names: tuple[str, ...] = ("gateway.test",),
    **sections: Any,
) -> list[str]:
    leaf = trustme.CA().issue_cert(*names, not_after=end or datetime(2037, 1, 2, tzinfo=UTC))
    sections = {"keys": [KEY], "ledger": ledger_in(directory), "upstream": {"url": url}, **sections}
    path = write(directory, document(directory, **sections))
    (directory / "server.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (directory / "server.key").write_bytes(leaf.private_key_pem.bytes())
    findings = [str(finding) for finding in check_live(path, ENVIRON)]
    valid = f"ok: {path} is a valid configuration"
    empty = f"ok: ledger {directory}/ledger.db is not there yet: the gateway makes it when it starts"
    assert (valid in findings) is not any(finding.startswith("fault: ") for finding in findings)
    return [
        finding.removesuffix(f" (tls.certificate: {directory}/server.pem)")
        for finding in findings
        if finding not in {valid, empty}
    ]


def test_a_good_site_is_told_so(tmp_path: Path, serve: Serve) -> None:
    port = serve()
    assert live(tmp_path, f"http://127.0.0.1:{port}") == [
        f"ok: {SERVER}",
        f"ok: upstream 127.0.0.1:{port} answers",
        f"ok: port {port} is reached on the loopback address alone",
    ]


def test_every_upstream_that_a_route_goes_to_is_looked_at(tmp_path: Path, serve: Serve) -> None:
    one, two = serve(), serve(status=503)
    routes = [
        {"name": "a", "methods": ["GET"], "path": "/a"},
        {"name": "b", "methods": ["GET"], "path": "/b", "upstream": "two"},
    ]
    upstreams = {"two": {"url": f"http://127.0.0.1:{two}"}, "three": {"url": "http://127.0.0.1:1"}}
    assert live(tmp_path, f"http://127.0.0.1:{one}", routes=routes, upstreams=upstreams) == [
        "warning: upstreams.three: no route goes there",
        f"ok: {SERVER}",
        f"ok: upstream 127.0.0.1:{one} answers",
        f"ok: port {one} is reached on the loopback address alone",
        f"fault: upstreams.two.url: 127.0.0.1:{two}: /health_check answers 503",
    ]


def test_an_upstream_that_others_reach_around_the_gateway_is_a_fault(tmp_path: Path, serve: Serve) -> None:
    addresses = [address for address in local_addresses() if ":" not in address]
    if not addresses:
        pytest.skip("this machine has a loopback address alone")
    port = serve("0.0.0.0")  # noqa: S104 -- that is the fault
    told = f"at {', '.join(addresses)} port {port}; bind it to 127.0.0.1"
    assert (
        live(tmp_path, f"http://127.0.0.1:{port}")[-1]
        == f"fault: the upstream can be reached around the gateway {told}"
    )


def test_an_upstream_elsewhere_can_not_be_judged(tmp_path: Path, serve: Serve) -> None:
    addresses = [address for address in local_addresses() if ":" not in address]
    if not addresses:
        pytest.skip("this machine has a loopback address alone")
    authority = f"{addresses[0]}:{serve(addresses[0])}"
    assert live(tmp_path, f"http://{authority}") == [
        f"warning: upstream.url: documents cross the network to {addresses[0]} in the clear",
        f"ok: {SERVER}",
        f"ok: upstream {authority} answers",
        f"warning: can't see from here whether others reach {authority} around the gateway; only it may",
    ]


def test_the_keys_of_issuers_are_fetched(tmp_path: Path, serve: Serve) -> None:
    port = serve()
    (tmp_path / "jwks.json").write_bytes(JWKS)
    urls = (f"http://127.0.0.1:{port}/jwks", str(tmp_path / "jwks.json"), "http://127.0.0.1:1/jwks", None)
    issuers = [
        {"issuer": f"http://127.0.0.1:{port}/{i}", "audience": "a", "algorithms": ["ES256"],
         **({"jwks": url} if url else {"discovery": True})}
        for i, url in enumerate(urls)
    ]  # fmt: skip
    found = live(tmp_path, f"http://127.0.0.1:{port}", authentication={"jwt": issuers})
    assert f"ok: issuer http://127.0.0.1:{port}/1 has 2 keys" in found
    assert found[-3:] == [
        f"ok: issuer http://127.0.0.1:{port}/0 has 2 keys",
        "fault: authentication.jwt[2].jwks: no connection",
        "fault: authentication.jwt[3].discovery: the answer is 404",
    ]


def test_keys_of_a_file_that_are_not_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks_of(jwk_of(p256_key(), kid="one"), {"kty": "oct", "k": "AAAA"}))
    issuer = {
        "issuer": "https://id.test",
        "audience": "a",
        "algorithms": ["ES256"],
        "jwks": str(tmp_path / "jwks.json"),
    }
    path = write(tmp_path, document(tmp_path, authentication={"jwt": [issuer]}))
    found = [str(finding) for finding in check_settings(path, {})]
    assert "ok: issuer https://id.test has 1 key" in found
    assert any(
        line.startswith("warning: authentication.jwt: of the keys of https://id.test 1 are not used: ")
        for line in found
    )


def test_an_upstream_that_is_not_well_is_a_fault(tmp_path: Path, serve: Serve) -> None:
    port = serve(status=503)
    assert (
        live(tmp_path, f"http://127.0.0.1:{port}")[-1]
        == f"fault: upstream.url: 127.0.0.1:{port}: /health_check answers 503"
    )


def test_an_upstream_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, and nobody listens
        authority = f"127.0.0.1:{bound.getsockname()[1]}"
        (told,) = live(tmp_path, f"http://{authority}")[1:]
    assert told == f"fault: upstream.url: {authority}: no answer (no connection)"


def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path, serve: Serve) -> None:
    end = datetime.now(UTC) + timedelta(days=13)
    found = live(tmp_path, f"http://127.0.0.1:{serve()}", end=end, names=("127.0.0.1",))
    assert found[0] == f"warning: certificate for 127.0.0.1 ends {end:%Y-%m-%d}"


def test_every_certificate_file_is_told_with_its_end(tmp_path: Path) -> None:
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (2, 400))
    authority = trustme.CA()
    for name, end in (("admin", soon), ("public", later)):
        leaf = authority.issue_cert(f"{name}.test", not_after=end)
        (tmp_path / f"{name}.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
        (tmp_path / f"{name}.key").write_bytes(leaf.private_key_pem.bytes())
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pairs = {
        name: {"certificate": str(tmp_path / f"{name}.pem"), "private_key": str(tmp_path / f"{name}.key")}
        for name in ("admin", "public")
    }
    ca = {"client_ca": str(tmp_path / "ca.pem"), "client_certificates": "optional"}
    sections = {"tls": {**pairs["public"], **ca}, "admin": {"tls": pairs["admin"]}, "ledger": ledger_in(tmp_path)}
    path = write(tmp_path, document(tmp_path, keys=[KEY], **sections))
    found = [str(finding) for finding in check_settings(path, ENVIRON)]
    authority_ends = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).not_valid_after_utc
    assert found[-4:-1] == [
        f"ok: certificate for public.test ends {later:%Y-%m-%d} (tls.certificate: {tmp_path}/public.pem)",
        f"ok: CA ends {authority_ends:%Y-%m-%d} (tls.client_ca: {tmp_path}/ca.pem)",
        f"warning: certificate for admin.test ends {soon:%Y-%m-%d} (admin.tls.certificate: {tmp_path}/admin.pem)",
    ]


def test_a_certificate_that_can_not_be_used_is_a_fault(tmp_path: Path, serve: Serve) -> None:
    end = datetime.now(UTC) - timedelta(days=1)
    found = live(tmp_path, f"http://127.0.0.1:{serve()}", end=end)
    assert found == [f"fault: tls: {tmp_path}/server.pem expired on {end:%Y-%m-%d %H:%M} UTC"]


def test_the_admin_listeners_certificate_is_loaded_too(tmp_path: Path) -> None:
    make_development_certificates(tmp_path, ["gateway.test"])
    (tmp_path / "junk.pem").write_text("junk")
    tls = {"certificate": str(tmp_path / "junk.pem"), "private_key": str(tmp_path / "server.key")}
    path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path), admin={"tls": tls}))
    assert [str(finding) for finding in check_settings(path, ENVIRON)][1:] == [
        f"fault: admin.tls: {tmp_path}/junk.pem holds no PEM certificate"
    ]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("jwks", "authentication.jwt[0].jwks: is not a JWK set"),
        ("public_key", "authentication.jwt[0].public_key: is not a PEM file of exactly one public key"),
        ("ca", "webhooks.out.ca: {file} can't be read, or holds no PEM certificate"),
    ],
)
def test_a_file_that_the_gateway_would_not_start_with_is_a_fault(tmp_path: Path, setting: str, told: str) -> None:
    make_development_certificates(tmp_path, ["gateway.test"])
    file = tmp_path / "garbage"
    file.write_text("garbage")
    issuer = {"issuer": "https://login.example", "audience": "gateway", setting: str(file)}
    wrong = {"webhooks": {"out": {"ca": str(file)}}} if setting == "ca" else {"authentication": {"jwt": [issuer]}}
    path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path), **wrong))
    faults = [str(found) for found in check_settings(path, ENVIRON) if found.is_fault]
    assert faults == [f"fault: {told.format(file=file)}"]
    with pytest.raises(SetupError) as refused:
        prepare(path, ENVIRON)
    assert faults == [f"fault: {refused.value}"]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file", "{d}/file can't be used: "),
        ("file/x", "{d}/file/x can't be made: {d}/file is not a directory that this user may write to"),
        ("there", ""),
        ("missing/x", ""),
    ],
)
def test_a_spool_that_can_not_be_used_is_a_fault(tmp_path: Path, place: str, told: str) -> None:
    make_development_certificates(tmp_path, ["gateway.test"])
    (tmp_path / "file").write_text("")
    (tmp_path / "there").mkdir()
    body = {"spool_dir": str(tmp_path / place)}
    path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path), body=body))
    faults = [str(found) for found in check_settings(path, ENVIRON) if found.is_fault]
    assert len(faults) == bool(told)
    assert "".join(faults).startswith(told and f"fault: body.spool_dir: {told.format(d=tmp_path)}")
    assert not (tmp_path / "missing").exists()


# Names and places that are not what they seem


def test_a_certificate_for_another_host_than_public_url_is_warned_of(tmp_path: Path) -> None:
    for hosts, public, is_named in (
        (["gateway.test"], "https://Gateway.test.", True),
        (["*.test"], "https://gateway.test:8443", True),
        (["*.test"], "https://a.gateway.test", False),
        (["127.0.0.1"], "https://127.0.0.1:8443", True),
        (["::1"], "https://[::1]", True),
        (["other.test"], "https://gateway.test", False),
        (["other.test"], "http://gateway.test", True),
    ):
        make_development_certificates(tmp_path, hosts)
        path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path), public_url=public))
        told = [
            str(found) for found in check_settings(path, ENVIRON) if "public_url: no certificate is for" in str(found)
        ]
        assert bool(told) is not is_named, (hosts, public)


def test_a_certificate_that_names_no_host_is_warned_of(tmp_path: Path) -> None:
    nameless = Authority(name="theirs")
    make_development_certificates(tmp_path, ["gateway.test"])
    (tmp_path / "server.pem").write_bytes(nameless.pem)
    (tmp_path / "server.key").write_bytes(
        nameless.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path)))
    told = "\n".join(map(str, check_settings(path, ENVIRON)))
    assert "server.pem: names no host in its subjectAltName, so no client accepts it" in told


@pytest.mark.parametrize(("bits", "is_told"), [(2048, False), (4104, True)])
def test_a_server_key_of_rsa_that_is_too_large_is_warned_of(tmp_path: Path, bits: int, is_told: bool) -> None:
    """A signature of 8192 bits is 30 ms of the loop, for each stranger who begins a handshake."""
    key, authority = rsa_key(bits=bits), Authority()
    builder = authority.builder(authority.name, authority, key.public_key(), datetime.now(UTC) + timedelta(1))
    (tmp_path / "server.pem").write_bytes(builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM))
    (tmp_path / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path = write(tmp_path, document(tmp_path, keys=[KEY], ledger=ledger_in(tmp_path)))
    told = "\n".join(map(str, check_settings(path, ENVIRON)))
    assert (f"server.pem: each handshake with RSA of {bits} bits holds all others" in told) is is_told


def test_a_relative_ledger_is_warned_of_with_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warned = f"warning: ledger.url: is relative: started here it is {tmp_path}/x/ledger.db, elsewhere another; "
    assert checked(tmp_path, ledger={"url": "sqlite:///x/ledger.db"}) == [f"{warned}write sqlite:////PATH"]
