"""What makes the load, and what stands in for the container."""

import dataclasses
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import certificate, client
from bench.backend import LARGER, WATCHED, Canned
from bench.client import Errand, Resumption, own

ERRAND = Errand("upload", 1, "secret", "/api/v1/marker", 50, 100, 1)


class Answers(BaseHTTPRequestHandler):
    """Says yes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the handler's signature
        """Says nothing."""


def serving(folder: Path, tickets: int) -> Iterator[Errand]:
    certificate.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    context.num_tickets = tickets
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield dataclasses.replace(ERRAND, port=server.server_port, path="/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Errand]:
    yield from serving(tmp_path, 1)


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Errand]:
    yield from serving(tmp_path, 0)


def test_each_connection_resumes_the_session_of_the_one_before(server: Errand) -> None:
    resumption = Resumption(server)
    assert [resumption.again() for _ in range(4)] == [3] * 4


def test_a_peer_that_resumes_nothing_is_found_out(forgetful: Errand) -> None:
    resumption = Resumption(forgetful)
    assert resumption.again() == 3
    with pytest.raises(ConnectionError, match="not resumed"):
        resumption.again()


def test_fifty_submitters_of_fifty_accounts_have_a_key_each() -> None:
    many = dataclasses.replace(ERRAND, accounts=50)
    assert len({own(many, number).key for number in range(50)}) == 50
    assert own(many, 3).key == "other-3"
    assert {own(ERRAND, number).key for number in range(50)} == {"secret"}


@pytest.mark.parametrize("size", [2000, 3_000_000])
def test_a_form_is_as_large_as_it_says(size: int) -> None:
    head, filler, tail = client.form(dataclasses.replace(ERRAND, size=size))
    assert sum(map(len, client.blocks(head, filler, tail))) == len(head) + filler + len(tail)


def submitted(canned: Canned, size: int) -> str:
    name: str = json.loads(canned.submitted(size).rpartition(b"\r\n\r\n")[2])["request_id"]
    return name


def test_watched_jobs_run_for_ten_seconds_and_end_spread_over_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("bench.backend.time.time", lambda: now)
    canned = Canned(b"")
    names = [submitted(canned, size) for size in [WATCHED + 400] * 50]
    lengths = []
    for name in names:
        head = f"GET /api/v1/marker/{name} HTTP/1.1".encode()
        assert b"processing" in canned.get(head)
        now = 1011.0
        said = json.loads(canned.get(head).rpartition(b"\r\n\r\n")[2])
        now = 1000.0
        assert (said["status"], said["asked"]) == ("complete", 2)
        lengths.append(said["took"])
    assert sum(lengths) / 50 == pytest.approx(10, abs=0.05)
    gaps = [late - early for early, late in zip(sorted(lengths), sorted(lengths)[1:], strict=False)]
    assert max(gaps) < 0.05


def test_other_sizes_mean_what_they_meant() -> None:
    canned = Canned(b"")
    lives = [submitted(canned, size).split("-")[1] for size in (1300, 2300, 3400, 5400, LARGER, 100_000_000)]
    assert lives == ["endless", "ended", "waited", "waited", "ended", "ended"]
