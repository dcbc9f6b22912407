"""The image as it is when it is built: what is in it, and what it does, read-only and without rights."""

import json
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from gateway import __version__
from gateway.demo.sample import sample_pdf
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.hosts import Host, network
from tests.support.image import Entry, Image, built_image
from tests.support.process import KEY, ROOT, Process, descendants, is_alive

pytestmark = [pytest.mark.timeout(1500), pytest.mark.xdist_group("image")]

_UID: Final = 10001
_DRAINED: Final = 60.0
_COMPILERS: Final = {"cc", "c++", "gcc", "g++", "cc1", "clang", "ld", "as", "make", "cargo", "rustc", "go"}
_PACKERS: Final = {"pip", "setuptools", "wheel", "flit_core", "ensurepip", "uv"}
_CONFIGURATION: Final = """\
tls: {certificate: /etc/gateway/server.pem, private_key: /etc/gateway/server.key}
network: {allow: [127.0.0.0/8]}
keys: [{id: ci, secret: {file: /etc/gateway/key.txt}}]
shutdown: {drain_delay: 200ms}
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built_image(tmp_path_factory.mktemp("image")) as built:
        yield built


class Place(NamedTuple):
    """A host to run the image on, and its two volumes, as an operator makes them."""

    host: Host
    image: Image
    configuration: Path
    state: Path

    def run(self, *command: str) -> tuple[int, str]:
        """Runs a command in the image to its end."""
        return self.host.run(*self.image.command(self.configuration, self.state, *command))

    def start(self, *command: str) -> Process:
        """Starts a command in the image."""
        return self.host.start(*self.image.command(self.configuration, self.state, *command))

    def curl(self, path: str, *more: str) -> dict[str, object]:
        """Asks the gateway from outside the image, on the same host."""
        trust = ("--cacert", str(self.configuration / "ca.pem"), "-H", f"X-API-Key: {KEY}", "--noproxy", "*")
        code, output = self.host.run(
            "curl", "-sS", "--fail-with-body", "--max-time", "60", *trust, *more, f"https://localhost:8443{path}"
        )
        assert code == 0, output
        answer: dict[str, object] = json.loads(output)
        return answer


@pytest.fixture
def place(image: Image, tmp_path: Path) -> Iterator[Place]:
    configuration, state = tmp_path / "configuration", tmp_path / "state"
    make_development_certificates(configuration, ["localhost"])
    (configuration / "gateway.yaml").write_text(_CONFIGURATION)
    (configuration / "key.txt").write_text(KEY)
    state.mkdir(mode=0o700)
    for path in (state, *configuration.iterdir()):
        os.chown(path, _UID, _UID)
    with network(host=1) as hosts:
        yield Place(hosts["host"], image, configuration, state)


@pytest.fixture
def container(place: Place) -> Iterator[Process]:
    """The stand-in, outside the image, on the loopback address of the same host."""
    command = (sys.executable, "-m", "gateway.demo.container", "--processing-time", "0")
    with place.host.start(*command) as process:
        process.line(lambda line: line.startswith("container ready"))
        yield process


def test_its_commands_run(place: Place) -> None:
    assert place.run("gateway", "--version") == (0, f"gateway, version {__version__}")
    code, output = place.run("gateway", "check", "--config", "/etc/gateway/gateway.yaml")
    assert (code, "/etc/gateway/gateway.yaml is a valid configuration" in output) == (0, True), output


def test_a_fault_of_the_configuration_ends_it(place: Place) -> None:
    (place.configuration / "gateway.yaml").write_text(_CONFIGURATION + "listen: {prot: 8443}\n")
    code, output = place.run(*place.image.config["Entrypoint"])
    assert code != 0
    assert "listen.prot" in output


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian: curl)")
@pytest.mark.usefixtures("container")
def test_it_serves_and_drains(place: Place, tmp_path: Path) -> None:
    health = place.image.config["Healthcheck"]["Test"]
    assert health[0] == "CMD"
    assert place.run(*health[1:])[0] == 1, "before it listens"

    with place.start(*place.image.config["Entrypoint"]) as process:
        process.line(lambda line: '"upstream is up"' in line)
        assert place.run(*health[1:]) == (0, "")
        _converts(place, tmp_path / "sample.pdf")
        gateway = _process_one(process)
        _has_no_rights(gateway)
        os.kill(gateway, signal.SIGTERM)
        assert process.exit_code(_DRAINED) == 0, process.output
        assert json.loads(process.line(lambda line: '"drained"' in line))["cut_off"] == 0
    assert place.run(*health[1:])[0] == 1, "after its end"
    assert (place.state / "data/ledger.db").stat().st_uid == _UID


def _converts(place: Place, document: Path) -> None:
    document.write_bytes(sample_pdf())
    submitted = place.curl("/api/v1/marker", "-F", f"file=@{document}")
    path = str(submitted["request_check_url"]).removeprefix("https://localhost:8443")
    result = place.curl(path, "-H", "Prefer: wait=30")
    assert (result["status"], result["page_count"]) == ("complete", 3)


def _process_one(process: Process) -> int:
    """The gateway's process: the one that unshare has started, which is number 1 where it runs."""
    (gateway, *_) = descendants(process.pid)
    assert f"NSpid:\t{gateway}\t1\n" in Path(f"/proc/{gateway}/status").read_text()
    return gateway


