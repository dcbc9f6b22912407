"""The demo's receiver: what anybody's would be."""

import sys
import time
from pathlib import Path

import pytest
from pytest_aiohttp import AiohttpClient

from gateway.demo.receiver import make_receiver
from gateway.webhooks.signature import Secrets, sign
from tests.support.process import Process

SECRET = b"secret-of-the-demo-0123"
BODY = b'{"request_id":"job-1","status":"complete"}'


async def test_it_verifies(aiohttp_client: AiohttpClient, capsys: pytest.CaptureFixture[str]) -> None:
    client = await aiohttp_client(make_receiver(SECRET))
    signed = sign(Secrets(SECRET, (SECRET,)), "message-1", time.time(), BODY)
    for headers, status in (({}, 401), (signed, 204), (signed, 204)):
        async with client.post("/hook", data=BODY, headers=headers) as response:
            assert response.status == status
    lines = capsys.readouterr().out.splitlines()
    said = BODY.decode()
    assert lines == ["refused: its signature does not fit", f"verified: {said}", f"once more: {said}"]


def test_without_a_demo_it_says_what_is_missing(tmp_path: Path) -> None:
    with Process((sys.executable, "-m", "gateway.demo.receiver", str(tmp_path))) as process:
        assert process.exit_code() == 1
    assert "webhook-secret.txt" in process.output
