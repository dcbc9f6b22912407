"""What the process asks of the system before it serves: files, memory, privacy, and a calm garbage collector."""

import ctypes
import gc
import resource
from contextlib import suppress
from typing import Final

from gateway.uploads.pages.confinement import become_undumpable

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_TRIM_AT: Final = 16 * 1024 * 1024
_MMAP_AT: Final = 4 * 1024 * 1024
_MAX_FILES: Final = 1_048_576


def prepare_process() -> None:
    """Raises the limit of open files to the hard one, keeps freed memory for the next buffer, and its own to itself.

    Not dumpable: what else runs as its user, such as the processes that read hostile PDFs, can't read its memory,
    where keys of TLS are; there is no core dump either.
    """
    become_undumpable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _MAX_FILES)), hard))
    # glibc gives buffers of 256 KB back to the kernel as soon as they are free, and faults them in again for the next
    # piece of a body: a fifth of an upload's cost. Where there is no mallopt (musl), nothing is lost.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _TRIM_AT)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_AT)


def settle_memory() -> None:
    """Leaves what the start has made out of every later collection, and collects seldom: little here is cyclic."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 4, 250)  # of 100,000 one collection may hold the loop for a tenth of a second
