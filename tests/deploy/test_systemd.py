"""deploy/systemd: verified by systemd's own tool, and what a real gateway tells it from start to end."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import Final

import pytest
import yaml

from gateway.cli.run_check import check_settings
from tests.support.process import ROOT, Upstream, configure, serving
from tests.support.servicemanager import ServiceManager

HERE: Final = ROOT / "deploy/systemd"
UNIT: Final = "document-gateway.service"
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: systemd"
)


def settings_of(unit: str) -> list[tuple[str, str]]:
    return re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE)


def analyzed(*arguments: str) -> tuple[int, str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr


@needs_analyze
def test_systemd_finds_nothing(tmp_path: Path) -> None:
    text = (HERE / UNIT).read_text()
    assert text.count("/opt/gateway/bin/gateway") == 1  # it has to be there to be verified
    (tmp_path / UNIT).write_text(text.replace("/opt/gateway/bin/gateway", sys.executable))
    assert analyzed("verify", str(tmp_path / UNIT)) == (0, "")
    (tmp_path / UNIT).write_text(text.replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyzed("verify", str(tmp_path / UNIT))[1]


@needs_analyze
def test_its_exposure_is_what_the_page_says() -> None:
    (told,) = re.findall(r"exposure level is ([\d.]+)", (ROOT / "docs/systemd.md").read_text())
    threshold = str(int(float(told) * 10))
    code, output = analyzed("security", "--offline=true", f"--threshold={threshold}", str(HERE / UNIT))
    assert code == 0, output[-200:]


def test_unit_and_configuration_fit_each_other(tmp_path: Path, certificates: Path) -> None:
    unit = (HERE / UNIT).read_text()
    text = (HERE / "gateway.yaml").read_text()
    found = dict(settings_of(unit))
    assert found["ExecStart"].endswith("serve --config /etc/gateway/gateway.yaml")
    offered = set(re.findall(r"LoadCredential=([a-z-]+):", unit))
    assert set(re.findall(rf"/run/credentials/{UNIT}/([a-z-]+)", text)) == offered
    shutdown = yaml.safe_load(text)["shutdown"]
    assert int(found["TimeoutStopSec"]) > sum(int(value.removesuffix("s")) for value in shutdown.values())
    places = {
        "/etc/gateway/tls": str(certificates),
        f"/var/lib/{found['StateDirectory']}": str(tmp_path),
        f"/var/cache/{found['CacheDirectory']}": str(tmp_path),
        f"/run/credentials/{UNIT}": str(tmp_path),
    }
    for there, here in places.items():
        assert there in text
        text = text.replace(there, here)
    (tmp_path / "gateway.yaml").write_text(text)
    (tmp_path / "admin-token").write_text("0" * 64 + "\n")
    (tmp_path / "admin-token").chmod(0o400)  # as systemd lays it
    assert [str(one) for one in check_settings(tmp_path / "gateway.yaml", {}) if one.is_fault] == []


def test_a_real_gateway_tells_of_start_reloads_and_end(
    tmp_path: Path, certificates: Path, upstream: Upstream
) -> None:
    path = configure(tmp_path, certificates, upstream.url)
    with ServiceManager(tmp_path / "notify") as systemd:
        with serving(path, {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "10000000"}) as served:
            ready = systemd.until(lambda message: "READY" in message)
            assert ready == {"READY": "1", "WATCHDOG": "1", "STATUS": f"Serving port {served.port}"}
            assert served.admin("/readyz")[0] == 200
            served.process.send(SIGHUP)
            assert int(systemd.until(lambda message: "RELOADING" in message)["MONOTONIC_USEC"]) > 0
            assert systemd.until(lambda message: "READY" in message)["STATUS"] == "Reloaded"
            path.write_text(path.read_text() + "nonsense: 1\n")
            served.process.send(SIGHUP)
            systemd.until(lambda message: "RELOADING" in message)
            assert systemd.until(lambda message: "READY" in message)["STATUS"].startswith("Reload refused")
            served.process.send(SIGTERM)
            assert systemd.until(lambda message: "STOPPING" in message) == {"STOPPING": "1", "STATUS": "Draining"}
            assert served.process.exit_code() == 0
        assert not any("READY" in message for message in systemd.rest())


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running
