"""Receivers of webhooks over real TLS: one that records and answers, and raw ones that misbehave."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict
from pytest_aiohttp import AiohttpRawServer

from gateway.tls.dev_certificates import make_development_certificates
from tests.support.waiting import Facts

HOST = "hooks.example"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Got(NamedTuple):
    """A request as a receiver saw it."""

    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes


class Receiver:
    """Records what comes and answers what it is told: `answers` are those of the next requests, then `answer`."""

    def __init__(self) -> None:
        self.port = 0
        self.got: list[Got] = []
        self.facts = Facts()
        self.answer = 204
        self.headers: dict[str, str] = {}
        self.answers: list[int] = []
        self.gate: asyncio.Event | None = None
        self.running = 0
        self.most = 0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        got = Got(request.method, request.raw_path, CIMultiDict(request.headers), await request.read())
        self.got.append(got)
        self.running += 1
        self.most = max(self.most, self.running)
        self.facts.changed()
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1
        return web.Response(status=self.answers.pop(0) if self.answers else self.answer, headers=self.headers)


def make_certificates(directory: Path) -> Path:
    make_development_certificates(directory, ["localhost", "127.0.0.1", HOST])
    return directory


def server_context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context


async def receiving(begin: AiohttpRawServer, context: ssl.SSLContext | None) -> Receiver:
    """A receiver until the test ends; `begin` is aiohttp_raw_server."""
    receiver = Receiver()
    receiver.port = (await begin(receiver.serve, ssl=context, access_log=None)).port or 0
    return receiver


@contextlib.asynccontextmanager
async def misbehaving(serve: Serve, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A server whose connections are served by `serve`, until it ends; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
