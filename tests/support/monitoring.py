"""A gateway that was used in every way, with a real Prometheus that has seen it: started from deploy/prometheus."""

import http.client
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGHUP
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from tests.support.alertrules import PROMETHEUS
from tests.support.forms import FORM_TYPE, form, pdf
from tests.support.process import KEY, Process, Served, configure, eventually, free_port, serving, trusting
from tests.support.tokens import jwk_of, jwks_of, make_token, p256_key

TOKEN: Final = "canary-token-of-the-scrape-51fe"
POOR_KEY: Final = "canary-key-of-small-budget-0b7c"
PATIENCE: Final = 120.0
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus or promtool is not installed (Debian: prometheus)",
)
_BAD_LOGINS: Final = 3

# What has to be seen before the queries of the dashboard make sense: all of it grows in each round of `Site.use`.
_SEEN: Final = (
    'gateway:requests:rate5m{source="none"} > 0',
    'gateway:requests:rate5m{reason="too_many_bad_logins",source="client"} > 0',
    'gateway:errors:ratio_rate5m{source="client"} > 0',
    "gateway:logins_failed:ratio_rate5m > 0",
    "gateway:polls_slow:ratio_rate5m >= 0",
    "gateway:overhead_slow:ratio_rate5m >= 0",
    'increase(gateway_webhook_deliveries_total{result="delivered"}[5m]) > 0',
    'increase(gateway_webhook_deliveries_total{result="dead"}[5m]) > 0',
    'gateway_webhooks{state="dead"} > 0',
    'increase(gateway_connections_refused_total{why="handshake"}[5m]) > 0',
    'increase(gateway_config_reloads_total{result="success"}[5m]) > 0',
    'rate(gateway_pages_total{kind="settled"}[5m]) > 0',
    'gateway_limit_used_ratio{key="poor",limit="pages_per_month"} >= 1',
    'gateway_jobs{state="complete"} > 0',
    "gateway_jwks_age_seconds > 0",
    "gateway_ledger_up == 1",
    "gateway_upstream_up == 1",
)


class Prometheus(NamedTuple):
    """A running server."""

    process: Process
    port: int

    def api(self, path: str) -> Any:
        """The `data` of an answer of its API."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", f"/api/v1/{path}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series that a query gives, now or at a moment."""
        moment = "" if at is None else f"&time={at:.3f}"
        result: list[dict[str, Any]] = self.api(f"query?query={quote(query, safe='')}{moment}")["result"]
        return result

    def sees(self, query: str) -> None:
        """Waits until a query has an answer."""
        eventually(lambda: self.ask(query), PATIENCE)


class Answer(NamedTuple):
    """An answer of the gateway."""

    status: int
    reason: str | None
    content: Any


