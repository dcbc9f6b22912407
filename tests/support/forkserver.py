"""Starts Python programs of this project without the start of Python and its imports, which are most of their cost.

Another process of ours, made at the first start, has imported the project and forks for each: a process with its own
pid, session, environment, working directory, signals and exit code, that ends as Python ends.
"""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn

ROOT: Final = Path(__file__).parent.parent.parent
_PYTHON: Final = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
# What Python, the C library or a module reads when it begins: with another value, a program begins by itself.
_OF_BEGINNINGS: Final = ("PYTHON", "AIOHTTP_", "LD_", "MALLOC_", "LC_", "LANG", "OPENSSL_", "SSL_", "COVERAGE_")


def fits(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a program may be forked: a module or a text, in an environment that changes nothing of the imports."""
    return tuple(command[:2]) in {(sys.executable, "-m"), (sys.executable, "-c")} and _beginning(
        environ
    ) == _beginning({**os.environ, **_PYTHON})


def _beginning(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_OF_BEGINNINGS)}


class Forked:
    """A program that was begun so, with the names of subprocess.Popen."""

    def __init__(self, pid: int, status: IO[bytes], stdin: IO[str] | None, stdout: IO[str] | None) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._status = status
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._code if self._code is not None or not self._has_ended(0) else self._read()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its exit code."""
        if self._code is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._read() if self._code is None else self._code

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As kill -9 does."""
        self.send_signal(9)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Closes its input; all that it still writes, and its end."""
        assert self.stdin is not None
        assert self.stdout is not None
        self.stdin.close()
        output = self.stdout.read()
        self.stdout.close()
        self.wait(timeout)
        return output, None

    def _has_ended(self, within: float | None) -> bool:
        return bool(select.select([self._status], [], [], within)[0])

    def _read(self) -> int:
        self._code = int(self._status.readline())
        self._status.close()
        return self._code


class _Server:
    """The process that forks. It ends when we do: our end of its socket is closed then."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- a program of ours
                [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, **_PYTHON},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def end(self) -> None:
        """Ends it; what it has forked lives on."""
        self._socket.close()
        self._process.wait()

    def start(self, asked: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[int, IO[bytes]]:
        """Asks for a program; its pid, and where its exit code will be told."""
        reading, writing = os.pipe()
        status = os.fdopen(reading, "rb", buffering=0)
        try:
            socket.send_fds(self._socket, [json.dumps(asked).encode()], [*descriptors, writing])
        finally:
            os.close(writing)
        return int(status.readline()), status


@cache
def _server() -> _Server:
    return _Server()


def end() -> None:
    """Ends the process that forks, if there is one."""
    if _server.cache_info().currsize:
        _server().end()
        _server.cache_clear()


def start(command: Sequence[str], cwd: Path | None, environ: Mapping[str, str], *, has_input: bool = False) -> Forked:
    """Forks a program that `fits`. Its output is one stream of text; its input is a pipe, or nothing.

    It has a session of its own.
    """
    asked = {"command": list(command[1:]), "cwd": str(cwd or Path.cwd()), "environ": dict(environ)}
    reading, writing = os.pipe()
    typing, typed = os.pipe() if has_input else (os.open(os.devnull, os.O_RDONLY), -1)
    try:
        pid, status = _server().start(asked, (typing, writing, writing))
    finally:
        os.close(writing)
        os.close(typing)
    return Forked(pid, status, os.fdopen(typed, "w") if has_input else None, os.fdopen(reading))


_CLIENT: Final = """#!{python} -IS
import json, os, socket, sys
asked = dict(command=["-m", "gateway", *sys.argv[1:]], cwd=os.getcwd(), environ=dict(os.environ))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({path!r})
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    sys.exit(int(server.recv(16)))
"""


@contextmanager
def gateway_command(path: Path) -> Iterator[None]:
    """Makes `path` the command `gateway` for shells: what they run so is forked, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, tempfile.TemporaryDirectory() as place:
        listening.bind(f"{place}/socket")
        listening.listen()
        path.write_text(_CLIENT.format(python=sys.executable, path=f"{place}/socket"))
        path.chmod(0o755)
        thread = threading.Thread(target=_answer_all, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer_all(listening: socket.socket) -> None:
    with suppress(OSError), ThreadPoolExecutor() as answering:
        while True:
            answering.submit(_answer, listening.accept()[0])


def _answer(client: socket.socket) -> None:
    """Forks what a shell runs, and tells it the exit code."""
    with client:
        message, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 3)
        pid, status = _server().start(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        client.send(b"%d" % Forked(pid, status, None, None).wait())


def _serve(asking: socket.socket) -> dict[str, Any] | None:
    """Forks for each that is asked for. Returns what was asked in the new process, None at the end of all."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(asking, 1 << 20, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                """Forgets those that have told."""
        if not message:
            return None
        if os.fork() == 0:
            asking.close()
            _fork_and_tell(descriptors)
            return dict(json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_and_tell(descriptors: Sequence[int]) -> None:
    """Returns in the new process alone; its parent stays to tell how it ended."""
    *standard, status = descriptors
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.closerange(3, max(descriptors) + 1)
        return
    for descriptor in standard:
        os.close(descriptor)
    os.write(status, b"%d\n" % pid)
    _, ended = os.waitpid(pid, 0)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def _become(asked: Mapping[str, Any]) -> None:
    """Runs the program as Python would, from where this module is __main__ no more."""
    import runpy  # noqa: PLC0415 -- of the server alone

    kind, program, *arguments = asked["command"]
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    if kind == "-m":
        sys.argv = [program, *arguments]
        sys.modules.pop(program, None)  # it is run anew as __main__, and runpy warns of one that is there already
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(program, "<string>", "exec"), main.__dict__)  # noqa: S102 -- a program of ours


def _exit_code(error: BaseException | None) -> int:
    """As Python has it."""
    if isinstance(error, SystemExit):
        if error.code is not None and not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    return int(error is not None)


def _end(error: BaseException | None) -> NoReturn:
    """Ends as Python does, but for taking all modules apart, which would take longer than most programs."""
    code = _exit_code(error)
    threading._shutdown()  # type: ignore[attr-defined] # it waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _main() -> None:
    import gc  # noqa: PLC0415 -- of the server alone
    from importlib import import_module  # noqa: PLC0415 -- likewise

    gc.disable()
    for name in (
        "gateway.cli.main", "gateway.app.serve", "gateway.demo.container", "gateway.demo.receiver",
        "gateway.cli.run_keys", "gateway.ledger.postgres", "gateway.ledger.sqlite", "alembic.command",
        "tests.support.ledgers",
    ):  # fmt: skip
        import_module(name)
    gc.collect()
    gc.freeze()  # what all of them share is neither looked through nor copied
    gc.enable()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        error: BaseException | None = None
        try:
            _become(asked)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 -- told as Python tells it
            error = raised
        _end(error)


if __name__ == "__main__":
    _main()
