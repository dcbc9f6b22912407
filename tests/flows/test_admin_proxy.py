"""The admin listener behind a real HAProxy that shares its connections: nobody's request touches another's."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.client import Client
from tests.support.gateway import ENVIRON, Running, Start

TOKEN: Final = "canary-admin-token"
CONFIG: Final = """\
global
  maxconn 50
defaults
  mode http
  http-reuse always
  timeout connect 30s
  timeout client 30s
  timeout server 30s
frontend admin
  bind fd@{fd}
  default_backend gateway
backend gateway
  {more}
  server gateway 127.0.0.1:{port}
"""


@asynccontextmanager
async def haproxy(directory: Path, gateway: Running, more: str = "") -> AsyncIterator[int]:
    """Runs HAProxy in front of the admin listener; gives its port."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not here (Debian: haproxy)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = directory / "haproxy.cfg"
        config.write_text(CONFIG.format(fd=listening.fileno(), port=gateway.admin_port, more=more))
        process = await asyncio.create_subprocess_exec(
            "haproxy", "-db", "-q", "-f", str(config), pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL
        )
        try:
            yield listening.getsockname()[1]
        finally:
            process.kill()
            await process.wait()


def operator(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body]).encode()


def stranger(trailer: str, path: str = "/admin/v1/keys") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n2\r\n{{}}\r\n0\r\n{trailer}\r\n\r\n".encode()


async def through(port: int, request: bytes, method: bytes = b"GET") -> tuple[int, bytes]:
    client = await Client.connect(port, None)
    try:
        answer = await client.ask(request, method)
    finally:
        await client.close()
    return answer.status, answer.body


@pytest.mark.parametrize("trailer", ["Authorization: Bearer lent", "Idempotency-Key: planted", "Host: elsewhere"])
@pytest.mark.parametrize("path", ["/admin/v1/keys", "/livez", "/nowhere"])
async def test_a_strangers_trailer_is_nobodys_header(trailer: str, path: str, start: Start, tmp_path: Path) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with haproxy(tmp_path, gateway) as port:
        made = operator("/admin/v1/keys", method="POST", body='{"id": "acme"}')
        assert (await through(port, made, b"POST"))[0] == 201
        for _ in range(3):
            assert (await through(port, stranger(trailer, path), b"POST"))[0] in {401, 404, 405}
            rotate = operator("/admin/v1/keys/acme/rotate", method="POST", body='{"overlap": "1h"}')
            status, body = await through(port, rotate, b"POST")
            assert (status, json.loads(body)["secret"] is not None) == (200, True)


async def test_the_operators_own_trailer_is_nobodys_header(start: Start, tmp_path: Path) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with haproxy(tmp_path, gateway) as port:
        framing = "Transfer-Encoding: chunked", "Content-Type: application/json"
        lent = operator("/admin/v1/keys", *framing, method="POST")
        lent += b'e\r\n{"id": "lent"}\r\n0\r\nAuthorization: Bearer %b\r\n\r\n' % TOKEN.encode()
        assert (await through(port, lent, b"POST"))[0] == 201
        for _ in range(3):
            assert (await through(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 401


async def test_without_a_token_who_comes_through_a_proxy_is_not_from_here(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    async with haproxy(tmp_path, gateway, "option forwardfor") as port:
        status, body = await through(port, b"GET /admin/v1/keys HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, json.loads(body)["reason"]) == (403, "forbidden")
        assert (await through(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 200
