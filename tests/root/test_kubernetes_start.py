"""The gateway of deploy/kubernetes, started with exactly what is rendered.

Its ConfigMap, command, arguments, environment, mounts and user, and a read-only root, in a network of its own: ports
and addresses are the pod's, too. There is no kubelet: tests/support/podsandbox.py does its part.
"""

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGTERM
from typing import Final, NamedTuple

import pytest

from gateway.demo.sample import sample_pdf
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.kubernetes import (
    ADMIN_TOKEN,
    OVERLAYS,
    ROOT,
    ProjectedVolume,
    Rendered,
    mount_path,
    needs_kubectl,
    pod_data,
    render,
    volume,
)
from tests.support.podsandbox import ADDRESS, Sandbox, needs_namespaces, sandbox
from tests.support.process import Process, eventually

pytestmark = [
    needs_kubectl,
    needs_namespaces,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on the PATH"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("machine"),
]
USER: Final = 10001
NAME: Final = "document-gateway.document-gateway.svc"
CONFIG: Final = ("--config", "/etc/gateway/gateway.yaml")


class Pod(NamedTuple):
    """A gateway that runs in its pod."""

    rendered: Rendered
    sandbox: Sandbox
    process: Process
    volumes: dict[str, Path]
    certificates: Path
    configuration: ProjectedVolume
    ledger_url: str

    def probe(self, name: str) -> int:
        """Asks as the kubelet would: by the pod's address, the port's number, and the rendered path."""
        asked = self.rendered.container[name]["httpGet"]
        (port,) = (
            each["containerPort"] for each in self.rendered.container["ports"] if each["name"] == asked["port"]
        )
        return self._status(f"http://{ADDRESS}:{port}{asked['path']}")

    def metrics(self, token: str) -> int:
        """Asks as Prometheus would."""
        return self._status(f"http://{ADDRESS}:9090/metrics", "-H", f"Authorization: Bearer {token}")

    def ask(self, path: str, *options: str, authority: Path | None = None) -> tuple[int, str]:
        """Asks as a client of the Service would, by its name and port 443: status and body."""
        ca = (authority or self.certificates) / "ca.pem"
        leads = ("--connect-to", f"{NAME}:443:{ADDRESS}:8443")
        where = ("-sS", "-m", "60", "-w", "\n%{http_code}", *leads, "--cacert", str(ca))
        body, _, status = self.sandbox.output(
            *self.sandbox.beside("curl", *where, *options, f"https://{NAME}{path}")
        ).rpartition("\n")
        return int(status), body

    def run(self, *arguments: str) -> str:
        """What `kubectl exec deploy/document-gateway -- gateway ...` does."""
        return self.sandbox.output(*self.sandbox.inside("gateway", *arguments, *CONFIG))

    def _status(self, url: str, *options: str) -> int:
        command = self.sandbox.beside(
            "curl", "-s", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}", *options, url
        )
        return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout)  # noqa: S603


def as_fsgroup_leaves_it(path: Path) -> Path:
    """An empty volume, once the kubelet has given it to the pod's group."""
    path.mkdir()
    os.chown(path, 0, USER)
    path.chmod(0o2775)
    return path


