"""What strangers and other tenants do to the gateway in the soak: `python -m soak.attacks NAME PORT CA KEY SECONDS`.

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
from typing import Final, NamedTuple

_BOUNDARY: Final = "soak"
_ADDRESS: Final = "127.0.0.2"
_AT_ONCE: Final = 20
_LONGEST: Final = 65_536  # bytes of an answer


class Scene(NamedTuple):
    """Whom to attack and with what: a port, what to trust, another tenant's key, and until when (monotonic)."""

    port: int
    tls: ssl.SSLContext
    key: str
    until: float

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until


def open_socket(scene: Scene) -> socket.socket:
    """A connection of an address of its own: at that of the quiet tenant both would have one turn."""
    return socket.create_connection(("127.0.0.1", scene.port), 5, (_ADDRESS, 0))


def connect(scene: Scene) -> ssl.SSLSocket:
    """A connection that waits for five seconds at the most."""
    return scene.tls.wrap_socket(open_socket(scene), server_hostname="localhost")


def send(scene: Scene, data: bytes) -> None:
    """One connection, these bytes, the beginning of an answer."""
    with connect(scene) as client:
        client.sendall(data)
        client.recv(4096)


def head(method: str, target: str, *lines: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("ascii")


def form(content: bytes) -> bytes:
    """The body of a submit."""
    opening = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
    return opening.encode() + b"Content-Type: application/pdf\r\n\r\n" + content + f"\r\n--{_BOUNDARY}--\r\n".encode()


def submit(scene: Scene, content: bytes) -> bytes:
    """A whole submit with the other tenant's key."""
    body = form(content)
    kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"
    return head("POST", "/api/v1/marker", f"X-API-Key: {scene.key}", kind, f"Content-Length: {len(body)}") + body


def page_graph(*widths: int) -> bytes:
    """A PDF of some kilobytes whose page tree is a graph, through which a counter would go for seconds."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    for level, width in enumerate(widths):
        leaf = b" %d 0 R" % (len(widths) + 4) if level == 0 else b""
        objects.append(b"<</Type/Pages/Kids[" + b" ".join([b"%d 0 R" % (level + 3)] * width) + leaf + b"]>>")
    objects += [b"<</Type/Pages/Kids[]>>", b"<</Type/Page>>"]
    whole, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%b\nendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, len(whole))
    return whole + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + end


def _rest(scene: Scene, seconds: float) -> None:
    """Waits so long, or until the end."""
    time.sleep(max(0.0, min(seconds, scene.until - time.monotonic())))  # noqa: TID251 -- a process of its own


def nothing(scene: Scene) -> None:
    """Nobody attacks: what the others are compared with."""
    _rest(scene, scene.until)


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
    silent = [open_socket(scene) for _ in range(20)]
    _rest(scene, 1.0)
    for connection in silent:
        connection.close()


def slow_heads(scene: Scene) -> None:
    """A stranger's heads that come byte by byte."""
    with connect(scene) as client:
        for byte in head("GET", "/", "X-Slow: " + "a" * 100):
            client.sendall(bytes([byte]))
            _rest(scene, 0.05)
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


def odd_forms(scene: Scene) -> None:
    """Another tenant's forms of thousands of parts, which nobody converts."""
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'.encode()
    kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"
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


def page_graphs(scene: Scene) -> None:
    """Another tenant's PDFs that take a counter for seconds."""
    send(scene, submit(scene, page_graph(100, 100, 100, 24)))


def many_submits(scene: Scene) -> None:
    """Another tenant's submits, a hundred at once."""
    send(scene, submit(scene, b"%PDF-1.4\n" + b"x" * 2000))


ATTACKS: Final[dict[str, Callable[[Scene], None]]] = {
    attack.__name__: attack
    for attack in (
        nothing, tiny_chunks, empty_lines, large_heads, refusals, bad_logins, handshakes, many_connections,
        slow_heads, tiny_records, unread_answers, odd_forms, large_uploads, slow_uploads, head_requests, held_polls,
        page_graphs, many_submits,
    )
}  # fmt: skip


def repeat(attack: Callable[[Scene], None], scene: Scene) -> None:
    """Attacks again and again; a connection that is refused or cut off is what an attacker has to expect."""
    while scene.goes_on:
        try:
            attack(scene)
        except OSError:
            _rest(scene, 0.01)


def main(name: str, port: str, authority: str, key: str, seconds: str) -> None:
    """Runs one attack on 20 threads."""
    tls = ssl.create_default_context(cafile=authority)
    scene = Scene(int(port), tls, key, time.monotonic() + float(seconds))
    threads = [threading.Thread(target=repeat, args=(ATTACKS[name], scene)) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
