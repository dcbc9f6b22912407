"""A real gateway on the rendered configuration, its files laid out and swapped as the kubelet does it.

Paths are moved below a directory of the test, ports are free ones, the drain is short; all else is as it is rendered.
With nothing changed, as the pod's user and on a read-only root: tests/root/test_kubernetes_start.py.
"""

import http.client
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest

from gateway.tls.dev_certificates import make_development_certificates
from tests.support.kubernetes import (
    ADMIN_TOKEN,
    OVERLAYS,
    ProjectedVolume,
    Rendered,
    mount_path,
    needs_kubectl,
    pod_data,
    render,
    volume,
)
from tests.support.process import DEADLINE, Served, Upstream, eventually, run, serving, trusting

pytestmark = needs_kubectl
# What differs from the pod, by settings that the environment overrides.
HERE: Final = {
    "GATEWAY__LISTEN__ADDRESS": "127.0.0.1",
    "GATEWAY__LISTEN__PORT": "0",
    "GATEWAY__ADMIN__ADDRESS": "127.0.0.1",
    "GATEWAY__ADMIN__PORT": "0",
    "GATEWAY__NETWORK__ALLOW": "[127.0.0.0/8]",
    "GATEWAY__SHUTDOWN__DRAIN_DELAY": "100ms",
}


class Pod(NamedTuple):
    """The volumes of a rendered pod below a directory."""

    overlay: str
    rendered: Rendered
    directory: Path
    configuration: ProjectedVolume

    def place(self, name: str) -> Path:
        """Where a volume is here."""
        return self.directory / mount_path(self.rendered.container, name).removeprefix("/")

    @property
    def file(self) -> Path:
        """gateway.yaml, by the symlinks."""
        return self.configuration.path / "gateway.yaml"

    def write(self, certificates: Path, ledger_url: str) -> None:
        """Puts the ConfigMap and the Secrets into force, whether for the first time or anew."""
        data = pod_data(self.rendered, certificates, ledger_url)
        text = data["gateway-configuration"]["gateway.yaml"].decode()
        for mount in self.rendered.container["volumeMounts"]:
            text = text.replace(mount["mountPath"], str(self.place(mount["name"])))
        data["gateway-configuration"]["gateway.yaml"] = text.encode()
        self.configuration.write(data, volume(self.rendered.pod, "configuration")["projected"]["defaultMode"])


def make_pod(overlay: str, directory: Path) -> Pod:
    rendered = render(overlay)
    sources = volume(rendered.pod, "configuration")["projected"]["sources"]
    place = directory / mount_path(rendered.container, "configuration").removeprefix("/")
    pod = Pod(overlay, rendered, directory, ProjectedVolume(place, sources))
    for mount in rendered.container["volumeMounts"]:
        pod.place(mount["name"]).mkdir(parents=True)
    return pod


