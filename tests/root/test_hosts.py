"""Several hosts: who reaches what, and whose address meets the allowlist. Real processes, in network namespaces."""

import json
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from gateway.demo.sample import sample_pdf
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.hosts import Host, network
from tests.support.process import GATEWAY, KEY, Process, configure, eventually

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("machine")]

_NAME: Final = "gateway.test"
_CLIENT, _STRANGER, _GATEWAY, _INNER, _BALANCER, _CARELESS = 10, 66, 1, 2, 3, 4
_TAIL: Final = "\n%header{x-request-id} %{http_code}"
_ME: Final = "/gateway/v1/me"
_CURL_COULD_NOT_CONNECT: Final = 7
_FAMILIES: Final = ["ipv4", "ipv6"]
# HAProxy's two ports, one for each version of the PROXY protocol.
_VERSIONS: Final = {"v1": 8441, "v2": 8442}
_HAPROXY: Final = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend v1
  bind {ipv4}:8441
  bind [{ipv6}]:8441
  default_backend v1
frontend v2
  bind {ipv4}:8442
  bind [{ipv6}]:8442
  default_backend v2
backend v1
  server inner {inner}:8443 send-proxy
backend v2
  server inner {inner}:8443 send-proxy-v2
"""
# Tries ports 1 to 10000 of an address, one after the other, and prints those that take a connection.
_SCAN: Final = """
import socket, sys
for port in range(1, 10_001):
    try:
        socket.create_connection((sys.argv[1], port), timeout=10).close()
    except ConnectionRefusedError:
        continue
    print(port)
"""
# Begins with a PROXY header that says it is somebody else, then waits for what the other side does.
_LIE: Final = """
import socket, sys
address, header = sys.argv[1], bytes.fromhex(sys.argv[2])
with socket.create_connection((address, 8443), timeout=60) as connection:
    connection.sendall(header + b"GET / HTTP/1.1\\r\\nHost: gateway.test\\r\\n\\r\\n")
    try:
        print("said", connection.recv(4096))
    except ConnectionResetError:
        print("said", b"")
