"""A sandboxed process that counts the pages of files for the gateway, one after the other.

It is started as a file, not as a module of the package, and imports of the gateway only confinement.py, page_tree.py
and worker_protocol.py. Its standard input is a Unix socket: each request is one byte, which says whether a document
is a whole PDF, one with gaps (pdf_gaps.py) or a TIFF, with the file's descriptor (SCM_RIGHTS); each answer is 8
bytes, the pages or -1. Before the first document it gives up for good all that counting does not need, and says that
it is ready; it ends with the gateway, or with the socket.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

import pypdfium2

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this gateway, whichever else is installed

from gateway.uploads.pages.confinement import confine
from gateway.uploads.pages.page_tree import MAX_BYTES, is_graph
from gateway.uploads.pages.worker_protocol import ANSWER, GAP_ROW, READY, UNKNOWN, Content

if __name__ == "__main__":
    del sys.path[0]  # the standard library comes first again

_PR_SET_PDEATHSIG: Final = 1
_MAX_FILES: Final = 16
_MAX_IMAGES: Final = 100_000  # in a TIFF
_ENTRY: Final = 12  # bytes of a directory entry
_NICE: Final = 10
_LEAST_SECONDS: Final = 0.5
_SECONDS_A_BYTE: Final = 0.2e-6


class DocumentFile:
    """A document in a file, perhaps with gaps, read by the document's own places; the file interface for pypdfium2.

    `has_missed`: a byte in a gap was read, so the document is unknown. It uses only the descriptor and places: the
    sandbox allows no more of the system (confinement.py).
    """

    def __init__(self, fd: int, *, has_gaps: bool = False) -> None:
        self._fd = fd
        self._size = os.lseek(fd, 0, os.SEEK_END)
        gaps = self._read_gaps() if has_gaps else []
        self._starts = [start for start, _ in gaps]
        self._ends = [end for _, end in gaps]
        self._left_out = [0, *accumulate(end - start for start, end in gaps)]
        self._place = 0
        self.has_missed = False

    def _read_gaps(self) -> list[tuple[int, ...]]:
        end = self._size - GAP_ROW.size
        self._size, count = GAP_ROW.unpack(os.pread(self._fd, GAP_ROW.size, end))
        return list(GAP_ROW.iter_unpack(os.pread(self._fd, count * GAP_ROW.size, end - count * GAP_ROW.size)))

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place in the document; a place after the end can't be read."""
        self._place = self._size + place if whence == os.SEEK_END else place
        return self._place

    def tell(self) -> int:
        """The place in the document."""
        return self._place

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes from the current place; none if one of them is in a gap."""
        buffer = ctypes.create_string_buffer(size)
        length = self.readinto(buffer)
        return buffer.raw[:length]

    def readinto(self, buffer: "ctypes.Array[ctypes.c_char]") -> int:
        """Reads from the current place into a buffer; returns how many bytes it read."""
        gap = bisect_right(self._ends, self._place)
        if gap < len(self._starts) and self._place + len(buffer) > self._starts[gap]:
            self.has_missed = True
            return 0
        read = os.pread(self._fd, len(buffer), self._place - self._left_out[gap])
        ctypes.memmove(buffer, read, len(read))
        return len(read)


def count_pages(fd: int, *, has_gaps: bool = False) -> int:
    """Counts the pages of a PDF; UNKNOWN if pdfium can't open it without a password, or needs a byte in a gap.

    UNKNOWN, too, where its page tree is a graph, which pdfium would go through for seconds.
    """
    try:
        if os.lseek(fd, 0, os.SEEK_END) <= MAX_BYTES and is_graph(os.pread(fd, MAX_BYTES, 0)):
            return UNKNOWN
        document = DocumentFile(fd, has_gaps=has_gaps)
        pages = _pages_of(document)
    except (pypdfium2.PdfiumError, OSError, MemoryError):
        return UNKNOWN
    return UNKNOWN if document.has_missed else pages


def _pages_of(file: DocumentFile) -> int:
    document = pypdfium2.PdfDocument(file)
    try:
        return len(document)
    finally:
        document.close()


def count_images(fd: int) -> int:
    """Counts the images of a TIFF; UNKNOWN if its chain of directories is broken or too long."""
    try:
        found = sum(1 for _ in islice(_directories(fd), _MAX_IMAGES))
    except (OSError, OverflowError, struct.error, MemoryError):
        return UNKNOWN
    return found if found < _MAX_IMAGES else UNKNOWN


def _directories(fd: int) -> Iterator[int]:
    """The places of the directories, one for each image, until the last one or a repeated one."""
    order = "<" if os.pread(fd, 2, 0) == b"II" else ">"
    place = _number(fd, order + "I", 4)
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        yield place
        entries = _number(fd, order + "H", place)
        place = _number(fd, order + "I", place + 2 + entries * _ENTRY)


def _number(fd: int, form: str, place: int) -> int:
    """Reads a number at a place; raises struct.error after the end."""
    (number,) = struct.unpack(form, os.pread(fd, struct.calcsize(form), place))
    return int(number)


def serve(connection: socket.socket, seconds: int) -> None:
    """Answers until the other end closes; `seconds` is the CPU time that one answer may take."""
    while True:
        kind, fd = _receive(connection)
        if fd is None:
            return
        _limit_time(seconds, os.lseek(fd, 0, os.SEEK_END))
        has_gaps = kind == Content.GAPPED_PDF.value
        pages = count_images(fd) if kind == Content.TIFF.value else count_pages(fd, has_gaps=has_gaps)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.close(fd)
        connection.sendall(ANSWER.pack(pages))


def _receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """The next file's kind and descriptor; None at the end, or for a message that the gateway never sends."""
    kind, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return kind, descriptors[0] if descriptors else None


def _limit_time(seconds: int, size: int) -> None:
    """Ends this process when a document takes more CPU time than one of its size ever needs.

    Documents that take pdfium long are small: page trees that are graphs, chains of tables. Most harmless ones take
    it less than a hundredth of this limit, damaged ones, whose every object it has to search for, a quarter: at most
    0.05 us a byte, with objects of 70 bytes.
    """
    allowed = _LEAST_SECONDS + size * _SECONDS_A_BYTE
    signal.setitimer(signal.ITIMER_PROF, min(allowed, seconds))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _first_callback() -> object:
    """Makes libffi allocate its memory for callbacks; the caller must keep it, since all later callbacks are in it.

    Where memory can't be both writable and executable (systemd's MemoryDenyWriteExecute) libffi uses a file; once the
    sandbox forbids writing files, pdfium could not be given a document.
    """
    return ctypes.CFUNCTYPE(None)(lambda: None)


def _limit(memory: int) -> None:
    """Sets resource limits, and makes the process end with the gateway; `memory` is in bytes of address space."""
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (most, most))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Takes two arguments: bytes of memory, and whole CPU seconds for one file."""
    memory, seconds = map(int, sys.argv[1:])
    os.nice(_NICE)
    kept = _first_callback()
    _limit(memory)
    with socket.socket(fileno=0) as connection:
        confine()
        connection.sendall(READY)
        serve(connection, seconds)
    del kept


if __name__ == "__main__":
    main()
