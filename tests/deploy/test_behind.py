"""deploy/behind and docs/behind.md: each proxy that can be had here runs its file as it stands, but for places."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import pytest
import yaml

from gateway.config.settings import Settings
from gateway.units import seconds
from tests.support.backend import Backend
from tests.support.client import Client, Response
from tests.support.forms import form, image
from tests.support.fronts import front, needs, nginx_whole
from tests.support.gateway import AWAY_KEY, RESULT, Running, Start, client_context, request, submit
from tests.support.process import ROOT, free_port

BEHIND: Final = ROOT / "deploy" / "behind"
PAGE: Final = (ROOT / "docs" / "behind.md").read_text()
CLIENT, OTHER, PROXY = "127.0.0.7", "127.0.0.8", "127.0.0.1"  # the key `away` is for the first
LARGE: Final = 60_000_000
FORGED: Final = (f"X-Forwarded-For: {CLIENT}", f"Forwarded: for={CLIENT}", "X-Request-Id: chosen-by-the-client")
NETWORK: Final = {"allow": ["127.0.0.0/8"], "trusted_proxies": [f"{PROXY}/32"]}
FILES: Final = {
    "nginx.conf": "nginx",
    "haproxy.cfg": "haproxy",
    "haproxy-tcp.cfg": "haproxy",
    "envoy.yaml": "envoy",
}


class Places(NamedTuple):
    """Where things are in a test. `name` is what the gateway's certificate has to say."""

    certificates: Path
    directory: Path
    port: int
    gateway: int
    admin: int
    name: str = "gateway.test"


def configured(file: str, places: Places) -> str:
    """The file as it stands, but for addresses, ports, names and paths."""
    text = (BEHIND / file).read_text()
    (places.directory / "pair.pem").write_text(
        "".join((places.certificates / part).read_text() for part in ("server.pem", "server.key"))
    )
    certificates = str(places.certificates)
    for old, new in {
        "10.0.5.10:8443": f"127.0.0.1:{places.gateway}",
        "address: 10.0.5.10, port_value: 8443": f"address: 127.0.0.1, port_value: {places.gateway}",
        "listen 443 ssl": f"listen 127.0.0.1:{places.port} ssl",
        "bind :443": f"bind 127.0.0.1:{places.port}",
        "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {places.port}",
        "port 9090": f"port {places.admin}",
        "fall 2 ": "fall 5 ",  # the gateway is in this process, which may wait for a core for some seconds
        "port_value: 9090": f"port_value: {places.admin}",
        "gateway.internal.example.com": places.name,
        "documents.example.com": "gateway.test",
        "/etc/haproxy/documents.pem": f"{places.directory}/pair.pem",
        "/etc/haproxy/gateway-ca.pem": f"{certificates}/ca.pem",
        "/etc/nginx/documents.pem": f"{certificates}/server.pem",
        "/etc/nginx/documents.key": f"{certificates}/server.key",
        "/etc/nginx/gateway-ca.pem": f"{certificates}/ca.pem",
        "/etc/envoy/documents.pem": f"{certificates}/server.pem",
        "/etc/envoy/documents.key": f"{certificates}/server.key",
        "/etc/envoy/gateway-ca.pem": f"{certificates}/ca.pem",
    }.items():
        text = text.replace(old, new)
    assert not re.search(r"/etc/|10\.0\.5|example\.com|(?<!\d)(443|8443|9090)\b", re.sub(r"#.*", "", text)), text
    return nginx_whole(places.directory, text) if FILES[file] == "nginx" else text


@pytest.fixture(params=[pytest.param(file, marks=needs[program]) for file, program in FILES.items()])
def file(request: pytest.FixtureRequest) -> str:
    """A proxy's file."""
    name: str = request.param
    return name


Serve = Callable[..., Any]


@pytest.fixture
def serve(file: str, tmp_path: Path, certificates: Path) -> Serve:
    """Runs the file's proxy in front of a gateway; gives its port."""

    @asynccontextmanager
    async def serving(gateway: Running, **changed: Any) -> AsyncIterator[int]:
        places = Places(certificates, tmp_path, free_port(), gateway.port, gateway.admin_port)._replace(**changed)
        async with front(FILES[file], configured(file, places), tmp_path, places.port) as port:
            yield port

    return serving


@pytest.fixture
async def gateway(file: str, start: Start) -> Running:
    """A gateway that was told of the proxy as the page says."""
    return await start(network=NETWORK, listen={"proxy_protocol": file == "haproxy-tcp.cfg"})


async def ask(port: int, certificates: Path, asked: bytes, source: str = CLIENT) -> Response:
    async with await Client.connect(port, client_context(certificates), source=source) as client:
        return await client.ask(asked)


def refused(answer: Response, status: int, reason: str, title: str) -> None:
    """Asserts that a refusal is the gateway's, with its title as the reason phrase: the SDK shows nothing else."""
    assert (answer.status, answer.reason, answer.phrase) == (status, reason, title)
    assert json.loads(answer.body)["reason"] == reason


