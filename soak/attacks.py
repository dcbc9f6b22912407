"""What strangers and other tenants do to the gateway in the soak.

Run by `python -m soak.attacks NAME PORT ADMIN_PORT CA KEY SECONDS`.

Each attack is of a row of docs/threat-model.md that costs others (D), runs for so many seconds and ends by itself. It
sends to 127.0.0.1 alone.
"""

import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from soak.scene import BOUNDARY, STRANGER, Scene, connect, field, head, open_socket, rest, send, submit
from soak.slow_pdfs import long_tables, page_graph
from tests.support.dearcertificates import dear_certificate, show

_AT_ONCE: Final = 20
_LONGEST: Final = 65_536  # bytes of an answer


def nothing(scene: Scene) -> None:
    """Nobody attacks: what the others are compared with."""
    rest(scene, scene.until)


def tiny_chunks(scene: Scene) -> None:
    """A stranger's body in chunks of one byte."""
    send(scene, head("POST", "/nothing", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 300_000)


def empty_lines(scene: Scene) -> None:
    """A stranger's empty lines in front of no request."""
    send(scene, b"\r\n" * 1_000_000)


def large_heads(scene: Scene) -> None:
    """A stranger's heads beyond every bound."""
    send(scene, head("GET", "/", *[f"X-{number}: {'a' * 7000}" for number in range(100)]))


def refusals(scene: Scene) -> None:
    """A stranger's requests without a key, as fast as they go."""
    with connect(scene) as client:
        for _ in range(200):
            client.sendall(head("GET", "/api/v1/marker/unknown"))
            if not client.recv(4096):
                return


def bad_logins(scene: Scene) -> None:
    """A stranger who guesses keys."""
    send(scene, head("GET", "/api/v1/marker/unknown", f"X-API-Key: guess-{time.monotonic()}"))


def handshakes(scene: Scene) -> None:
    """A stranger's handshakes, and nothing after them."""
    connect(scene).close()


def many_connections(scene: Scene) -> None:
    """A stranger's connections that say nothing, and stay for as long as they may."""
    silent = [open_socket(scene.port) for _ in range(20)]
    rest(scene, 1.0)
    for connection in silent:
        connection.close()


def slow_heads(scene: Scene) -> None:
    """A stranger's heads that come byte by byte."""
    with connect(scene) as client:
        for byte in head("GET", "/", "X-Slow: " + "a" * 100):
            client.sendall(bytes([byte]))
            rest(scene, 0.05)
            if not scene.goes_on:
                return


def tiny_records(scene: Scene) -> None:
    """A stranger's TLS records of one byte."""
    with connect(scene) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for _ in range(20_000):
            client.sendall(b"\r")


def unread_answers(scene: Scene) -> None:
    """A stranger's requests that are sent ahead, thousands at once, and whose answers nobody reads."""
    with connect(scene) as client:
        client.sendall(head("GET", "/nothing") * 20_000)


def unfinished_webhooks(scene: Scene) -> None:
    """A stranger's webhooks that lack their last byte, with a signature that nobody can look at before it comes."""
    signed = "webhook-id: a", f"webhook-timestamp: {int(time.time())}", "webhook-signature: v1,YWFh"
    target = "/gateway/v1/webhooks/soak"
    with connect(scene) as client:
        client.sendall(head("POST", target, *signed, "Content-Length: 500000") + bytes(499_999))
        rest(scene, 2.0)


def dear_certificates(scene: Scene) -> None:
    """A stranger's certificates that take OpenSSL long to read."""
    with show(scene.port, [dear_certificate()], STRANGER) as client:
        client.settimeout(5)
        client.recv(4096)


def odd_forms(scene: Scene) -> None:
    """Another tenant's forms of thousands of parts, which nobody converts."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'.encode()
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    body = part * 5000
    lines = f"X-API-Key: {scene.key}", kind, f"Content-Length: {len(body)}"
    send(scene, head("POST", "/api/v1/marker", *lines) + body)


def large_uploads(scene: Scene) -> None:
    """Another tenant's uploads of 20 MB that are no document, which go to the spool."""
    send(scene, submit(scene, b"%PDF-1.7\n" + bytes(20_000_000)))


def slow_uploads(scene: Scene) -> None:
    """Another tenant's uploads that fall silent before their end."""
    send(scene, submit(scene, b"%PDF-1.7\n" + bytes(100_000))[:-10])


def head_requests(scene: Scene) -> None:
    """Another tenant's HEADs, each of which may end a connection to the container."""
    with connect(scene) as client:
        for _ in range(200):
            client.sendall(head("HEAD", "/health_check", f"X-API-Key: {scene.key}"))
            if not client.recv(4096):
                return


def held_polls(scene: Scene) -> None:
    """Another tenant's polls that are held until its job ends."""
    answer = b""
    with connect(scene) as client:
        client.sendall(submit(scene, b"\x89PNG\r\n\x1a\n" + bytes(500)))
        while (found := re.search(rb'"request_id": ?"([^"]+)"', answer)) is None:
            piece = client.recv(4096)
            if not piece or len(answer) > _LONGEST:
                return
            answer += piece
        lines = f"X-API-Key: {scene.key}", "Prefer: wait=5"
        for _ in range(20):
            client.sendall(head("GET", f"/api/v1/marker/{found[1].decode()}", *lines))
            client.recv(65_536)


def slow_readers(scene: Scene) -> None:
    """Another tenant's clients that ask for answers and take a few bytes of them."""
    with connect(scene) as client:
        client.sendall(head("GET", "/openapi.json", f"X-API-Key: {scene.key}") * 50)
        while scene.goes_on and client.recv(64):
            rest(scene, 0.1)


def silent_receivers(scene: Scene) -> None:
    """Another tenant's webhooks to a receiver that takes connections and says nothing."""
    with socket.create_server((STRANGER, 0)) as silent:
        receiver = f"https://localhost:{silent.getsockname()[1]}/hook"
        for _ in range(20):
            send(scene, submit(scene, b"\x89PNG\r\n\x1a\n" + bytes(500), field("webhook_url", receiver)))
        rest(scene, 2.0)


def admin_connections(scene: Scene) -> None:
    """Connections to the admin listener that say nothing, where probes and scrapes have to get through."""
    silent = [open_socket(scene.admin_port) for _ in range(20)]
    rest(scene, 1.0)
    for connection in silent:
        connection.close()


def admin_chunks(scene: Scene) -> None:
    """Bodies in chunks of one byte for the admin listener."""
    with open_socket(scene.admin_port) as client:
        client.sendall(head("POST", "/admin/v1/keys", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 300_000)
        client.recv(4096)


def scrapes(scene: Scene) -> None:
    """Scrapes and lists of the admin listener, as fast as they go."""
    for target in ("/metrics", "/admin/v1/overview", "/admin/v1/audit"):
        with open_socket(scene.admin_port) as client:
            client.sendall(head("GET", target, "Connection: close"))
            while client.recv(65_536):
                pass


def page_graphs(scene: Scene) -> None:
    """Another tenant's PDFs that take a counter for seconds."""
    send(scene, submit(scene, page_graph(100, 100, 100, 24)))


def _submit_on_and_on(scene: Scene, content: bytes) -> None:
    """Submits one document again and again."""
    whole = submit(scene, content)
    while scene.goes_on:
        send(scene, whole)


def long_table(scene: Scene) -> None:
    """Another tenant's PDFs of 7 KB that take a counter a quarter of a second, which they may."""
    _submit_on_and_on(scene, long_tables(1_000_000))


def padded_tables(scene: Scene) -> None:
    """Another tenant's PDFs of 9.5 MB that take a counter nearly as long as ones of their size may."""
    _submit_on_and_on(scene, long_tables(3_500_000, tables=2, padding=9_400_000))


def many_submits(scene: Scene) -> None:
    """Another tenant's submits, a hundred at once."""
    send(scene, submit(scene, b"%PDF-1.4\n" + b"x" * 2000))


ATTACKS: Final[dict[str, Callable[[Scene], None]]] = {
    attack.__name__: attack
    for attack in (
        nothing, tiny_chunks, empty_lines, large_heads, refusals, bad_logins, handshakes, many_connections,
        slow_heads, tiny_records, unread_answers, unfinished_webhooks, dear_certificates, odd_forms, large_uploads,
        slow_uploads, head_requests, held_polls, slow_readers, silent_receivers, page_graphs, long_table,
        padded_tables, many_submits, admin_connections, admin_chunks, scrapes,
    )
}  # fmt: skip


def repeat(attack: Callable[[Scene], None], scene: Scene) -> None:
    """Attacks again and again; a connection that is refused or cut off is what an attacker has to expect."""
    while scene.goes_on:
        try:
            attack(scene)
        except OSError:
            rest(scene, 0.01)


def main(name: str, port: str, admin_port: str, authority: str, key: str, seconds: str) -> None:
    """Runs one attack on 20 threads."""
    tls = ssl.create_default_context(cafile=authority)
    scene = Scene(int(port), int(admin_port), tls, key, time.monotonic() + float(seconds))
    threads = [threading.Thread(target=repeat, args=(ATTACKS[name], scene)) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
