"""`gateway demo`, as a stranger meets it."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import pytest
import yaml

from gateway.auth.key_secrets import is_secret
from tests.support.process import (
    DEADLINE,
    GATEWAY,
    Process,
    descendants,
    eventually,
    free_port,
    is_alive,
    run,
    taken_port,
)

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def arguments(directory: Path, **options: object) -> tuple[str, ...]:
    ports = {"port": 0, "admin_port": 0, "upstream_port": 0, **options}
    words = (word for name, value in ports.items() for word in (f"--{name.replace('_', '-')}", str(value)))
    return ("demo", "--dir", str(directory), *words)


@contextmanager
def demo(directory: Path, **options: object) -> Iterator[Process]:
    with Process((*GATEWAY, *arguments(directory, **options)), directory.parent) as process:
        process.line(lambda line: line.startswith("ready https://localhost:"))
        yield process


def curl_line(process: Process) -> str:
    return process.line(lambda line: line.startswith("curl "))


def key_lines(process: Process) -> list[str]:
    """The lines that make, show, count and rotate a key."""
    process.line(lambda line: line.startswith("ready "))
    return [line for line in process.lines if " keys " in line or " usage " in line]


def paste(line: str) -> str:
    """What a shell prints for a line that was copied into it."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=DEADLINE, check=False)  # noqa: S603, S607
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_curl
def test_the_printed_line_works_as_it_stands(tmp_path: Path) -> None:
    directory = tmp_path / "a demo"  # the blank is part of the test
    with demo(directory) as process:
        line = curl_line(process)
        result = json.loads(paste(line))
        assert result["status"] == "complete"
        assert result["success"] is True
        assert result["page_count"] == 3
        assert "Sample document, page 1" in result["markdown"]
        made = [paste(line) for line in key_lines(process)]
        assert is_secret(made[0].strip().encode())
        assert "pages_per_month" in made[1]
        assert is_secret(made[3].strip().encode())
        assert made[0] not in process.output
        metrics = process.line(lambda line: line.startswith("Metrics: ")).removeprefix("Metrics: ").partition("  ")[0]
        assert 'gateway_requests_total{method="POST",reason="forwarded",route="submit",status="200"} 1.0' in paste(
            metrics
        )
    made_files = {path.name for path in directory.iterdir()}
    sqlite = {"ledger.db", "ledger.db-shm", "ledger.db-wal"}
    assert made_files - sqlite == {
        *("ca.pem", "server.pem", "server.key", "key.txt", "webhook-secret.txt", "gateway.yaml", "sample.pdf")
    }
    for secret in ("key.txt", "server.key", "ledger.db", "webhook-secret.txt"):
        assert (directory / secret).stat().st_mode & 0o777 == 0o600
    assert is_secret((directory / "key.txt").read_bytes().strip())
    assert (directory / "key.txt").read_text().startswith("dgw_demo_")