async def test_the_client_is_seen_and_can_claim_to_be_nobody_else(
    gateway: Running, backend: Backend, serve: Serve, certificates: Path, file: str
) -> None:
    async with serve(gateway) as port:
        gateway.own("job-1", "key:away")
        answer = await ask(port, certificates, request(key=AWAY_KEY))
        assert (answer.status, backend.requests[-1].values(b"x-forwarded-for")) == (200, [CLIENT.encode()])
        headers = FORGED if file != "haproxy-tcp.cfg" else FORGED[:1]  # else two kinds at once: a 400
        forged = await ask(port, certificates, request("GET", RESULT, *headers, key=AWAY_KEY), source=OTHER)
        refused(forged, 403, "address_denied", "Address not allowed")
    seen, denied = await gateway.finished(2)
    assert (seen["client"], denied["client"]) == (CLIENT, OTHER)
    assert denied["request_id"] != "chosen-by-the-client"
    assert forged.value(b"x-request-id") == denied["request_id"].encode()


async def test_a_large_upload_passes_as_it_comes(
    gateway: Running, backend: Backend, serve: Serve, certificates: Path
) -> None:
    body = form(image(b"x" * LARGE))
    whole = submit(body)
    early, rest = whole[:2_000_000], whole[2_000_000:]
    async with (
        serve(gateway) as port,
        await Client.connect(port, client_context(certificates), source=CLIENT) as client,
    ):
        client.send(early)
        await backend.facts.until(lambda: any(len(each.received) > 100_000 for each in backend.connections))
        await client.send_all(rest)
        assert (await client.response(b"POST", within=60)).status == 200
    (arrived,) = backend.requests
    assert arrived.body == body
    (event,) = await gateway.finished(1)
    assert (event["client"], event["received"]) == (CLIENT, len(body))


async def test_an_upload_that_is_refused_is_told_so(
    gateway: Running, backend: Backend, serve: Serve, certificates: Path
) -> None:
    """By the gateway's own words, and before the proxy has all of it."""
    async with (
        serve(gateway) as port,
        await Client.connect(port, client_context(certificates), source=CLIENT) as client,
    ):
        client.send(submit(form(image(b"x" * LARGE)), key="unknown")[:400_000])
        refused(await client.response(b"POST"), 401, "unauthenticated", "No valid credential")
    await backend.got_nothing()


async def test_its_certificate_is_verified(
    gateway: Running, backend: Backend, serve: Serve, certificates: Path, file: str
) -> None:
    """By the proxy, or by the client where the proxy passes TLS through."""
    async with serve(gateway, name="another.test") as port:
        if file == "haproxy-tcp.cfg":
            async with await Client.connect(port, client_context(certificates), source=CLIENT) as client:
                shown = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            first = (certificates / "server.pem").read_text().partition("-----END CERTIFICATE-----")
            assert shown == ssl.PEM_cert_to_DER_cert("".join(first[:2]))
            return
        answer = await ask(port, certificates, request())
        assert (answer.status, answer.reason) in {(502, None), (503, None)}
    await backend.got_nothing()
    assert gateway.requests == []


