"""A process that counts the pages of PDFs for the gateway, one after the other, with nothing to lose.

It is started as a file, not as a module of the package, and knows nothing of the gateway. Its standard input is a
Unix socket: each request is one byte with the descriptor of a file (SCM_RIGHTS); each answer is 8 bytes, the pages
or -1. It can write no file, start no process and gain no rights; it ends with the gateway, or with the socket.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from typing import BinaryIO, Final

import pypdfium2

ANSWER: Final = struct.Struct("<q")
UNKNOWN: Final = -1
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_MOST_FILES: Final = 16


def count_pages(fd: int) -> int:
    """Counts the pages of a PDF; UNKNOWN for what pdfium can't open without a password."""
    try:
        with open(fd, "rb", closefd=False) as file:
            return _pages_of(file)
    except (pypdfium2.PdfiumError, OSError, MemoryError):
        return UNKNOWN


def _pages_of(file: BinaryIO) -> int:
    document = pypdfium2.PdfDocument(file)
    try:
        return len(document)
    finally:
        document.close()


def serve(connection: socket.socket, seconds: int) -> None:
    """Answers until the other end is closed; `seconds` is how much time of the processor one answer may take."""
    while True:
        fd = _receive(connection)
        if fd is None:
            return
        _limit_time(seconds)
        pages = count_pages(fd)
        os.close(fd)
        connection.sendall(ANSWER.pack(pages))


def _receive(connection: socket.socket) -> int | None:
    """The next file; None at the end, or for what the gateway never sends."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return descriptors[0] if descriptors else None


def _limit_time(seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _first_callback() -> object:
    """Lets libffi make the memory that callbacks are called through; to be kept, for all later ones lie in it.

    Where no memory may be writable and executable (MemoryDenyWriteExecute of systemd) it is a file, and once no file
    may be written pdfium could not be given a document.
    """
    return ctypes.CFUNCTYPE(None)(lambda: None)


def _confine(memory: int) -> None:
    """Gives up what counting needs not; `memory` is in bytes of address space."""
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (most, most))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Takes two arguments: bytes of memory, and whole seconds of the processor for one file."""
    memory, seconds = map(int, sys.argv[1:])
    kept = _first_callback()
    _confine(memory)
    with socket.socket(fileno=0) as connection:
        serve(connection, seconds)
    del kept


if __name__ == "__main__":
    main()