@pytest.fixture
def ledger(overlay: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the Secret gateway-ledger holds, and what has to be mounted for it: a PostgreSQL, by its socket."""
    if overlay == "sidecar":
        yield "", ()
        return
    server = request.getfixturevalue("postgres")
    name = server.database()
    there = Path(server.url_of(name).partition("?host=")[2]) / ".s.PGSQL.5432"
    yield server.url_of(name, "/run/postgresql"), (f"r:{there}", "/run/postgresql/.s.PGSQL.5432")
    server.drop(name)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def pod(overlay: str, tmp_path: Path, ledger: tuple[str, tuple[str, ...]]) -> Iterator[Pod]:
    rendered = render(overlay)
    certificates = tmp_path / "certificates"
    make_development_certificates(certificates, [NAME])
    url, mounts = ledger
    projected = volume(rendered.pod, "configuration")["projected"]
    group = rendered.pod["securityContext"]["fsGroup"]
    names = [mount["name"] for mount in rendered.container["volumeMounts"]]
    volumes = {name: as_fsgroup_leaves_it(tmp_path / name) for name in names}
    configuration = ProjectedVolume(volumes["configuration"], projected["sources"], group)
    configuration.write(pod_data(rendered, certificates, url), projected["defaultMode"])
    with sandbox(tmp_path, rendered, volumes, *mounts) as made:
        container = made.beside(
            sys.executable, "-m", "gateway.demo.container", "--host", "127.0.0.1", "--port", "8000"
        )
        started = made.inside(*rendered.container["command"], *rendered.container["args"])
        with Process(container), Process(started) as process:
            process.line(lambda line: '"listening"' in line)
            yield Pod(rendered, made, process, volumes, certificates, configuration, url)


def status_field(process: Process, name: str) -> str:
    text = Path(f"/proc/{process.pid}/status").read_text()
    (value,) = re.findall(rf"^{name}:\s*(.*)$", text, re.MULTILINE)
    return str(value)


def test_it_is_ready_serves_and_ends_as_the_pod_says(pod: Pod) -> None:
    eventually(lambda: all(pod.probe(name) == 200 for name in ("startupProbe", "livenessProbe", "readinessProbe")))
    assert (pod.metrics(ADMIN_TOKEN), pod.metrics("wrong")) == (200, 401)
    assert {status_field(pod.process, "Uid"), status_field(pod.process, "Gid")} == {"\t".join([str(USER)] * 4)}
    assert int(status_field(pod.process, "CapEff"), 16) == int(status_field(pod.process, "CapBnd"), 16) == 0

    key = pod.run("keys", "create", "first").strip()
    eventually(lambda: pod.ask("/gateway/v1/me", "-H", f"X-API-Key: {key}")[0] == 200)
    sample = pod.certificates / "sample.pdf"
    sample.write_bytes(sample_pdf())
    status, body = pod.ask("/api/v1/marker", "-H", f"X-API-Key: {key}", "-F", f"file=@{sample}")
    submitted = json.loads(body)
    assert (status, submitted["success"]) == (200, True)
    path = submitted["request_check_url"].removeprefix(f"https://{NAME}")

    def result() -> str:
        answer = json.loads(pod.ask(path, "-H", f"X-API-Key: {key}")[1])
        return str(answer["markdown"]) if answer["status"] == "complete" else ""

    eventually(result)
    assert "first" in pod.run("keys", "list")
    assert pod.run("check").count("fault") == 0

    begun = time.monotonic()
    pod.process.send(SIGTERM)
    assert pod.process.exit_code(pod.rendered.pod["terminationGracePeriodSeconds"]) == 0
    assert time.monotonic() - begun < pod.rendered.pod["terminationGracePeriodSeconds"] - 15


def test_it_can_write_nowhere_but_where_a_volume_is(pod: Pod) -> None:
    eventually(lambda: pod.probe("readinessProbe") == 200)
    writable = {mount["mountPath"] for mount in pod.rendered.container["volumeMounts"] if not mount.get("readOnly")}
    places = {"/", "/etc", "/etc/gateway", "/etc/gateway/secrets", "/opt/gateway", "/usr", "/var", "/var/lib/gateway"}
    for place in places | writable:
        attempt = pod.sandbox.inside("sh", "-c", f"touch {place}/new && rm {place}/new")
        done = subprocess.run(attempt, capture_output=True, timeout=30, check=False)  # noqa: S603
        assert (done.returncode == 0) == (place in writable), place


def test_secrets_are_read_by_the_pods_group_and_the_ledger_is_its_own(pod: Pod, overlay: str) -> None:
    secret = pod.volumes["configuration"] / "secrets" / "admin-token"
    found = secret.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, USER, 0o440)
    if overlay == "sidecar":
        data = pod.volumes["ledger"] / "data"
        eventually((data / "ledger.db").exists)
        for path, mode in ((data, 0o700), (data / "ledger.db", 0o600)):
            assert path.stat().st_uid == USER
            assert stat.S_IMODE(path.stat().st_mode) & 0o777 == mode
    assert mount_path(pod.rendered.container, "configuration") == "/etc/gateway"


def test_a_swapped_certificate_is_shown_in_the_pod(pod: Pod, tmp_path: Path) -> None:
    assert pod.ask("/health_check")[0] == 200
    renewed = tmp_path / "renewed"
    make_development_certificates(renewed, [NAME])
    mode = volume(pod.rendered.pod, "configuration")["projected"]["defaultMode"]
    pod.configuration.write(pod_data(pod.rendered, renewed, pod.ledger_url), mode)
    pod.process.line(lambda line: '"configuration reloaded"' in line)
    assert pod.ask("/health_check", authority=renewed)[0] == 200


def test_the_pods_mounts_are_its_own(pod: Pod) -> None:
    assert pod.sandbox.output(*pod.sandbox.inside("cat", "/etc/gateway/gateway.yaml")) == pod.rendered.configuration
    assert str(pod.sandbox.root) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("overlay", ["sidecar"])
def test_the_ledger_is_copied_while_it_is_used_as_the_page_says(pod: Pod) -> None:
    pod.run("keys", "create", "first")
    page = (ROOT / "docs/kubernetes.md").read_text()
    (place,) = re.findall(r"^ +gateway ledger backup (\S+) --config /etc/gateway/gateway.yaml$", page, re.MULTILINE)
    pod.run("ledger", "backup", place)
    copied = pod.volumes["ledger"] / "data" / "copy.db"
    with closing(sqlite3.connect(copied)) as connection:
        assert connection.execute("SELECT id FROM keys").fetchall() == [("first",)]
