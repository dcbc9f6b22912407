"""The container's stand-in for measurements: canned answers and a sink for uploads, as cheap as Python can be.

Run as `python -m bench.backend PORT RESULT_FILE`. It speaks just enough HTTP/1.1 keep-alive for our peers:
- POST /api/v1/{operation}: swallows the body, answers with a new request_id; its size says what becomes of the job:
  a small one runs for ever, one of about WAITED bytes ends within two seconds, one of about WATCHED bytes after ten,
  any other has ended;
- GET  /api/v1/marker/{id}: a small `processing` answer, the poll; or that the job has ended, when it did by the wall
  clock, how long it took, and how often it was asked for;
- GET  /api/v1/ocr/{id}: the large result;
- any other GET: {"status":"healthy"}.
"""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from bench.framing import Chunked, Sized

READ_SIZE = 1 << 20
ENDLESS, WAITED, WATCHED, LARGER = 1600, 3000, 5000, 7000
SHORTEST, MAX_LENGTH = 0.4, 1.6
TEN, GOLDEN = 9.5, 0.618034  # seconds to begin with, and a step that spreads any number of ends evenly over one more
POLL = (
    b'{"status":"processing","success":null,"error":null,"output_format":"markdown","markdown":null,"html":null,'
    b'"json":null,"chunks":null,"images":null,"metadata":null,"page_count":null,"checkpoint_id":null,'
    b'"versions":{"marker":"1.10.1"},"parse_quality_score":null,"runtime":null,"total_cost":null}'
)


def answer(body: bytes) -> bytes:
    """Frames a JSON body as the whole HTTP answer."""
    head = (
        f"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
    )
    return head.encode() + body


class Waited:
    """A job that somebody waits for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends_at = time.time() + seconds
        self.asked = 0

    def answer(self, poll: bytes) -> bytes:
        """The answer to one more question."""
        self.asked += 1
        if time.time() < self.ends_at:
            return poll
        facts = f'"ended_at":{self.ends_at!r},"took":{self.seconds!r},"asked":{self.asked}'
        return answer(f'{{"status":"complete","success":true,"page_count":10,{facts}}}'.encode())


class Canned:
    """The answers, made once."""

    def __init__(self, result: bytes) -> None:
        self._waited: dict[bytes, Waited] = {}
        self.done = answer(b'{"status":"complete","success":true,"page_count":10}')
        self.poll = answer(POLL)
        self.result = answer(result)
        self.healthy = answer(b'{"status":"healthy"}')
        self._ids: Iterator[int] = itertools.count(1)
        self._watched: Iterator[int] = itertools.count()

    def get(self, head: bytes) -> bytes:
        """Answers a GET by its path."""
        if head.startswith(b"GET /api/v1/marker/bench-endless"):
            return self.poll
        if head.startswith(b"GET /api/v1/marker/bench-waited"):
            return self._waited[head[19 : head.index(b" ", 19)]].answer(self.poll)
        if head.startswith(b"GET /api/v1/marker/"):
            return self.done
        return self.result if head.startswith(b"GET /api/v1/ocr/") else self.healthy

    def submitted(self, size: int) -> bytes:
        """Answers a submit whose body has ended."""
        life = "endless" if size < ENDLESS else "waited" if WAITED <= size < LARGER else "ended"
        name = f"bench-{life}-{next(self._ids)}"
        if life == "waited":
            self._waited[name.encode()] = Waited(self._length(size))
        body = f'{{"success":true,"error":null,"request_id":"{name}","request_check_url":"/api/v1/marker/{name}"}}'
        return answer(body.encode())

    def _length(self, size: int) -> float:
        """How long a job runs; those that are watched end at every moment of a second alike, in each run."""
        if size >= WATCHED:
            return TEN + next(self._watched) * GOLDEN % 1
        return random.uniform(SHORTEST, MAX_LENGTH)  # noqa: S311 - a load


class Backend(asyncio.BufferedProtocol):
    """One connection: heads are read whole, bodies are skipped in place."""

    def __init__(self, canned: Canned, buffer: memoryview) -> None:
        self._canned = canned
        self._buffer = buffer
        self._head = b""
        self._body: Sized | Chunked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        """Lends the one buffer of all connections: what a read left there is consumed before the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what came: the rest of a body, or heads."""
        view = self._buffer[:nbytes]
        while view:
            view = self._head_in(view) if self._body is None else self._body_in(self._body, view)

    def _body_in(self, body: Sized | Chunked, view: memoryview) -> memoryview:
        """Skips body bytes; at the body's end the submit is answered."""
        rest = body.skip(view)
        if body.done:
            self._body = None
            self._transport.write(self._canned.submitted(body.size))
        return rest

    def _head_in(self, view: memoryview) -> memoryview:
        """Collects one head; a GET is answered at once, a POST waits for its body."""
        head, found, rest = (self._head + bytes(view)).partition(b"\r\n\r\n")
        if not found:
            self._head = head
            return view[:0]
        self._head = b""
        if head.startswith(b"POST"):
            self._body = body_of(head)
        else:
            self._transport.write(self._canned.get(head))
        return memoryview(rest)


def body_of(head: bytes) -> Sized | Chunked:
    """Reads the framing of a POST."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return Sized(int(line[15:]))
    return Chunked()


async def main(port: int, result: bytes) -> None:
    """Serves until terminated."""
    canned = Canned(result)
    buffer = memoryview(bytearray(READ_SIZE))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(canned, buffer), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
