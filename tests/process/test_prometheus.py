"""/metrics as Prometheus reads it: its own linter, and a real server that scrapes."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.support.process import (
    DEADLINE,
    Process,
    Served,
    Upstream,
    call,
    configure,
    eventually,
    free_port,
    serving,
    start,
    trusting,
)

TOKEN = "canary-token-of-the-admin-9d2f"


def use(served: Served, certificates: Path) -> None:
    """Something to count: an upload, a poll, a refusal, a path that is not there."""
    context = trusting(certificates)
    with closing(
        http.client.HTTPSConnection("127.0.0.1", served.port, timeout=DEADLINE, context=context)
    ) as connection:
        start(connection, "job")
        assert call(connection, "/api/v1/marker/job")[0] == 200
        assert call(connection, "/nowhere")[0] == 404
        connection.request("GET", "/api/v1/usage", headers={"X-API-Key": "wrong"})
        response = connection.getresponse()
        response.read()
        assert response.status == 401


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_has_nothing_to_say(served: Served, certificates: Path) -> None:
    use(served, certificates)
    status, text = served.admin("/metrics")
    assert status == 200
    done = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 -- found on the PATH
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@contextmanager
def prometheus(directory: Path, certificates: Path, served: Served) -> Iterator[int]:
    """A real Prometheus that scrapes a gateway with a token over TLS; the port of its API."""
    (directory / "token").write_text(TOKEN)
    job = {
        "job_name": "gateway",
        "scheme": "https",
        "authorization": {"credentials_file": str(directory / "token")},
        "tls_config": {"ca_file": str(certificates / "ca.pem")},
        "static_configs": [{"targets": [f"127.0.0.1:{served.admin_port}"]}],
    }
    scraping = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    (directory / "prometheus.yml").write_text(yaml.safe_dump({"global": scraping, "scrape_configs": [job]}))
    port = free_port()
    command = (
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with Process(command, directory) as process:
        process.line(lambda line: "Server is ready to receive web requests" in line)
        yield port


def ask(port: int, query: str) -> list[dict[str, Any]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("GET", f"/api/v1/query?query={quote(query)}")
        answer = json.loads(connection.getresponse().read())
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_real_prometheus_scrapes(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    pair = {"certificate": str(certificates / "server.pem"), "private_key": str(certificates / "server.key")}
    admin = {"port": 0, "token": {"env": "ADMIN_TOKEN"}, "tls": pair}
    path = configure(tmp_path, certificates, upstream.url, admin=admin)
    with serving(path, {"ADMIN_TOKEN": TOKEN}) as served:
        use(served, certificates)
        with prometheus(tmp_path, certificates, served) as port:
            (up,) = eventually(lambda: ask(port, 'up{job="gateway"} == 1'))
            assert up["value"][1] == "1"
            requests = {
                (row["metric"]["route"], row["metric"]["method"], row["metric"]["status"], row["metric"]["reason"])
                for row in ask(port, "gateway_requests_total")
            }
            assert requests == {
                ("submit", "POST", "200", "forwarded"),
                ("result", "GET", "200", "forwarded"),
                ("unmatched", "GET", "404", "route_not_found"),
                ("usage", "GET", "401", "unauthenticated"),
            }
            (quantile,) = ask(
                port,
                'histogram_quantile(0.9, sum by (le) (gateway_request_duration_seconds_bucket{route="submit"}))',
            )
            assert float(quantile["value"][1]) > 0
