import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import pypdfium2
import pytest

from gateway.demo.sample import sample_pdf
from gateway.uploads.pages import worker
from gateway.uploads.pages.worker import count_images, count_pages, serve
from gateway.uploads.pages.worker_protocol import ANSWER, READY, UNKNOWN


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


def tiff(images: int, order: str = "<", *, backwards: bool = False) -> bytes:
    """A TIFF of so many directories, each with one entry."""
    begin = {"<": b"II", ">": b"MM"}[order]
    places = [8 + number * 18 for number in range(images)]
    if backwards:
        places.reverse()
    following = dict(zip(places, [*places[1:], 0], strict=False))
    out = bytearray(begin + struct.pack(order + "HI", 42, places[0] if places else 0))
    for at in sorted(places):
        out += struct.pack(order + "H", 1) + b"\x00" * 12 + struct.pack(order + "I", following[at])
    return bytes(out)


def images_of(content: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return count_images(file.fileno())


@pytest.mark.parametrize("images", [0, 1, 3, 400])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("backwards", [False, True])
def test_it_counts_the_images_of_a_tiff(images: int, order: str, backwards: bool) -> None:
    assert images_of(tiff(images, order, backwards=backwards)) == images


@pytest.mark.parametrize(
    ("content", "images"),
    [
        (b"", UNKNOWN),
        (b"II*\x00", UNKNOWN),
        (tiff(3)[:-1], UNKNOWN),
        (b"II*\x00\xff\xff\xff\xff", UNKNOWN),
        (tiff(1)[:-4] + struct.pack("<I", 8), 1),  # a circle
        pytest.param(tiff(100_001), UNKNOWN, id="one too many"),
    ],
)
def test_a_hostile_tiff_is_counted_or_unknown(content: bytes, images: int) -> None:
    assert images_of(content) == images


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


@pytest.mark.parametrize(("size", "seconds"), [(1000, 0.5), (10_000_000, 2.5), (1_000_000_000, 10.0)])
def test_padding_buys_a_document_little_time(
    both_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, size: int, seconds: float
) -> None:
    """At 0.5 us a byte, ten megabytes of padding had five seconds of a process; pdfium needs at most 0.05."""
    ours, theirs = both_ends
    allowed: list[float] = []
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    monkeypatch.setattr("signal.setitimer", lambda _, limit: allowed.append(limit))
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        socket.send_fds(ours, [b"?"], [file.fileno()])
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, 10)
    assert allowed == [pytest.approx(seconds, rel=0.01), 0]


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
            answer = ours.recv(100) if ours.recv(len(READY)) == READY else b""
        except OSError:
            answer = b""
        ours.close()
        if process.wait(60) == 77:
            pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert ANSWER.unpack(answer) == (7,)
