"""The container's own stack, for real: a FastAPI application on uvicorn, with either of its parsers."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

PARSERS: Final = ("httptools", "h11")
LARGE: Final = 8_000_000


class Echo:
    """Answers as it reads: an ASGI application, for StreamingResponse itself would read some of the body away."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                message = await receive()
                yield message.get("body", b"")
                if not message.get("more_body"):
                    return

        await StreamingResponse(pieces())(scope, _nothing, send)


def application() -> FastAPI:
    """Paths that answer on the head alone, one that echoes, and one that no route of the gateway's allows."""
    app = FastAPI()

    @app.api_route("/large", methods=["GET", "POST"])
    async def large() -> PlainTextResponse:
        return PlainTextResponse("l" * LARGE)

    @app.get("/small")
    async def small() -> dict[str, bool]:
        return {"small": True}

    @app.get("/forbidden")
    async def forbidden() -> PlainTextResponse:
        return PlainTextResponse("SECRET")

    app.router.routes.append(Route("/echo", Echo(), methods=["POST"]))
    return app


async def _nothing() -> dict[str, str]:
    """What a streaming answer hears of its client: the body is the echo's alone."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


@contextmanager
def serving(parser: str) -> Iterator[int]:
    """Serves on a free port, on a thread and a loop of its own; gives the port."""
    config = uvicorn.Config(application(), http=parser, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
