"""What strangers and other tenants do to the gateway in the soak: `python -m soak.attacks NAME PORT CA KEY SECONDS`.

Each attack is a row of docs/threat-model.md, runs for so many seconds and ends by itself. It sends to 127.0.0.1
alone.
"""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

_BOUNDARY: Final = "soak"
_AT_ONCE: Final = 20


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


def connect(scene: Scene) -> ssl.SSLSocket:
    """A connection that waits for five seconds at the most."""
    plain = socket.create_connection(("127.0.0.1", scene.port), 5)
    return scene.tls.wrap_socket(plain, server_hostname="localhost")


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


def nothing(scene: Scene) -> None:
    """Nobody attacks: what the others are compared with."""
    time.sleep(max(0.0, scene.until - time.monotonic()))  # noqa: TID251 -- a process of its own


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


def page_graphs(scene: Scene) -> None:
    """Another tenant's PDFs that take a counter for seconds."""
    send(scene, submit(scene, page_graph(100, 100, 100, 24)))


def many_submits(scene: Scene) -> None:
    """Another tenant's submits, a hundred at once."""
    send(scene, submit(scene, b"%PDF-1.4\n" + b"x" * 2000))


ATTACKS: Final[dict[str, Callable[[Scene], None]]] = {
    attack.__name__: attack
    for attack in (
        nothing, tiny_chunks, empty_lines, large_heads, refusals, bad_logins, handshakes, page_graphs, many_submits,
    )
}  # fmt: skip


def repeat(attack: Callable[[Scene], None], scene: Scene) -> None:
    """Attacks again and again; a connection that is refused or cut off is what an attacker has to expect."""
    while scene.goes_on:
        try:
            attack(scene)
        except OSError:
            time.sleep(0.01)  # noqa: TID251 -- a process of its own


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
