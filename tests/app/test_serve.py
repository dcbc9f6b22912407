"""What takes long at the start is done before anybody is accepted: nobody waits for it then."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
import yaml

from gateway.app import serve
from gateway.listener.accept import Acceptor
from tests.support.gateway import ENVIRON, document


def test_memory_is_settled_before_anybody_is_accepted(
    tmp_path: Path, certificates: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()
    start = Acceptor.start

    def noted(acceptor: Acceptor) -> None:
        steps.append("accepts")
        start(acceptor)

    monkeypatch.setattr(Acceptor, "start", noted)
    monkeypatch.setattr(serve, "tune_memory", lambda: steps.append("settles"))
    monkeypatch.setattr(serve, "lacking", lambda: steps.append("looks at the kernel"))
    monkeypatch.setattr(serve, "prepare_process", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    path = tmp_path / "gateway.yaml"
    sections = {"ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"}}
    path.write_text(yaml.safe_dump(document(certificates, unused_tcp_port, sections)))
    serve.serve(
        path,
        ENVIRON,
        loop_factory=asyncio.new_event_loop,
        listening=lambda _: signal.raise_signal(signal.SIGUSR1),
        ended_by=(signal.SIGUSR1,),
    )
    assert steps == ["looks at the kernel", "settles", "accepts", "accepts"]
