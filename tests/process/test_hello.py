"""What a stranger says before TLS stands reaches no log and no standard error, whatever its bytes are."""

import socket
import ssl
from pathlib import Path

from tests.support.process import DEADLINE, Served, trusting


def test_a_server_name_that_is_not_ascii_is_one_event_without_its_bytes(served: Served, certificates: Path) -> None:
    """CPython decodes the name before any code of ours runs, and would show its bytes beside a traceback."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(certificates).wrap_bio(incoming, outgoing, server_hostname="canary.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read().replace(b"canary.test", b"canary\xff\xfe\xfa\xffz")
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as stranger:
        stranger.sendall(hello)
        while stranger.recv(4096):
            pass
    served.process.line(lambda line: "error nobody could be told of" in line)
    assert "canary" not in served.process.output
    assert "Traceback" not in served.process.output
