"""Real proxies in front of a gateway: nginx, HAProxy, Envoy, started for a test."""

import asyncio
import os
import pwd
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.waiting import DEADLINE

# Envoy is where `make bench`, or `pip install '.[bench]'`, puts it: beside the interpreter.
_PLACES: Final = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin"
PROGRAMS: Final[Mapping[str, str | None]] = {
    name: shutil.which(name, path=_PLACES) for name in ("nginx", "haproxy", "envoy")
}
_HOW: Final = {"nginx": "Debian: nginx", "haproxy": "Debian: haproxy", "envoy": "the extra `bench`"}
needs: Final = {
    name: pytest.mark.skipif(program is None, reason=f"{name} is not installed ({_HOW[name]})")
    for name, program in PROGRAMS.items()
}

_NGINX: Final = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr warn; {user}
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
{servers}
}}
"""


def nginx_whole(directory: Path, servers: str) -> str:
    """What stands in /etc/nginx/conf.d, and what Debian has around it; its files are in a directory of the test."""
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    return _NGINX.format(directory=directory, servers=servers, user=user)


@asynccontextmanager
async def front(name: str, configuration: str, directory: Path, port: int) -> AsyncIterator[int]:
    """Runs a proxy until the end of the context; gives its port once it listens."""
    program = PROGRAMS[name]
    assert program is not None
    path = directory / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml"}[name]
    path.write_text(configuration)
    words = {
        "nginx": ["-p", str(directory), "-c", str(path)],
        "haproxy": ["-db", "-f", str(path)],
        "envoy": ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
    }[name]
    process = await asyncio.create_subprocess_exec(program, *words, stderr=asyncio.subprocess.PIPE)
    try:
        await _until_it_listens(process, port)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _until_it_listens(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            assert process.returncode is None, await process.stderr.read() if process.stderr else b""
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
