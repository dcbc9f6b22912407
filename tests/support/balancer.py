"""What a Kubernetes Service is to TCP: new connections go to replicas that are ready, open ones are left alone.

Readiness is asked for as the kubelet's probe does: GET /readyz on the admin port, again and again. The bytes pass
through untouched, so TLS is between client and gateway. It runs on a loop of its own, in a thread.
"""

import asyncio
import http.client
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, Self

from tests.support.process import DEADLINE, Served

_PROBES_EVERY: Final = 0.1
_PROBE_TIMEOUT: Final = 5.0
_PIECE: Final = 65536


class Service:
    """Balances over the `replicas` that are ready, one connection after the other.

    `failures` are connections that no replica took; `connections` counts those that one did, by its port.
    """

    def __init__(self) -> None:
        self.port = 0
        self.replicas: list[Served] = []
        self.failures: list[str] = []
        self.connections: Counter[int] = Counter()
        self._ready: list[Served] = []
        self._began = 0
        self._target_of: dict[int, int] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stands = threading.Event()
        self._ends = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._stands.wait(DEADLINE)
        return self

    def __exit__(self, *args: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join(DEADLINE)
        self._loop.close()

    def is_ready(self, replica: Served) -> bool:
        """Whether new connections may go to a replica."""
        return replica in self._ready

    def target_of(self, client_port: int) -> int | None:
        """The port of the replica that a client's connection was given, once it was."""
        return self._target_of.get(client_port)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._begin(self._probe())
        self._stands.set()
        await self._ends.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _probe(self) -> None:
        while True:
            asked = list(self.replicas)
            answers = await asyncio.gather(*(self._loop.run_in_executor(None, _is_ready, one) for one in asked))
            self._ready = [replica for replica, is_ready in zip(asked, answers, strict=True) if is_ready]
            await asyncio.sleep(_PROBES_EVERY)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._ready:
            self.failures.append("no replica is ready")
            return
        self._began += 1
        port = self._ready[self._began % len(self._ready)].port
        try:
            from_replica, to_replica = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            self.failures.append(f"{port} is ready, but takes no connection: {error!r}")
            return
        self.connections[port] += 1
        self._target_of[writer.get_extra_info("peername")[1]] = port
        try:
            await asyncio.gather(_pass_on(reader, to_replica), _pass_on(from_replica, writer))
        finally:
            to_replica.close()


def _is_ready(replica: Served) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", replica.admin_port, timeout=_PROBE_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes bytes on until their end, and that too: an orderly one, or a reset."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
