"""What a document that has taken the worker over can do: each attempt is made inside a real one, by its own code."""

import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from gateway.demo.sample import sample_pdf
from gateway.uploads.pages import confinement, worker
from gateway.uploads.pages.confinement import lacking
from gateway.uploads.pages.worker_protocol import ANSWER, READY
from tests.support.process import ROOT, Process, Served, Upstream, configure

# Runs worker.py as it is run, but for what it does with a document: that is Python to be executed, and the answer is
# how it failed. Whatever the attempts need is there before the worker shuts itself in.
WORKER: Final = """
import ctypes, mmap, os, socket, sys
sys.path.insert(0, {root!r})
from gateway.uploads.pages import confinement, worker
libc, parent, Path = ctypes.CDLL(None, use_errno=True), os.getppid(), {secret!r}
page = mmap.mmap(-1, 4096)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def attempt(fd, *, has_gaps=False):
    try:
        exec(os.pread(fd, 65536, 0), globals())
    except OSError as error:
        return error.errno
    return 0
worker.count_pages = attempt
{before}
worker.main()
"""
# By number: what Python has no words for. x86_64 and aarch64.
NUMBERS: Final = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "userfaultfd": (323, 282),
    "unshare": (272, 97), "keyctl": (250, 219), "personality": (135, 92), "prctl": (157, 167), "clone3": (435, 435),
    "open_by_handle_at": (304, 265), "seccomp": (317, 277), "sendmsg": (46, 211), "perf_event_open": (298, 241),
}  # fmt: skip
ATTEMPTS: Final = {
    "open a file": "os.open(Path, os.O_RDONLY)",
    "write a file": "os.open(Path, os.O_WRONLY)",
    "make a file": "os.open(Path + '.new', os.O_WRONLY | os.O_CREAT)",
    "look at a file": "os.stat(Path)",
    "remove a file": "os.unlink(Path)",
    "list a directory": "os.listdir('/')",
    "read the gateway's memory as a file": "os.open(f'/proc/{parent}/mem', os.O_RDONLY)",
    "read the gateway's environment": "os.open(f'/proc/{parent}/environ', os.O_RDONLY)",
    "take the gateway's descriptors": "os.open(f'/proc/{parent}/fd/0', os.O_RDONLY)",
    "connect": "socket.socket()",
    "listen on a name": "socket.socket(socket.AF_UNIX)",
    "make a pair of sockets": "socket.socketpair()",
    "make a process": "os.fork()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "signal the gateway": "os.kill(parent, 0)",
    "make a file in memory": "os.memfd_create('x')",
    "map memory to be executed": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "change memory to be executed": (
        "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "if libc.mprotect(ctypes.c_void_p(address), 4096, 5) < 0: raise OSError(ctypes.get_errno(), '')"
    ),
    "set limits of the gateway": "worker.resource.prlimit(parent, worker.resource.RLIMIT_NOFILE)",
    "trace the gateway": "call({ptrace}, 16, parent, None, None)",
    "read the gateway's memory": "call({process_vm_readv}, parent, None, 0, None, 0, 0)",
    "write the gateway's memory": "call({process_vm_writev}, parent, None, 0, None, 0, 0)",
    "be dumpable again": "call({prctl}, 4, 1, 0, 0, 0)",
    "load a program into the kernel": "call({bpf}, 0, None, 0)",
    "ask the kernel past the filter": "call({io_uring_setup}, 1, None)",
    "get hold of the gateway": "call({pidfd_open}, parent, 0)",
    "get hold of its descriptor": "call({pidfd_getfd}, 0, 0, 0)",
    "hold page faults": "call({userfaultfd}, 0)",
    "have namespaces of its own": "call({unshare}, 0x10000000)",
    "look into keyrings": "call({keyctl}, 0, -3, 0)",
    "let data be executed": "call({personality}, 0x0400000)",
    "make a process in another way": "call({clone3}, None, 0)",
    "open a file in another way": "call({open_by_handle_at}, -100, None, 0)",
    "change the filter": "call({seccomp}, 1, 0, None)",
    "send descriptors": "call({sendmsg}, 0, None, 0)",
    "measure the machine": "call({perf_event_open}, None, 0, -1, -1, 0)",
}  # fmt: skip