"""


class Answer(NamedTuple):
    """What curl got."""

    status: int
    body: str
    request_id: str

    @property
    def json(self) -> dict[str, Any]:
        """The body, read."""
        body: dict[str, Any] = json.loads(self.body)
        return body


class Site(NamedTuple):
    """The hosts, the two gateways, and where their files are."""

    hosts: dict[str, Host]
    outer: Process
    inner: Process
    directory: Path

    @property
    def client(self) -> Host:
        """A host that network.allow has, in both families."""
        return self.hosts["client"]

    @property
    def stranger(self) -> Host:
        """One on the same network that it has not."""
        return self.hosts["stranger"]

    @property
    def gateway(self) -> Host:
        """The gateway's: it listens on ::, its container on 127.0.0.1."""
        return self.hosts["gateway"]

    @property
    def balancer(self) -> Host:
        """HAProxy's, before another gateway, which listens on 0.0.0.0."""
        return self.hosts["balancer"]

    def curl(self, host: Host, to: str, path: str, *more: str, port: int = 8443) -> Answer:
        """Asks a gateway by curl from a host."""
        literal = f"[{to}]" if ":" in to else to
        code, output = host.run(
            *("curl", "-sS", "--noproxy", "*", "--max-time", "60", "--cacert", str(self.directory / "ca.pem")),
            *("--resolve", f"{_NAME}:{port}:{literal}", "-H", f"X-API-Key: {KEY}", "-w", _TAIL, *more),
            f"https://{_NAME}:{port}{path}",
        )
        assert code == 0, output
        body, _, tail = output.rpartition("\n")
        request_id, _, status = tail.partition(" ")
        return Answer(int(status), body, request_id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for command, package in (("curl", "curl"), ("haproxy", "haproxy")):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed (Debian: {package})")
    directory = tmp_path_factory.mktemp("hosts")
    make_development_certificates(directory, [_NAME])
    (directory / "sample.pdf").write_bytes(sample_pdf())
    numbers = {"client": _CLIENT, "stranger": _STRANGER, "gateway": _GATEWAY, "inner": _INNER}
    with ExitStack() as stack:
        hosts = stack.enter_context(network(**numbers, balancer=_BALANCER, careless=_CARELESS))
        outer = _gateway(stack, hosts["gateway"], directory, hosts, address="::")
        inner = _gateway(stack, hosts["inner"], directory, hosts, address="0.0.0.0", proxy_protocol=True)  # noqa: S104
        _balancer(stack, hosts, directory)
        yield Site(hosts, outer, inner, directory)


def _container(stack: ExitStack, host: Host, address: str) -> None:
    command = (sys.executable, "-m", "gateway.demo.container", "--host", address, "--processing-time", "0")
    process = stack.enter_context(host.start(*command))
    process.line(lambda line: line.startswith("container ready"))


def _gateway(stack: ExitStack, host: Host, directory: Path, hosts: dict[str, Host], **listen: Any) -> Process:
    _container(stack, host, "127.0.0.1")
    path = _configure(directory / host.namespace, directory, hosts, listen)
    process = stack.enter_context(host.start(*GATEWAY, "serve", "--config", str(path), cwd=path.parent))
    process.line(lambda line: '"listening"' in line)
    process.line(lambda line: '"upstream is up"' in line)
    return process


def _configure(
    own: Path,
    certificates: Path,
    hosts: dict[str, Host],
    listen: dict[str, Any],
    upstream: str = "http://127.0.0.1:8000",
) -> Path:
    client, balancer = hosts["client"], hosts["balancer"]
    own.mkdir()
    return configure(
        own,
        certificates,
        upstream,
        listen={"port": 8443, **listen},
        network={"allow": [client.ipv4, client.ipv6], "trusted_proxies": [balancer.ipv4, balancer.ipv6]},
        admin={"port": 9090},
    )


def _balancer(stack: ExitStack, hosts: dict[str, Host], directory: Path) -> None:
    host = hosts["balancer"]
    path = directory / "haproxy.cfg"
    path.write_text(_HAPROXY.format(ipv4=host.ipv4, ipv6=host.ipv6, inner=hosts["inner"].ipv4))
    process = stack.enter_context(host.start("haproxy", "-db", "-f", str(path)))
    url = f"{host.ipv4}:{_VERSIONS['v2']}"
    eventually(lambda: _plainly(host, url)[0] != _CURL_COULD_NOT_CONNECT or not process.is_running)
    assert process.is_running, process.output


def _address(host: Host, family: str) -> str:
    return host.ipv4 if family == "ipv4" else host.ipv6


def _requests(process: Process) -> list[dict[str, Any]]:
    """The request events of a gateway's log."""
    return [event for line in process.lines if (event := json.loads(line))["event"] == "request"]


def _event(process: Process, answer: Answer) -> dict[str, Any]:
    """The event of an answer, which comes a moment after it."""
    wanted = f'"{answer.request_id}"'
    event: dict[str, Any] = json.loads(process.line(lambda line: '"request"' in line and wanted in line))
    assert event["status"] == answer.status
    return event


def _is_refused_for_its_address(answer: Answer) -> bool:
    return answer.status == 403 and answer.json["reason"] == "address_denied"


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_client_host_converts_a_document(site: Site, family: str) -> None:
    to = _address(site.gateway, family)
    answer = site.curl(site.client, to, "/api/v1/marker", "-F", f"file=@{site.directory}/sample.pdf")
    assert answer.status == 200, answer
    event = _event(site.outer, answer)
    assert (event["client"], event["peer"]) == (_address(site.client, family),) * 2

    path = answer.json["request_check_url"].removeprefix(f"https://{_NAME}:8443")
    answer = site.curl(site.client, to, path, "-H", "Prefer: wait=30")
    assert answer.status == 200, answer
    assert (answer.json["status"], answer.json["page_count"]) == ("complete", 3)
    assert answer.json["markdown"]


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_client_host_reaches_no_port_but_the_gateways(site: Site, family: str) -> None:
    code, found = site.client.run(sys.executable, "-c", _SCAN, _address(site.gateway, family), within=240)
    assert (code, found.split()) == (0, ["8443"])


def test_what_is_out_of_reach_stands_on_the_loopback_address(site: Site) -> None:
    for port, path in ((8000, "/health_check"), (9090, "/livez")):
        assert _plainly(site.gateway, f"127.0.0.1:{port}{path}") == (0, "200")
        for address in (site.gateway.ipv4, f"[{site.gateway.ipv6}]"):
            code, output = _plainly(site.client, f"{address}:{port}{path}")
            assert code == _CURL_COULD_NOT_CONNECT, output


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("request_", [("/api/v1/marker", "-F", "mode=fast"), ("/api/v1/marker/1",), (_ME,)])
def test_a_stranger_on_the_same_network_is_refused(site: Site, family: str, request_: tuple[str, ...]) -> None:
    answer = site.curl(site.stranger, _address(site.gateway, family), *request_)
    assert _is_refused_for_its_address(answer), answer
    event = _event(site.outer, answer)
    assert (event["client"], event["reason"]) == (_address(site.stranger, family), "address_denied")


@pytest.mark.parametrize("header", ["X-Forwarded-For: {}", "Forwarded: for={}", "X-Real-IP: {}"])
def test_a_strangers_word_about_its_address_is_not_taken(site: Site, header: str) -> None:
    claim = header.format(site.client.ipv4)
    assert _is_refused_for_its_address(site.curl(site.stranger, site.gateway.ipv4, _ME, "-H", claim))


def test_a_dual_stack_listener_meets_ipv4_clients_by_their_ipv4_address(site: Site) -> None:
    """The socket shows them as ::ffff:10.77.0.10; the allowlist has 10.77.0.10, and no such IPv6 network."""
    mapped = f"::ffff:{site.gateway.ipv4}"
    answer = site.curl(site.client, mapped, _ME)
    assert (answer.status, _event(site.outer, answer)["client"]) == (200, site.client.ipv4)
    answer = site.curl(site.stranger, mapped, _ME)
    assert _is_refused_for_its_address(answer), answer
    assert _event(site.outer, answer)["client"] == site.stranger.ipv4


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("version", _VERSIONS)
def test_behind_haproxy_the_clients_own_address_meets_the_allowlist(site: Site, version: str, family: str) -> None:
    to, port = _address(site.balancer, family), _VERSIONS[version]
    answer = site.curl(site.client, to, _ME, port=port)
    assert answer.status == 200, answer
    event = _event(site.inner, answer)
    assert (event["client"], event["peer"]) == (_address(site.client, family),) * 2

    answer = site.curl(site.stranger, to, _ME, port=port)
    assert _is_refused_for_its_address(answer), answer
    event = _event(site.inner, answer)
    assert (event["client"], event["peer"]) == (_address(site.stranger, family),) * 2


def test_behind_haproxy_a_document_is_converted(site: Site) -> None:
    file = ("-F", f"file=@{site.directory}/sample.pdf")
    answer = site.curl(site.client, site.balancer.ipv4, "/api/v1/marker", *file, port=_VERSIONS["v2"])
    assert (answer.status, answer.json["success"]) == (200, True)


def test_haproxys_own_address_is_not_let_in(site: Site) -> None:
    """It is trusted to say who others are, and allowed nothing itself."""
    answer = site.curl(site.balancer, site.balancer.ipv4, _ME, port=_VERSIONS["v2"])
    assert _is_refused_for_its_address(answer), answer


def test_who_goes_around_haproxy_is_met_by_his_own_address(site: Site) -> None:
    inner = site.hosts["inner"]
    assert site.curl(site.client, inner.ipv4, _ME).status == 200
    assert _is_refused_for_its_address(site.curl(site.stranger, inner.ipv4, _ME))


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_stranger_that_speaks_proxy_itself_is_cut_off(site: Site, version: str) -> None:
    inner, client = site.hosts["inner"], site.client
    before = _event(site.inner, site.curl(client, inner.ipv4, _ME))
    code, said = site.stranger.run(sys.executable, "-c", _LIE, inner.ipv4, _header(version, client, inner).hex())
    assert (code, "HTTP/" in said) == (0, False), said
    after = _event(site.inner, site.curl(client, inner.ipv4, _ME))
    events = _requests(site.inner)
    assert events.index(after) == events.index(before) + 1, "nothing was made of it"


def _header(version: str, source: Host, to: Host) -> bytes:
    """A PROXY header for TCP over IPv4, from port 40000."""
    if version == "v1":
        return f"PROXY TCP4 {source.ipv4} {to.ipv4} 40000 8443\r\n".encode()
    octets = IPv4Address(source.ipv4).packed + IPv4Address(to.ipv4).packed
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H8sHH", 12, octets, 40000, 8443)


def test_check_live_finds_no_way_around_the_gateway(site: Site) -> None:
    own = site.directory / site.gateway.namespace
    code, output = site.gateway.run(*GATEWAY, "check", "--live", "--config", str(own / "gateway.yaml"), cwd=own)
    assert (code, "fault" in output) == (0, False), output
    assert "port 8000 is reached on the loopback address alone" in output


@pytest.mark.parametrize(("family", "address"), [("ipv4", "0.0.0.0"), ("ipv6", "::")])  # noqa: S104
def test_check_live_finds_the_container_that_others_can_reach(
    site: Site, family: str, address: str, tmp_path: Path
) -> None:
    host = site.hosts["careless"]
    loopback, reached = ("127.0.0.1", host.ipv4) if family == "ipv4" else ("[::1]", f"[{host.ipv6}]")
    path = _configure(tmp_path / "careless", site.directory, site.hosts, {}, f"http://{loopback}:8000")
    with ExitStack() as stack:
        _container(stack, host, address)
        code, output = host.run(*GATEWAY, "check", "--live", "--config", str(path), cwd=path.parent)
        assert _plainly(site.client, f"{reached}:8000/health_check") == (0, "200")
    around = f"the upstream can be reached around the gateway at {_address(host, family)} port 8000"
    assert (code, [line for line in output.splitlines() if line.startswith("fault: ")]) == (
        1,
        [f"fault: {around}; bind it to 127.0.0.1"],
    )


def _plainly(host: Host, url: str) -> tuple[int, str]:
    """Asks by curl over plain HTTP: curl's exit code, and the status or its complaint."""
    options = ("-sS", "--noproxy", "*", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}")
    return host.run("curl", *options, f"http://{url}")