@pytest.fixture
def ledger_url_of_pod(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the Secret gateway-ledger holds; only the service overlay reads it."""
    if request.getfixturevalue("overlay") == "sidecar":
        yield ""
        return
    server = request.getfixturevalue("postgres")
    name = server.database()
    yield server.url_of(name)
    server.drop(name)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def pod(overlay: str, tmp_path: Path, certificates: Path, ledger_url_of_pod: str) -> Pod:
    made = make_pod(overlay, tmp_path)
    made.write(certificates, ledger_url_of_pod)
    return made


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def served(pod: Pod, upstream: Upstream) -> Iterator[Served]:
    with serving(pod.file, {**HERE, "GATEWAY__UPSTREAM__URL": upstream.url}) as gateway:
        yield gateway


def status_of(served: Served, path: str, *headers: tuple[str, str]) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", served.admin_port, timeout=DEADLINE)) as connection:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_check_finds_no_fault_and_warns_of_what_the_page_tells(pod: Pod) -> None:
    code, output = run("check", "--config", str(pod.file), cwd=pod.directory)
    assert code == 0, output
    warnings = re.findall(r"^warning: (\S+): (.*)$", output, re.MULTILINE)
    away = [] if pod.overlay == "sidecar" else ["upstream.url"]
    assert [setting for setting, _ in warnings] == ["admin.tls", *away, "keys"]
    assert "none in the ledger" in warnings[-1][1]


def test_it_is_ready_by_its_probes_and_scraped_with_its_token(pod: Pod, served: Served) -> None:
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    paths = [pod.rendered.container[probe]["httpGet"]["path"] for probe in probes]
    eventually(lambda: all(status_of(served, path)[0] == 200 for path in paths))
    assert status_of(served, "/metrics")[0] in {401, 403}
    status, text = status_of(served, "/metrics", ("Authorization", f"Bearer {ADMIN_TOKEN}"))
    assert (status, "gateway_build_info" in text) == (200, True)


def test_a_key_is_made_beside_it_and_used(pod: Pod, served: Served, certificates: Path) -> None:
    code, output = run("keys", "create", "first", "--config", str(pod.file), cwd=pod.directory)
    assert code == 0
    (key,) = re.findall(r"^dgw_\S+$", output, re.MULTILINE)

    def works() -> bool:
        return me(served.port, trusting(certificates), key) == 200

    eventually(works)


def me(port: int, tls: ssl.SSLContext, key: str) -> int:
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE, context=tls)) as connection:
        connection.request("GET", "/gateway/v1/me", headers={"X-API-Key": key})
        response = connection.getresponse()
        response.read()
        return response.status


class Asking:
    """Asks the health route again and again, each time on a new connection, and notes what goes wrong."""

    def __init__(self, port: int, *certificates: Path) -> None:
        self._port = port
        self._tls = ssl.create_default_context()
        for directory in certificates:
            self._tls.load_verify_locations(directory / "ca.pem")
        self.failures: list[str] = []
        self.answers = 0
        self.shown: list[bytes] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.set()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        while not self._ends.is_set() and not self.failures:
            try:
                self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def _ask(self) -> None:
        with closing(
            http.client.HTTPSConnection("127.0.0.1", self._port, timeout=DEADLINE, context=self._tls)
        ) as connection:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            shown = connection.sock.getpeercert(binary_form=True) or b""
            if not self.shown or self.shown[-1] != shown:
                self.shown.append(shown)
            connection.request("GET", "/health_check")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                self.failures.append(str(response.status))
            self.answers += 1


def leaf(certificates: Path) -> bytes:
    pem = (certificates / "server.pem").read_text()
    return ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")


def test_a_certificate_that_is_swapped_by_the_kubelet_is_shown_and_no_request_fails(
    pod: Pod, served: Served, certificates: Path, tmp_path: Path, ledger_url_of_pod: str
) -> None:
    renewed = tmp_path / "renewed"
    make_development_certificates(renewed, ["localhost", "127.0.0.1"])
    with Asking(served.port, certificates, renewed) as asking:
        eventually(lambda: asking.answers >= 20 or asking.failures)
        before = (pod.configuration.path / "..data").readlink()
        pod.write(renewed, ledger_url_of_pod)
        assert (pod.configuration.path / "..data").readlink() != before
        served.process.line(lambda line: '"configuration reloaded"' in line)
        seen = asking.answers
        eventually(lambda: asking.answers >= seen + 20 or asking.failures)
    assert asking.failures == []
    assert asking.shown == [leaf(certificates), leaf(renewed)]
    assert status_of(served, "/readyz")[0] == 200


def test_a_certificate_that_does_not_fit_its_key_is_refused_and_the_old_one_stays(
    pod: Pod, served: Served, certificates: Path, tmp_path: Path, ledger_url_of_pod: str
) -> None:
    torn = tmp_path / "torn"
    make_development_certificates(torn, ["localhost", "127.0.0.1"])
    (torn / "server.key").write_bytes((certificates / "server.key").read_bytes())
    with Asking(served.port, certificates, torn) as asking:
        pod.write(torn, ledger_url_of_pod)
        served.process.line(lambda line: '"reload refused' in line)
        seen = asking.answers
        eventually(lambda: asking.answers >= seen + 20 or asking.failures)
    assert asking.failures == []
    assert asking.shown == [leaf(certificates)]
