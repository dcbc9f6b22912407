"""Files that somebody has named: in the configuration, or on a command line.

What lies at a path may be anything: to open a FIFO waits for a writer, to read a device may never end. So a file is
opened without waiting, looked at, and read no further than its bound.
"""

import os
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from gateway.errors import FileUnusable

PEM_BYTES: Final = 4 * 1024 * 1024  # of certificates and keys, and of bundles of them; no named file has more
_KB: Final = 1024
_MB: Final = 1024 * 1024


def read_named(path: Path, most: int) -> bytes:
    """The content of a regular file of `most` bytes.

    Raises:
        FileUnusable: it is not there, may not be read, is no regular file, or holds more.
    """
    try:
        with os.fdopen(_open(path), "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise FileUnusable(f"can't be read: {error.strerror}") from None
    if len(content) > most:
        raise FileUnusable(f"is larger than {_words(most)}")
    return content


def require_named(path: Path) -> None:
    """Sees to it that a file can be read, and leaves the reading to others.

    Raises:
        FileUnusable: it is not there, may not be read, is no regular file, or larger than any may be.
    """
    opened = _open(path)
    size = os.fstat(opened).st_size
    os.close(opened)
    if size > PEM_BYTES:
        raise FileUnusable(f"is larger than {_words(PEM_BYTES)}")


def _open(path: Path) -> int:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileUnusable(f"can't be read: {getattr(error, 'strerror', None) or 'it is no path'}") from None
    mode = os.fstat(opened).st_mode
    if S_ISREG(mode):
        return opened
    os.close(opened)
    raise FileUnusable("can't be read: Is a directory" if S_ISDIR(mode) else "is no regular file")


def _words(size: int) -> str:
    return f"{size // _MB} MB" if size >= _MB else f"{size // _KB} KB"