class Site:
    """The gateway with all that is around it: container, receiver of webhooks, token issuer."""

    def __init__(self, certificates: Path, gateway: Served, container: Process, hook: str, issuer: str) -> None:
        self._tls = trusting(certificates)
        self._gateway = gateway
        self.admin_port = gateway.admin_port
        self.container = container
        self._hook = hook
        self._issuer = issuer

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; as KEY, unless headers say otherwise (`_` stands for `-`)."""
        own = {name.replace("_", "-"): value for name, value in headers.items()} or {"X-API-Key": KEY}
        if body is not None:
            own["Content-Type"] = FORM_TYPE
        connection = http.client.HTTPSConnection("localhost", self._gateway.port, timeout=PATIENCE, context=self._tls)
        with closing(connection):
            connection.request("GET" if body is None else "POST", path, body=body, headers=own)
            response = connection.getresponse()
            content = json.loads(response.read() or "null")
            return Answer(response.status, response.headers["X-Gateway-Reason"], content)

    def convert(self, **fields: str) -> None:
        """A job from its submit to its result."""
        taken = self.ask("/api/v1/marker", body=form(pdf(2), **fields))
        assert taken.status == 200, taken
        path = f"/api/v1/marker/{taken.content['request_id']}"
        assert self.ask(path).status == 200
        done = self.ask(path, X_API_Key=KEY, Prefer="wait=30")
        assert done.content["status"] == "complete", done

    def use(self) -> None:
        """A round of all that there is to count."""
        self._gateway.process.send(SIGHUP)
        self.convert(webhook_url=self._hook)
        self.convert(webhook_url=self._hook.replace("/hook", "/nobody-takes-this"))
        token = make_token(iss=self._issuer, exp=int(time.time()) + 300).decode()
        assert self.ask("/gateway/v1/me", Authorization=f"Bearer {token}").status == 200
        spoilt = self.ask("/gateway/v1/me", Authorization=f"Bearer {token}x")
        assert spoilt.reason in {"token_invalid", "too_many_bad_logins"}
        assert self.ask("/nowhere").reason == "route_not_found"
        assert self.ask("/api/v1/marker/nobodys").reason == "job_not_found"
        wrong = [self.ask("/gateway/v1/me", X_API_Key="wrong").reason for _ in range(3 * _BAD_LOGINS)]
        assert "too_many_bad_logins" in wrong
        refused = [self.ask("/api/v1/marker", body=form(pdf(3)), X_API_Key=POOR_KEY).reason for _ in range(3)]
        assert refused[-1] == "budget_exhausted"
        with socket.create_connection(("127.0.0.1", self._gateway.port), timeout=PATIENCE) as connection:
            connection.sendall(b"this is no TLS\r\n\r\n")
            with closing(connection.makefile("rb")) as answer:
                answer.read()

    def counted(self) -> float:
        """How many requests the gateway says that it has had."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            text = connection.getresponse().read().decode()
        lines = (line for line in text.splitlines() if line.startswith("gateway_requests_total{"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class Seen(NamedTuple):
    """A site, the server that scrapes it, and a moment at which the server had seen all that `Site.use` does."""

    site: Site
    prometheus: Prometheus
    at: float


@contextmanager
def seen(directory: Path, certificates: Path) -> Iterator[Seen]:
    """Starts all of it, uses it twice, and waits until Prometheus has seen that."""
    with ExitStack() as stack:
        site = stack.enter_context(_site(directory, certificates))
        server = stack.enter_context(prometheus(_copy(directory), site.admin_port))
        for _ in range(2):
            site.use()
            server.sees(f"sum(gateway_requests_total) >= {site.counted()}")
        for query in _SEEN:
            server.sees(query)
        ((at, _),) = (row["value"] for row in server.ask("vector(1)"))
        yield Seen(site, server, float(at))


@contextmanager
def prometheus(directory: Path, admin_port: int) -> Iterator[Prometheus]:
    """Prometheus on a copy of deploy/prometheus, in front of an admin listener."""
    (directory / "targets/gateways.yml").write_text(f'- targets: ["127.0.0.1:{admin_port}"]\n')
    for attempt in range(3):  # the port that is free now may be taken a moment later
        port = free_port()
        command = (
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with Process(command, directory) as process:
            try:
                process.line(lambda line: "Server is ready to receive web requests" in line, PATIENCE)
            except AssertionError:
                if attempt == 2 or "address already in use" not in process.output:
                    raise
                continue
            yield Prometheus(process, port)
            return


def _copy(directory: Path) -> Path:
    """deploy/prometheus as an operator would have it, only that it scrapes and judges each second."""
    made = directory / "prometheus"
    shutil.copytree(PROMETHEUS, made)
    (made / "token").write_text(TOKEN + "\n")
    configuration = made / "prometheus.yml"
    text = configuration.read_text()
    assert text.count("_interval: 15s") == 2
    configuration.write_text(text.replace("_interval: 15s", "_interval: 1s"))
    return made


@contextmanager
def _site(directory: Path, certificates: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        command = (sys.executable, "-m", "gateway.demo.container", "--port", "0", "--processing-time", "0.3")
        container = stack.enter_context(Process(command))
        upstream = container.line(lambda line: "ready on " in line, PATIENCE).rpartition(" ")[2]
        hook = stack.enter_context(_receiver(directory, certificates))
        issuer = stack.enter_context(_issuer())
        path = _configure(directory, certificates, upstream, issuer)
        gateway = stack.enter_context(serving(path))
        yield Site(certificates, gateway, container, hook, issuer)


def _configure(directory: Path, certificates: Path, upstream: str, issuer: str) -> Path:
    (directory / "admin-token.txt").write_text(TOKEN + "\n")
    (directory / "poor.txt").write_text(POOR_KEY + "\n")
    (directory / "data").mkdir()
    poor = {"pages_per_month": 3}
    return configure(
        directory,
        certificates,
        upstream,
        network={"allow": ["127.0.0.0/8"], "login_failures_per_minute": _BAD_LOGINS},
        keys=[
            {"id": "ci", "secret": {"file": str(directory / "key.txt")}, "limits": {"pages_per_month": 100_000}},
            {"id": "poor", "secret": {"file": str(directory / "poor.txt")}, "limits": poor},
        ],
        authentication={"jwt": [{"issuer": issuer, "audience": "gateway", "jwks": f"{issuer}/keys"}]},
        webhooks={
            "out": {
                "secret": {"file": str(directory / "webhook-secret.txt")},
                "allow": ["localhost"],
                "ca": str(certificates / "ca.pem"),
            }
        },
        admin={"port": 0, "token": {"file": str(directory / "admin-token.txt")}},
    )


@contextmanager
def _receiver(directory: Path, certificates: Path) -> Iterator[str]:
    for name in ("server.pem", "server.key"):
        (directory / name).symlink_to(certificates / name)
    (directory / "webhook-secret.txt").write_text("secret-of-the-webhooks-0123")
    with Process((sys.executable, "-m", "gateway.demo.receiver", str(directory), "--port", "0")) as process:
        line = process.line(lambda line: line.startswith("receiving at "), PATIENCE)
        yield line.removeprefix("receiving at ").strip()


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = jwks_of(jwk_of(p256_key(), kid="one"))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name that http.server gives it
        """Says nothing."""


@contextmanager
def _issuer() -> Iterator[str]:
    """A token issuer in this process, whose keys can be fetched."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Keys) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(PATIENCE)
