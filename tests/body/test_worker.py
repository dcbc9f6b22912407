import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import pypdfium2
import pytest

from gateway.body import worker
from gateway.body.worker import ANSWER, UNKNOWN, count_pages, serve
from gateway.demo.sample import sample_pdf


@pytest.fixture
def both_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def counted(content: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return count_pages(file.fileno())


@pytest.mark.parametrize("pages", [1, 2, 30])
def test_it_counts_as_pdfium_does(pages: int) -> None:
    assert counted(sample_pdf(pages)) == pages == len(pypdfium2.PdfDocument(sample_pdf(pages)))


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 5000, b"%PDF-1.7\n", b"PK\x03\x04"])
def test_what_is_no_pdf_is_unknown(content: bytes) -> None:
    assert counted(content) == UNKNOWN


def test_what_can_t_be_read_is_unknown() -> None:
    read, write = os.pipe()
    os.close(write)
    try:
        assert count_pages(read) == UNKNOWN
    finally:
        os.close(read)


def test_it_answers_one_after_the_other_until_the_other_end_is_closed(
    both_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = both_ends
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda _, limit: limits.append(limit))
    thread = threading.Thread(target=serve, args=(theirs, 10))
    thread.start()
    for pages in (3, 1):
        with tempfile.TemporaryFile() as file:
            file.write(sample_pdf(pages))
            file.flush()
            socket.send_fds(ours, [b"?"], [file.fileno()])
        assert ANSWER.unpack(ours.recv(100)) == (pages,)
    ours.close()
    thread.join(30)
    assert not thread.is_alive()
    assert len(limits) == 2
    assert all(soft > 10 for soft, _ in limits)


def test_a_question_without_a_file_ends_it(both_ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = both_ends
    ours.sendall(b"?")
    serve(theirs, 10)


# As systemd's MemoryDenyWriteExecute: from here on no memory may be writable and executable (PR_SET_MDWE, Linux 6.3).
DENY = """
import ctypes, runpy, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(65, 1, 0, 0, 0):
    sys.exit(77)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_counts_where_memory_is_written_or_executed(
    both_ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = both_ends
    command = [sys.executable, "-I", "-c", DENY, worker.__file__, str(512 * 1024 * 1024), "60"]
    with subprocess.Popen(command, stdin=theirs.fileno()) as process, tempfile.TemporaryFile() as file:  # noqa: S603
        theirs.close()
        file.write(sample_pdf(7))
        file.flush()
        try:
            socket.send_fds(ours, [b"?"], [file.fileno()])
            answer = ours.recv(100)
        except OSError:
            answer = b""
        ours.close()
        if process.wait(60) == 77:
            pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert ANSWER.unpack(answer) == (7,)
