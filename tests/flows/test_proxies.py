"""A real nginx and a real HAProxy in front, configured as most tutorials do it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.backend import Backend
from tests.support.client import Client
from tests.support.fronts import front, needs, nginx_whole
from tests.support.gateway import PLAIN, Running, request
from tests.support.process import free_port

# The lines of ../cases/nginx-in-front.conf, which stand in most tutorials.
_NGINX = """
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://127.0.0.1:{gateway}; proxy_ssl_verify off; proxy_http_version 1.1;
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
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


@asynccontextmanager
async def nginx(directory: Path, gateway: Running) -> AsyncIterator[int]:
    port = free_port()
    whole = nginx_whole(directory, _NGINX.format(port=port, gateway=gateway.port))
    async with front("nginx", whole, directory, port) as listening:
        yield listening


@asynccontextmanager
async def haproxy(directory: Path, gateway: Running) -> AsyncIterator[int]:
    port = free_port()
    async with front("haproxy", _HAPROXY.format(port=port, gateway=gateway.port), directory, port) as listening:
        yield listening


@needs["nginx"]
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


@needs["haproxy"]
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