class Admin:
    """What a proxy asks whether the gateway is ready; its answers are the test's."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = list[bytes]()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *args: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


CHECKING: Final = [pytest.param(file, marks=needs[program]) for file, program in FILES.items() if program != "nginx"]


@pytest.mark.parametrize("file", CHECKING, indirect=True)
async def test_a_gateway_that_is_not_ready_gets_nothing(gateway: Running, serve: Serve, certificates: Path) -> None:
    async with Admin() as admin, serve(gateway, admin=admin.port) as port:
        await until(lambda: ask(port, certificates, request()), 200)
        admin.status = 503
        await until(lambda: ask(port, certificates, request()), 503, reset=True)
        admin.status = 200
        await until(lambda: ask(port, certificates, request()), 200)
    assert {asked.partition(b" HTTP")[0] for asked in admin.asked} == {b"GET /readyz"}


async def until(asking: Callable[[], Any], status: int, *, reset: bool = False) -> None:
    """Asks again and again until that is the answer; or, where TLS passes through, until nobody is there."""
    async with asyncio.timeout(15):
        while True:
            try:
                if (await asking()).status == status:
                    return
            except (OSError, EOFError):
                if reset:
                    return
            await asyncio.sleep(0.1)


async def test_readyz_tells_of_a_drain_at_once_and_the_open_health_path_does_not(start: Start) -> None:
    gateway = await start(shutdown={"drain_delay": "2s"})
    at_once = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.gateway.drain(at_once))
        await gateway.says("draining")
        assert (await gateway.admin("/readyz"))[0] == 503
        assert (await gateway.ask(request("GET", "/api/v1/health", key=None))).status == 200
        at_once.set()


# Timeouts: what a proxy allows is more than what the gateway waits, and its idle connections end first.

SILENCE: Final = {
    "nginx.conf": r"(?:proxy_read_timeout|proxy_send_timeout) (\d+s)",
    "haproxy.cfg": r"timeout (?:client|server) +(\d+s)",
    "haproxy-tcp.cfg": r"timeout (?:client|server) +(\d+s)",
    "envoy.yaml": r"stream_idle_timeout: (\d+s)",
    "aws-alb.yaml": r'idle_timeout.timeout_seconds, Value: "(\d+)"',
    "aws-nlb.yaml": r'tcp.idle_timeout.seconds, Value: "(\d+)"',
}
IDLE: Final = {
    "nginx.conf": r"keepalive_timeout (\d+s)",
    "envoy.yaml": r"\bidle_timeout: (\d+s) *# less",
}
LIFE: Final = {"nginx.conf": r"keepalive_time (\d+m)", "envoy.yaml": r"max_connection_duration: (\d+s)"}
LISTEN, UPSTREAM, JOBS, ADMIN = (
    Settings.model_fields[section].get_default(call_default_factory=True)
    for section in ("listen", "upstream", "jobs", "admin")
)


def told(file: str, patterns: dict[str, str]) -> list[float]:
    """The seconds that a file has for this."""
    found = re.findall(patterns[file], (BEHIND / file).read_text())
    assert found
    return [seconds(text if text[-1].isalpha() else f"{text}s") for text in found]


@pytest.mark.parametrize("file", SILENCE)
def test_an_answer_may_take_as_long_as_the_gateway_waits_for_it(file: str) -> None:
    assert min(told(file, SILENCE)) > max(UPSTREAM.read_timeout, JOBS.hold_limit)


@pytest.mark.parametrize("file", IDLE)
def test_a_proxy_lets_go_of_an_idle_connection_first(file: str) -> None:
    assert max(told(file, IDLE)) < LISTEN.idle_timeout
    assert max(told(file, LIFE)) < LISTEN.connection_lifetime


def test_the_alb_lets_go_of_an_idle_connection_first() -> None:
    (idle,) = re.findall(r"listen: \{idle_timeout: (\w+)\}", PAGE)
    assert seconds(idle) > max(told("aws-alb.yaml", SILENCE))


def test_no_proxy_judges_how_large_a_body_is() -> None:
    assert "client_max_body_size 0;" in (BEHIND / "nginx.conf").read_text()
    for name in ("haproxy.cfg", "envoy.yaml"):
        assert not re.search(r"buffer_filter|max_request_bytes|req\.body_size", (BEHIND / name).read_text())


# AWS: the templates are read, not deployed.


class _Template(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


_Template.add_multi_constructor("!", lambda loader, suffix, node: {suffix: loader.construct_scalar(node)})


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((BEHIND / name).read_text(), _Template)  # noqa: S506 -- a SafeLoader
    return found


@pytest.mark.parametrize("name", ["aws-alb.yaml", "aws-nlb.yaml"])
def test_the_templates_refer_to_what_is_in_them_and_ask_the_admin_listener(name: str) -> None:
    made = template(name)
    known = {*made["Parameters"], *made["Resources"]}
    text = (BEHIND / name).read_text()
    assert set(re.findall(r"!(?:Ref|GetAtt) (\w+)", text)) <= known
    assert all(re.search(rf"!Ref {parameter}\b", text) for parameter in made["Parameters"])
    group = made["Resources"]["Gateways"]["Properties"]
    assert (group["Port"], group["HealthCheckPort"]) == (LISTEN.port, str(ADMIN.port))
    assert (group["HealthCheckProtocol"], group["HealthCheckPath"]) == ("HTTP", "/readyz")


def test_the_page_tells_how_soon_the_balancers_notice_a_drain() -> None:
    group = template("aws-alb.yaml")["Resources"]["Gateways"]["Properties"]
    notices = group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"]
    (delay,) = re.findall(r"shutdown: \{drain_delay: (\w+)\}", PAGE)
    assert seconds(delay) > notices + group["HealthCheckTimeoutSeconds"]


# The page


def test_the_page_names_each_file_and_no_other() -> None:
    there = {path.name for path in BEHIND.iterdir()}
    assert set(re.findall(r"\.\./deploy/behind/([\w.-]+)\)", PAGE)) == there


def bare(text: str) -> list[str]:
    """The lines of an HAProxy's file without comments and indentation."""
    return [line for told in text.splitlines() if (line := told.partition("#")[0].strip())]


def test_the_file_for_a_move_is_the_usual_one_without_a_check_and_tries_again() -> None:
    usual = bare((BEHIND / "haproxy-tcp.cfg").read_text())
    moved = bare((BEHIND / "haproxy-move.cfg").read_text())
    usual = [line for line in usual if not line.startswith(("option httpchk", "http-check"))]
    usual = [line.partition(" check ")[0] for line in usual]
    assert [line for line in moved if line != "retries 60"] == usual
    assert "retries 60" in moved


def test_the_page_of_the_ledger_shows_the_file_for_a_move() -> None:
    page = (ROOT / "docs" / "ledger.md").read_text()
    found = re.search(r"^    defaults\n(?:^    .*\n)+", page, re.MULTILINE)
    assert found
    assert ["global", "maxconn 4000", *bare(found[0])] == bare((BEHIND / "haproxy-move.cfg").read_text())
