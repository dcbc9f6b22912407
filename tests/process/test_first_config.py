"""`gateway config init` at a real terminal."""

import os
import pty
from pathlib import Path
from subprocess import Popen

from gateway.config.load import load
from tests.support.process import DEADLINE, GATEWAY, ROOT


def test_enter_accepts_what_is_offered(tmp_path: Path, certificates: Path) -> None:
    ours, its = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = (*GATEWAY, "config", "init", "--config", str(tmp_path / "new.yaml"))
    with Popen(words, stdin=its, stdout=its, stderr=its, cwd=tmp_path, env=environ) as process:  # noqa: S603 -- our own
        os.close(its)
        pair = f"{certificates}/server.pem\n{certificates}/server.key\n"
        os.write(ours, f"{pair}10.0.0.0/8\n\n\n\n".encode())
        told = _all_of(ours)
        assert process.wait(DEADLINE) == 0, told
    assert "Traceback" not in told
    settings = load(tmp_path / "new.yaml", {})
    assert (settings.upstream.url, settings.listen.port) == ("http://127.0.0.1:8000", 8443)


def _all_of(terminal: int) -> str:
    """Until its other end is closed, which Linux tells by an error."""
    told = b""
    try:
        while piece := os.read(terminal, 4096):
            told += piece
    except OSError:
        pass
    finally:
        os.close(terminal)
    return told.decode()