def numbers() -> dict[str, int]:
    machines = ["x86_64", "aarch64"]
    if platform.machine() not in machines:
        pytest.skip("no filter for this machine")
    return {name: both[machines.index(platform.machine())] for name, both in NUMBERS.items()}


def written(attempt: str) -> bytes:
    """An attempt with this machine's numbers in it."""
    return attempt.format(**numbers(), parent="{parent}").encode()


@contextmanager
def run_worker(secret: Path, before: str = "") -> Iterator[socket.socket]:
    """A worker that executes what it is given; `before` is done before it shuts itself in."""
    text = WORKER.format(root=str(ROOT), secret=str(secret), before=before)
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    command = [sys.executable, "-I", "-c", text, str(512 * 1_048_576), "60"]
    with ours, theirs, subprocess.Popen(command, stdin=theirs.fileno()) as process:  # noqa: S603 -- our own text
        theirs.close()
        try:
            ours.recv(len(READY))
            yield ours
        finally:
            ours.close()
            process.wait(60)


def ask(inside: socket.socket, content: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        socket.send_fds(inside, [b"w"], [file.fileno()])
    (answer,) = ANSWER.unpack(inside.recv(100))
    return int(answer)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "server.key"
    path.write_text("secret")
    return path


def needs(*layers: str) -> None:
    if set(layers) & set(lacking()):
        pytest.skip(f"this kernel has not {layers}")


def test_nothing_but_counting_can_be_done_inside(secret: Path) -> None:
    needs("seccomp")
    with run_worker(secret) as inside:
        ends = {name: ask(inside, written(text)) for name, text in ATTEMPTS.items()}
        assert ask(inside, b"page[:4]; os.getpid(); worker._limit_time(60, 10**9)") == 0
    assert ends == dict.fromkeys(ATTEMPTS, errno.EPERM)
    assert secret.read_text() == "secret"


def test_the_attempts_succeed_where_nothing_is_confined(secret: Path) -> None:
    """So that the test above fails for the worker's sake, not for the attempts'."""
    with run_worker(secret, "worker.confine = lambda: None") as inside:
        for name in ("open a file", "list a directory", "connect", "make a pair of sockets", "signal the gateway"):
            assert ask(inside, written(ATTEMPTS[name])) == 0, name


LANDLOCKED: Final = {
    "open a file": (1, errno.EACCES),
    "write a file": (1, errno.EACCES),
    "list a directory": (1, errno.EACCES),
    "remove a file": (1, errno.EACCES),
    "trace the gateway": (1, errno.EPERM),
    "read the gateway's memory as a file": (1, errno.EACCES),
    "bind": (4, errno.EACCES),
    "signal the gateway": (6, errno.EPERM),
}


@pytest.mark.parametrize("name", LANDLOCKED)
def test_landlock_stands_by_itself(name: str, secret: Path) -> None:
    needs("landlock")
    version, expected = LANDLOCKED[name]
    if confinement.landlock_version() < version:
        pytest.skip(f"this kernel's Landlock has no version {version}")
    attempt = {**ATTEMPTS, "bind": "socket.socket().bind(('127.0.0.1', 0))"}[name]
    with run_worker(secret, "confinement.give_up_calls = lambda: None") as inside:
        assert ask(inside, written(attempt)) == expected


def test_it_is_not_dumpable(secret: Path) -> None:
    with run_worker(secret, "confinement.give_up_calls = lambda: None") as inside:
        assert ask(inside, b"if libc.prctl(3, 0, 0, 0, 0) != 0: raise OSError(1, '')") == 0


PRIVATE: Final = """
import ctypes, json, os, signal, sys
sys.path.insert(0, {root!r})
from gateway.app.process import prepare_process
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # which changing the user has taken away
ends = []
for prepare in (lambda: None, prepare_process):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        prepare()
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    for name in ("environ", "mem", "maps"):
        try:
            os.close(os.open(f"/proc/{{pid}}/{{name}}", os.O_RDONLY))
            ends.append("opened")
        except PermissionError:
            ends.append("refused")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(json.dumps(ends))
"""


def test_nobody_of_its_user_looks_into_the_gateway() -> None:
    done = subprocess.run([sys.executable, "-c", PRIVATE.format(root=str(ROOT))], capture_output=True, check=True)  # noqa: S603 -- our own text
    assert json.loads(done.stdout) == ["opened"] * 3 + ["refused"] * 3


# An old kernel, or a runtime that refuses the calls: landlock is not there, nor may a filter be set after this one.
OLD_KERNEL: Final = """
import ctypes, errno, runpy, sys
sys.path.insert(0, {root!r})
from gateway.uploads.pages import confinement as c
prctl = {{"x86_64": 157, "aarch64": 167}}[c.platform.machine()]
refuse = lambda number: c.step(c.RETURN, 0x00050000 | number)
code = b"".join([
    c.step(c.LOAD, c.NUMBER),
    c.step(c.IF_EQUAL, 444, otherwise=1), refuse(errno.ENOSYS),
    c.step(c.IF_EQUAL, prctl, otherwise=3),
    c.step(c.LOAD, c.FIRST_ARGUMENT), c.step(c.IF_EQUAL, 22, otherwise=1), refuse(errno.EINVAL),
    c.step(c.RETURN, c.ALLOW),
])
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(c.Program(len(code) // 8, code)), 0, 0) == 0
"""


@contextmanager
def counting_on_an_old_kernel() -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    needs("seccomp")
    numbers()
    program = OLD_KERNEL.format(root=str(ROOT)) + "print(c.lacking(), file=sys.stderr)\n"
    program += "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    command = [sys.executable, "-I", "-c", program, worker.__file__, str(512 * 1_048_576), "60"]
    # Coverage would say on stderr that it can't write there.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with (
        ours,
        theirs,
        subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE, env=environ) as process,  # noqa: S603 -- our own text
    ):
        theirs.close()
        assert ours.recv(len(READY)) == READY
        yield ours, process


