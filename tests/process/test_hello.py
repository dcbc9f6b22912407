"""What a stranger says before TLS stands reaches no log and no standard error, whatever its bytes are."""

import socket
import ssl
from pathlib import Path

from tests.support.process import DEADLINE, Served, trusting


def test_a_server_name_that_is_not_ascii_is_refused_without_a_word_of_it(served: Served, certificates: Path) -> None:
    """CPython would decode the name before any code of ours runs, and show its bytes beside a traceback."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(certificates).wrap_bio(incoming, outgoing, server_hostname="canary.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read().replace(b"canary.test", b"canary\xff\xfe\xfa\xffz")
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE) as stranger:
        stranger.sendall(hello)
        assert stranger.recv(4096) == b"\x15\x03\x03\x00\x02\x02\x28"  # handshake_failure
        assert stranger.recv(4096) == b""
    assert "error nobody could be told of" not in served.process.output
    assert "canary" not in served.process.output
    assert "Traceback" not in served.process.output