def _has_no_rights(pid: int) -> None:
    lines = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert lines["Uid"].split() == lines["Gid"].split() == [str(_UID)] * 4
    assert lines["Groups"].strip() == ""
    assert {lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert lines["NoNewPrivs"] == "1"


def test_its_root_directory_can_not_be_written(place: Place) -> None:
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    for path in ("/opt/gateway/x", "/etc/gateway/x", "/etc/x", "/x"):
        code, output = place.run("python", "-c", program, path)
        assert (code, "Read-only file system" in output) == (1, True), (path, output)
    assert place.run("python", "-c", program, "/var/lib/gateway/x")[0] == 0


def test_it_is_what_the_dockerfile_says(image: Image) -> None:
    assert image.config["User"] == f"{_UID}:{_UID}"
    assert image.config["WorkingDir"] == "/var/lib/gateway"
    assert image.config["StopSignal"] == "SIGTERM"
    assert set(image.config["ExposedPorts"]) == {"8443/tcp", "9090/tcp"}
    assert "/opt/gateway/bin" in image.config["Env"][0]


def test_nothing_stands_outside_its_two_places(image: Image) -> None:
    outside = [name for name in image.ours if not name.startswith("/opt/gateway/")]
    assert sorted(outside) == ["/opt/gateway", "/var/lib/gateway"]


def test_the_state_directory_is_its_users_alone(image: Image) -> None:
    status = image.ours["/var/lib/gateway"].status
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (_UID, _UID, 0o700)


def test_all_else_of_ours_is_roots_and_nobody_elses_to_change(image: Image) -> None:
    code = {name: entry for name, entry in image.ours.items() if name.startswith("/opt/")}
    assert _names(code, lambda entry: (entry.status.st_uid, entry.status.st_gid) != (0, 0)) == []
    assert _names(code, lambda entry: not entry.is_link and bool(entry.status.st_mode & 0o022)) == []
    assert _names(code, lambda entry: bool(entry.status.st_mode & (stat.S_ISUID | stat.S_ISGID))) == []


def _names(entries: dict[str, Entry], holds: Callable[[Entry], bool]) -> list[str]:
    return [name for name, entry in entries.items() if holds(entry)]


def test_nothing_of_ours_installs_or_compiles(image: Image) -> None:
    assert [
        name for name in image.ours if re.fullmatch(r"(pip|easy_install|wheel|flit)[0-9.]*", Path(name).name)
    ] == []
    packages = {Path(name).name for name in image.ours if Path(name).parent.name == "site-packages"}
    assert {name.partition("-")[0] for name in packages} & _PACKERS == set()
    commands = {
        path.name for place in ("usr/bin", "usr/sbin", "usr/local/bin") for path in (image.root / place).iterdir()
    }
    assert (commands | {Path(name).name for name in image.ours}) & _COMPILERS == set()


def test_nothing_of_this_machine_is_in_it(image: Image) -> None:
    """No setting of pip, no path of the sources, no key, no history."""
    own = [line for line in image.pip_settings.splitlines() if "/" in line]
    words = {word.encode() for line in own for word in line.split()} | {str(ROOT).encode()}
    contents = {name: entry.path.read_bytes() for name, entry in image.ours.items() if entry.is_file}
    assert [(name, word) for name, content in contents.items() for word in words if word in content] == []
    names = {Path(name).name for name in image.ours}
    assert names & {".git", "tests", "certs", ".venv", ".demo", "pip.conf"} <= {"tests"}
    assert [name for name in names if name.endswith((".key", ".pem")) and name != "cacert.pem"] == []


def test_its_size_is_the_documented_one(image: Image, record_property: Callable[[str, object], None]) -> None:
    size = image.size / 1e6
    record_property("size of the image above its base", f"{size:.1f} MB")
    documented = re.search(r"adds (\d+) MB to its base", (ROOT / "docs/image.md").read_text())
    assert documented is not None
    assert size == pytest.approx(int(documented[1]), rel=0.1)


def test_it_ends_with_the_engine_that_started_it(place: Place) -> None:
    """Whatever kills the process that holds the namespace: nothing is left running."""
    with place.start(*place.image.config["Entrypoint"]) as process:
        process.line(lambda line: '"listening"' in line)
        gateway = _process_one(process)
    assert not is_alive(gateway)
