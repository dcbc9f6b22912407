"""Where the attacks of the soak go, and what they send: pieces that several share."""

import socket
import ssl
import time
from typing import Final, NamedTuple

BOUNDARY: Final = "soak"
STRANGER: Final = "127.0.0.2"


class Scene(NamedTuple):
    """Whom to attack and with what: ports, what to trust, another tenant's key, and until when (monotonic)."""

    port: int
    admin_port: int
    tls: ssl.SSLContext
    key: str
    until: float

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until


def open_socket(port: int) -> socket.socket:
    """A connection of an address of its own: at that of the quiet tenant both would have one turn."""
    return socket.create_connection(("127.0.0.1", port), 5, (STRANGER, 0))


def connect(scene: Scene) -> ssl.SSLSocket:
    """A connection that waits for five seconds at the most."""
    return scene.tls.wrap_socket(open_socket(scene.port), server_hostname="localhost")


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
    opening = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
    return opening.encode() + b"Content-Type: application/pdf\r\n\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def field(name: str, value: str) -> bytes:
    """A field of a submit's form, in front of its file."""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def submit(scene: Scene, content: bytes, fields: bytes = b"") -> bytes:
    """A whole submit with the other tenant's key."""
    body = fields + form(content)
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    return head("POST", "/api/v1/marker", f"X-API-Key: {scene.key}", kind, f"Content-Length: {len(body)}") + body


def rest(scene: Scene, seconds: float) -> None:
    """Waits so long, or until the end."""
    time.sleep(max(0.0, min(seconds, scene.until - time.monotonic())))  # noqa: TID251 -- a process of its own
