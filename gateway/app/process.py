"""Prepares the process before it serves: file limit, memory, privacy, short waits for the interpreter's lock."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from typing import Final

from gateway.app.garbage import NEVER
from gateway.uploads.pages.confinement import become_undumpable

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_TRIM_AT: Final = 16 * 1024 * 1024
_MMAP_AT: Final = 4 * 1024 * 1024
_MAX_FILES: Final = 1_048_576
_SWITCH: Final = 0.0005
"""Seconds after which a thread gives up the interpreter's lock that another waits for; by default there are 0.005. A
thread that reads a configuration of 3,000 keys, or a ledger, made the loop wait so long for each of its steps."""


def prepare_process() -> None:
    """Raises the limit of open files to the hard limit, lets malloc keep freed memory, and makes memory unreadable.

    Threads that compute give the loop its turn within half a millisecond.

    The process is not dumpable: other processes of its user, such as those that parse hostile PDFs, can't read its
    memory, which holds TLS keys. There is no core dump either.
    """
    become_undumpable()
    sys.setswitchinterval(_SWITCH)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _MAX_FILES)), hard))
    # By default glibc returns buffers of 256 KB to the kernel as soon as they are freed, and faults them in again for
    # the next piece of a body: a fifth of an upload's cost. Without mallopt (musl) nothing is lost.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _TRIM_AT)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_AT)


def tune_memory() -> None:
    """Excludes objects made so far from later garbage collections; clients can bring about short ones only.

    One of generation 1 goes through some 8,000 objects. Those of all objects are left to garbage.py.
    """
    gc.collect()
    gc.freeze()
    gc.enable()  # the command `serve` has switched it off
    gc.set_threshold(700, 10, NEVER)
