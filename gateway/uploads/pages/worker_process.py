"""The gateway's side of one worker: its process, and the socket to it. The worker's answers are not trusted."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.uploads.pages.worker_protocol import ANSWER, READY, Content

_PROGRAM: Final = Path(__file__).with_name("worker.py")
_OUT_OF_TIME: Final = (-signal.SIGPROF, -signal.SIGXCPU)
_REAP_SECONDS: Final = 5.0
_START_SECONDS: Final = 10.0
_TIMES: Final = slice(11, 13)  # utime and stime, counted from the field after the name
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_HANDED_ON: Final = ("LD_LIBRARY_PATH",)  # environment variables: a custom Python may need it to start


class WorkerProcess:
    """One worker, for one question at a time. `answers` counts its answers.

    `start_seconds` is the CPU time that its start took; 0.0 until it is ready.
    """

    def __init__(self, memory: int, seconds: int, program: Path | None = None) -> None:
        """Starts it, which takes the loop 1 to 3 ms; `memory` is in bytes, `seconds` CPU seconds for one answer.

        Raises:
            OSError: no more processes or files can be opened.
        """
        self.answers = 0
        self.start_seconds = 0.0
        self._is_ready = False
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 -- our own program, our own numbers
                    [sys.executable, "-I", str(program or _PROGRAM), str(memory), str(seconds)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _HANDED_ON if name in os.environ},
                    start_new_session=True,
                )
        except BaseException:
            self._socket.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended; if so, it is also reaped."""
        return self._process.poll() is not None

    @property
    def cpu_seconds(self) -> float | None:
        """The CPU time it has used so far, as the kernel says; None if it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return None
        return sum(map(int, fields[_TIMES])) / _TICKS

    async def ready(self) -> None:
        """Waits until it has started: the first time half a tenth of a second or more, ten seconds at the most.

        Raises:
            OSError: it ended, said something else, or took too long. None of its subclasses, which `ask` raises: a
                start says nothing about a document.
        """
        if self._is_ready:
            return
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await self._said(len(READY))
        except OSError as error:
            raise OSError("not ready") from error
        if said != READY:
            raise OSError("not ready")
        self._is_ready = True
        self.start_seconds = self.cpu_seconds or 0.0

    async def ask(self, fd: int, content: Content = Content.PDF) -> int | None:
        """Has the worker, which must be ready, count one file; None if it can't be counted.

        Raises:
            TimeoutError: it took more CPU time than a document of its size may, and was ended for that.
            ConnectionResetError, ConnectionAbortedError: it crashed, or its answer is invalid.
            OSError: somebody killed it, as the kernel does when memory runs out.
        """
        socket.send_fds(self._socket, [content.value], [fd])
        answer = b""
        while len(answer) < ANSWER.size:
            answer += await self._said(ANSWER.size + 1)
        if len(answer) > ANSWER.size:
            raise ConnectionAbortedError
        self.answers += 1
        (pages,) = ANSWER.unpack(answer)
        return pages if pages >= 0 else None

    async def _said(self, most: int) -> bytes:
        piece = await asyncio.get_running_loop().sock_recv(self._socket, most)
        if not piece:
            await asyncio.to_thread(self.wait)
            raise _why_it_ended(self._process.returncode)
        return piece

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()

    def disconnect(self) -> None:
        """Closes the socket; no answer may be awaited any more."""
        self._socket.close()

    def wait(self) -> None:
        """Waits until the process has ended and is reaped: some milliseconds after kill()."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)


def _why_it_ended(code: int | None) -> OSError:
    if code in _OUT_OF_TIME:
        return TimeoutError()
    return OSError("killed") if code == -signal.SIGKILL else ConnectionResetError()
