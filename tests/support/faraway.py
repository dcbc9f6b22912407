"""A PostgreSQL that is far away: a TCP relay on loopback before the real server, which holds back all that passes."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Self


class FarAway:
    """Relays to a server's socket; each way takes half of `seconds`. `trips` counts how often the way was gone."""

    def __init__(self, server: Path, seconds: float) -> None:
        self._server = server / ".s.PGSQL.5432"
        self.seconds = seconds
        self.trips = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server | None = None

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *args: object) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await close_all(self._writers)  # one whose end is on its way would never get it: the loop may end behind this

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_unix_connection(self._server)
        self._writers += [writer, to_there]
        loop = asyncio.get_running_loop()
        is_answered = [True]

        def asked() -> None:
            self.trips += is_answered[0]
            is_answered[0] = False

        def answered() -> None:
            is_answered[0] = True

        for source, target, note in ((reader, to_there, asked), (there, writer, answered)):
            task = loop.create_task(self._relay(source, target, note))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    note()
                    loop.call_later(self.seconds / 2, _write, writer, data)
                loop.call_later(self.seconds / 2, writer.close)
        except asyncio.CancelledError:
            writer.close()
            raise


async def close_all(writers: Collection[asyncio.StreamWriter]) -> None:
    """Closes them, and waits until they are closed."""
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
