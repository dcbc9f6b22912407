"""A real nginx and a real HAProxy in front, configured as most tutorials do it."""

import asyncio
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.backend import Backend
from tests.support.client import Client
from tests.support.gateway import PLAIN, Running, request
from tests.support.waiting import DEADLINE

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

# The lines of ../cases/nginx-in-front.conf, which stand in most tutorials.
_NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr warn; {user}
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://127.0.0.1:{gateway}; proxy_ssl_verify off; proxy_http_version 1.1;
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""
# `option httpchk` alone asks by HTTP/1.0 and without a Host.
_HAPROXY = """
defaults
  mode http
  timeout connect 30s
  timeout client 30s
  timeout server 30s
  timeout check 30s
listen front
  bind 127.0.0.1:{port}
  option httpchk GET /health_check
  server gateway 127.0.0.1:{gateway} ssl verify none check inter 200ms rise 1 fall 1
  http-request set-header Upgrade websocket if {{ path_beg /api/v1/plain }}
  http-request return status 200 content-type text/plain lf-string "%[srv_is_up(front/gateway)]" if {{ path /state }}
"""


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


@asynccontextmanager
async def proxy(command: list[str], port: int) -> AsyncIterator[int]:
    """Runs a proxy until the end of the context; returns its port once it listens."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                assert process.returncode is None, await process.stderr.read() if process.stderr else b""
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                break
        yield port
    finally:
        process.terminate()
        await process.communicate()


@asynccontextmanager
async def nginx(directory: Path, gateway: Running) -> AsyncIterator[int]:
    assert NGINX is not None
    port = free_port()
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    path = directory / "nginx.conf"
    path.write_text(_NGINX.format(directory=directory, port=port, gateway=gateway.port, user=user))
    async with proxy([NGINX, "-p", str(directory), "-c", str(path)], port) as listening:
        yield listening


@asynccontextmanager
async def haproxy(directory: Path, gateway: Running) -> AsyncIterator[int]:
    assert HAPROXY is not None
    port = free_port()
    path = directory / "haproxy.cfg"
    path.write_text(_HAPROXY.format(port=port, gateway=gateway.port))
    async with proxy([HAPROXY, "-db", "-q", "-f", str(path)], port) as listening:
        yield listening


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx)")
async def test_nginx_with_the_lines_of_the_tutorials(gateway: Running, backend: Backend, tmp_path: Path) -> None:
    async with nginx(tmp_path, gateway) as port:
        for sent in (
            request(),
            request("POST", PLAIN, body=b"x" * 200_000),
            request("GET", "/health_check", "Connection: upgrade", "Upgrade: websocket"),
        ):
            client = await Client.connect(port, None)
            async with client:
                assert (await client.ask(sent)).status == 200
    assert [len(arrived.body) for arrived in backend.requests] == [0, 200_000, 0]
    assert all(arrived.values(b"upgrade") == [] for arrived in backend.requests)


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: haproxy)")
async def test_haproxy_with_its_plain_check(gateway: Running, backend: Backend, tmp_path: Path) -> None:
    async with haproxy(tmp_path, gateway) as port:
        while not gateway.counted(route="health", status=200):  # noqa: ASYNC110 -- HAProxy says when
            await asyncio.sleep(0.05)
        client = await Client.connect(port, None)
        async with client:
            assert (await client.ask(request("GET", "/state"))).body == b"1"
            assert (await client.ask(request("POST", PLAIN, body=b"hello"))).status == 200
            assert (await client.ask(request())).status == 200
    checks = [arrived for arrived in backend.requests if arrived.target == b"/health_check"]
    assert all(arrived.values(b"x-forwarded-host") == [] for arrived in checks)
    assert gateway.counted(status=400) == 0