def test_it_says_at_once_what_it_starts_and_then_the_key(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as process:
        first = process.lines[0]
        assert first.startswith("Starting the gateway in front of a stand-in container, with all it needs in ")
        assert any("key.txt (the key demo)" in line for line in process.lines)


def test_it_says_where_to_look_and_when_its_container_has_ended(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as process:
        page = process.line(lambda line: line.startswith("What runs: ")).removeprefix("What runs: ")
        with urllib.request.urlopen(page, timeout=DEADLINE) as answer:  # noqa: S310 -- our own address
            assert b"<title>Gateway</title>" in answer.read()
        (container,) = [
            child for child in descendants(process.pid)
            if b"gateway.demo.container" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]  # fmt: skip
        os.kill(container, SIGKILL)
        process.line(lambda line: line.startswith("the stand-in container has ended (by signal 9)"))
        process.press_ctrl_c()
        assert process.exit_code() == 0


def test_ctrl_c_ends_it_whole(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as process:
        children = descendants(process.pid)
        assert children
        process.press_ctrl_c()
        assert process.exit_code() == 0
        assert not any(map(is_alive, children))
    assert "Traceback" not in process.output
    assert process.lines[-1] == "stopped"
    assert "has ended" not in process.output


@pytest.mark.parametrize("number", [SIGTERM, SIGHUP])
def test_sigterm_and_a_closed_terminal_end_it_whole(tmp_path: Path, number: Signals) -> None:
    with demo(tmp_path / "demo") as process:
        children = descendants(process.pid)
        process.send(number)
        assert process.exit_code() == 0
        assert not any(map(is_alive, children))


def test_the_stand_in_ends_even_when_the_demo_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as process:
        children = descendants(process.pid)
        process.send(SIGKILL)
        process.exit_code()
        eventually(lambda: not any(map(is_alive, children)))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_an_end_during_the_start_leaves_no_child_and_no_traceback(tmp_path: Path, number: Signals) -> None:
    with Process((*GATEWAY, *arguments(tmp_path / "demo")), tmp_path) as process:
        children = eventually(lambda: descendants(process.pid))
        process.send(number)
        process.exit_code()
        eventually(lambda: not any(map(is_alive, children)))
        assert "Traceback" not in process.output


def test_a_second_start_uses_what_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    contents = []
    for _ in range(2):
        with demo(directory) as process:
            contents.append(contents_of(directory))
            process.press_ctrl_c()
            assert process.exit_code() == 0
    assert contents[0] == contents[1]


def contents_of(directory: Path) -> dict[str, bytes]:
    """All files but the ledger, which notes that it is used."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if "ledger.db" not in path.name}


@needs_curl
def test_what_an_earlier_start_left_is_mended(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with demo(directory):
        first = (directory / "key.txt").read_text()
    for path in directory.glob("ledger.db*"):
        path.unlink()
    with demo(directory) as process:
        process.line(lambda line: line == "key.txt held a key that this ledger does not have; it holds a new one now")
        second = (directory / "key.txt").read_text()
    (directory / "key.txt").unlink()
    with demo(directory) as process:
        process.line(lambda line: line == "key.txt held no live secret of the key demo; it holds a new one now")
        assert json.loads(paste(curl_line(process).partition(" | ")[0]))["success"] is True
    assert len({first, second, (directory / "key.txt").read_text()}) == 3


@needs_curl
def test_a_directory_from_before_the_ledger_works_on(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with demo(directory):
        pass
    document = yaml.safe_load((directory / "gateway.yaml").read_text())
    del document["ledger"]
    document["keys"] = [{"id": "demo", "secret": {"file": f"{directory}/key.txt"}, "scopes": ["admin"]}]
    (directory / "gateway.yaml").write_text(yaml.safe_dump(document))
    (directory / "key.txt").write_text("a-key-of-an-earlier-version\n")
    for path in directory.glob("ledger.db*"):
        path.unlink()
    with demo(directory) as process:
        assert json.loads(paste(curl_line(process).partition(" | ")[0]))["success"] is True
        assert is_secret(paste(key_lines(process)[0]).strip().encode())
    assert (directory / "key.txt").read_text() == "a-key-of-an-earlier-version\n"
    assert (directory / "ledger.db").is_file()
    assert not (tmp_path / "data").exists()


@needs_curl
def test_what_the_user_wrote_into_gateway_yaml_stays_in_force(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with demo(directory):
        pass
    path = directory / "gateway.yaml"
    path.write_text(path.read_text() + "public_url: https://documents.example\n")
    with demo(directory) as process:
        upload = curl_line(process).partition(" | ")[0]
        assert json.loads(paste(upload))["request_check_url"].startswith("https://documents.example/api/v1/marker/")


@pytest.mark.parametrize("which", ["port", "admin_port", "upstream_port"])
def test_a_taken_port_is_one_line(tmp_path: Path, which: str) -> None:
    with taken_port() as port:
        code, output = run(*arguments(tmp_path / "demo", **{which: port}))
    assert code == 1
    assert "Traceback" not in output
    complaints = [line for line in output.splitlines() if line.startswith("gateway: ")]
    assert len(complaints) == 1
    assert str(port) in complaints[0]


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run(*arguments(tmp_path / "file/demo"))
    assert code == 1
    assert "Traceback" not in output
    assert "gateway: " in output


@needs_curl
def test_a_real_container_takes_the_place_of_the_stand_in(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-m", "gateway.demo.container", "--port", str(port), "--processing-time", "0")
    with Process(command, tmp_path) as container:
        container.line(lambda line: "ready on " in line)
        with demo(tmp_path / "demo", upstream=f"http://127.0.0.1:{port}") as process:
            assert descendants(process.pid) == []
            assert json.loads(paste(curl_line(process)))["page_count"] == 3
            process.press_ctrl_c()
            assert process.exit_code() == 0
        assert container.is_running
        assert re.search(rf"hands on to http://127.0.0.1:{port}", process.output)


@pytest.mark.parametrize("url", ["nonsense", "http://host/path", "ftp://host"])
def test_an_upstream_that_is_no_origin_is_one_line(tmp_path: Path, url: str) -> None:
    code, output = run(*arguments(tmp_path / "demo", upstream=url))
    assert code == 1
    assert "Traceback" not in output
    assert any(line.startswith("gateway: upstream.url: ") for line in output.splitlines())
