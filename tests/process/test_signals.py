"""SIGTERM, SIGHUP and what a process does on its way out."""

import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.tls.dev_certificates import make_development_certificates
from tests.support.forms import FORM_TYPE, form, image
from tests.support.process import (
    DEADLINE,
    KEY,
    Served,
    Upstream,
    call,
    configure,
    eventually,
    serving,
    trusting,
)

BODY = form(image(b"x" * 1_000_000))
HALF = len(BODY) // 2


@contextmanager
def https(served: Served, certificates: Path) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", served.port, timeout=DEADLINE, context=trusting(certificates)
    )
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def half_an_upload(served: Served, certificates: Path, upstream: Upstream) -> Iterator[ssl.SSLSocket]:
    """A connection whose upload has reached the upstream, but for its second half."""
    head = f"POST /api/v1/marker HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: {len(BODY)}\r\n"
    head += f"Content-Type: {FORM_TYPE}\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", served.port), DEADLINE) as raw,
        trusting(certificates).wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(head.encode() + BODY[:HALF])
        assert upstream.began.wait(DEADLINE)
        yield tls


def answer_on(tls: ssl.SSLSocket) -> bytes:
    pieces = []
    while piece := tls.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def is_draining(served: Served) -> bool:
    status, body = served.admin("/readyz")
    return status == 503 and '"draining"' in body


def metric(served: Served, line: str) -> float:
    _, text = served.admin("/metrics")
    (found,) = [row for row in text.splitlines() if row.startswith(line + " ")]
    return float(found.rpartition(" ")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_upload_in_flight_ends_well(
    served: Served, certificates: Path, upstream: Upstream, number: signal.Signals
) -> None:
    with half_an_upload(served, certificates, upstream) as tls:
        served.process.send(number)
        eventually(lambda: is_draining(served))
        assert served.process.is_running
        tls.sendall(BODY[HALF:])
        answer = answer_on(tls)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"name": "container"}')
    assert b"Connection: close" in answer
    assert served.process.exit_code() == 0
    assert "Traceback" not in served.process.output


def test_it_still_accepts_for_a_while_and_says_close(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    shutdown = {"drain_delay": "20s", "drain_timeout": "20s"}
    with serving(configure(tmp_path, certificates, upstream.url, shutdown=shutdown)) as served:
        served.process.send(signal.SIGTERM)
        eventually(lambda: is_draining(served))
        assert served.admin("/livez")[0] == 200
        with https(served, certificates) as connection:
            connection.request("GET", "/api/v1/usage", headers={"X-API-Key": KEY})
            response = connection.getresponse()
            assert response.status == 200
            assert response.headers["Connection"] == "close"
        served.process.send(signal.SIGTERM)  # a second one ends it at once
        assert served.process.exit_code(10) == 0


def test_an_idle_connection_does_not_hold_it_up(served: Served, certificates: Path) -> None:
    with https(served, certificates) as connection:
        assert call(connection, "/api/v1/usage")[0] == 200
        served.process.send(signal.SIGTERM)
        assert served.process.exit_code(5) == 0


def test_what_does_not_end_is_cut_off(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    shutdown = {"drain_delay": "0s", "drain_timeout": "300ms"}
    with (
        serving(configure(tmp_path, certificates, upstream.url, shutdown=shutdown)) as served,
        half_an_upload(served, certificates, upstream) as tls,
    ):
        served.process.send(signal.SIGTERM)
        assert served.process.exit_code(10) == 0
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls.sendall(BODY * 20)
    assert any('"cut_off":1' in line for line in served.process.lines)


def test_sighup_reloads(served: Served, certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    with https(served, certificates) as connection:
        assert call(connection, "/api/v1/convert", "POST", form())[0] == 404
        path.write_text(path.read_text() + "aliases: {/api/v1/convert: /api/v1/marker}\n")
        served.process.send(signal.SIGHUP)
        served.process.line(lambda line: "configuration reloaded" in line)
        assert call(connection, "/api/v1/convert", "POST", form())[0] == 200, (
            "the connection that stands serves the new one"
        )
    assert metric(served, 'gateway_config_reloads_total{result="success"}') >= 1
    assert metric(served, "gateway_config_last_reload_successful") == 1


def test_a_changed_file_reloads_without_a_signal(served: Served, certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("another-key-than-before\n")
    served.process.line(lambda line: "configuration reloaded" in line)
    with https(served, certificates) as connection:
        assert call(connection, "/api/v1/usage")[0] == 401


def test_a_bad_configuration_changes_nothing(served: Served, certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    good = path.read_text()
    path.write_text(good.replace("127.0.0.0/8", "10.0.0.0/8") + "nonsense: 1\n")
    served.process.line(lambda line: "reload refused" in line and "nonsense" in line)
    with https(served, certificates) as connection:
        assert call(connection, "/api/v1/usage")[0] == 200
    assert metric(served, "gateway_config_last_reload_successful") == 0
    path.write_text(good)
    served.process.line(lambda line: "configuration reloaded" in line)
    assert metric(served, "gateway_config_last_reload_successful") == 1


def test_what_needs_a_restart_says_so(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(path.read_text().replace("port: 0", "port: 1", 1))
    line = served.process.line(lambda line: "settings wait for a restart" in line)
    assert "listen.port" in line or "admin.port" in line


def test_new_certificates_reach_new_handshakes_alone(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    own = tmp_path / "own"
    make_development_certificates(own, ["127.0.0.1"])
    (tmp_path / "old-ca.pem").write_bytes((own / "ca.pem").read_bytes())
    with serving(configure(tmp_path, own, upstream.url)) as served, https(served, own) as old:
        assert call(old, "/api/v1/usage")[0] == 200
        make_development_certificates(own, ["127.0.0.1"])
        served.process.send(signal.SIGHUP)
        served.process.line(lambda line: "configuration reloaded" in line)
        with https(served, own) as new:
            assert call(new, "/api/v1/usage")[0] == 200
        assert call(old, "/api/v1/usage")[0] == 200
        with https(served, certificates) as stranger, pytest.raises(ssl.SSLCertVerificationError):
            call(stranger, "/api/v1/usage")
