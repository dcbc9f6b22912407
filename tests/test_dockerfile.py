"""What the image must be, as far as it can be read off the Dockerfile."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def of(name: str, among: list[tuple[str, str]]) -> list[str]:
    return [rest for found, rest in among if found == name]


def test_it_stands_on_the_slim_python_by_tag() -> None:
    assert of("ARG", instructions())[0] == "BASE=python:3.13-slim-bookworm"
    assert {rest.partition(" AS ")[0] for rest in of("FROM", instructions())} == {"${BASE}", "build"}


def test_it_is_built_elsewhere_and_the_stand_in_is_not_in_it() -> None:
    names = [rest.partition(" AS ")[2] for rest in of("FROM", instructions())]
    assert names == ["build", "demo-build", "demo", ""]
    assert of("COPY", final_stage()) == ["--from=build /opt/gateway /opt/gateway"]
    assert "demo" not in " ".join(rest for _, rest in final_stage())


def test_its_state_is_its_users_alone() -> None:
    (made,) = of("RUN", final_stage())
    assert json.loads(made) == ["install", "-d", "-m", "0700", "-o", "10001", "-g", "10001", "/var/lib/gateway"]
    assert of("WORKDIR", final_stage()) == ["/var/lib/gateway"]


def test_the_stand_in_is_a_target_of_its_own() -> None:
    found = instructions()
    begin = next(i for i, (name, rest) in enumerate(found) if (name, rest) == ("FROM", "${BASE} AS demo"))
    stage = found[begin : found.index(("FROM", "${BASE}"))]
    assert json.loads(of("ENTRYPOINT", stage)[0])[1:3] == ["-m", "gateway.demo.container"]
    assert (of("USER", stage), of("RUN", stage)) == (["10001:10001"], [])


def test_it_does_not_run_as_root() -> None:
    assert of("USER", final_stage()) == ["10001:10001"]


def test_nothing_is_added_from_elsewhere() -> None:
    assert of("ADD", instructions()) == []
    assert "http" not in " ".join(of("RUN", instructions()))


def test_every_dependency_is_installed_by_hash() -> None:
    text = " ".join(of("RUN", instructions()))
    commands = [command.strip() for command in text.split("&&") if " install " in command]
    for command in commands:
        assert "--require-hashes -r requirements/" in command or "--no-deps --no-index" in command, command
    assert len(commands) == 3
    assert "flit-core==" in (ROOT / "requirements/serve.txt").read_text()


def test_no_shell_stands_between_the_signal_and_the_gateway() -> None:
    (entrypoint,) = of("ENTRYPOINT", final_stage())
    assert json.loads(entrypoint)[1:] == ["serve", "--config", "/etc/gateway/gateway.yaml"]
    assert of("STOPSIGNAL", final_stage()) == ["SIGTERM"]
    assert of("CMD", final_stage()) == []


def test_it_says_which_ports() -> None:
    assert of("EXPOSE", final_stage()) == ["8443 9090"]


def test_secrets_and_history_stay_outside() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in patterns
    invited = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    copied = [word for rest in of("COPY", instructions()) if "--from" not in rest for word in rest.split()[:-1]]
    assert {word.rstrip("/") for word in copied} <= set(invited)
    assert not any(fnmatch(name, pattern) for name in (".git", ".venv", "certs", ".demo") for pattern in invited)


class _Probe(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name that http.server gives it
        """Says nothing."""


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_tells_well_from_ill(status: int | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    command = json.loads(of("HEALTHCHECK", final_stage())[0].partition("CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), _Probe) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        if status is None:
            server.server_close()
        else:
            monkeypatch.setattr(_Probe, "status", status)
            thread.start()
        program = command[2].replace("9090", str(server.server_address[1]))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)  # noqa: S603
        if status is not None:
            server.shutdown()
            thread.join()
    assert done.returncode == code


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not on the PATH")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    assert (done.returncode, done.stdout) == (0, "")