def test_where_the_kernel_has_neither_it_counts_all_the_same() -> None:
    with counting_on_an_old_kernel() as (inside, process):
        assert ask(inside, sample_pdf(7)) == 7
        inside.close()
        assert process.stderr is not None
        assert process.stderr.read() == b"['landlock', 'seccomp']\n"


@pytest.mark.parametrize("lacks", [[], ["landlock", "seccomp"]])
def test_the_gateway_says_at_its_start_what_is_lacking(lacks: list[str], tmp_path: Path, certificates: Path) -> None:
    needs("landlock", "seccomp")
    numbers()
    before = OLD_KERNEL.format(root=str(ROOT)) if lacks else "import sys; "
    program = before + "from gateway.__main__ import main; main()"
    with Upstream() as upstream:
        path = configure(tmp_path, certificates, upstream.url)
        command = (sys.executable, "-c", program, "serve", "--config", str(path))
        with Process(command, tmp_path, is_forked=False) as process:  # what it patches comes before all imports
            event = json.loads(process.line(lambda line: '"listening"' in line))
            assert Served(process, event["port"], event["admin_port"]).admin("/livez")[0] == 200
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
            events = [json.loads(line) for line in process.lines]
    told = [event for event in events if event["event"] == "page counters are not wholly confined"]
    assert [event["lacks"] for event in told] == ([lacks] if lacks else [])


def test_what_is_offered_and_fails_ends_the_worker(secret: Path) -> None:
    needs("seccomp")
    with run_worker(secret, "confinement._must = lambda _: (_ for _ in ()).throw(OSError(1, 'no'))") as inside:
        assert inside.recv(1) == b""
