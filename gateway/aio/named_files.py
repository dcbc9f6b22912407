"""Reads files that a configuration or a command line names.

A path may lead to anything: opening a FIFO waits for a writer, reading a device may never end. So a file is opened
without blocking, its type is checked, and the read is limited in size.
"""

import os
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final, NamedTuple

from gateway.errors import FileUnusable

PEM_BYTES: Final = 4 * 1024 * 1024  # for certificates, keys and bundles of them; the largest limit of any named file
SECRET_FILE_BYTES: Final = 65_536  # for one secret: a key, a token, a password
_KB: Final = 1024
_MB: Final = 1024 * 1024


class FileStats(NamedTuple):
    """What tells one content of a file from another, unless both were written within one tick of a clock."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def read_named(path: Path, most: int) -> bytes:
    """Returns the content of a regular file of at most `most` bytes.

    Raises:
        FileUnusable: the file is missing, unreadable, not a regular file, or too large.
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
    """Checks that a file can be read, without reading it.

    Raises:
        FileUnusable: the file is missing, unreadable, not a regular file, or larger than PEM_BYTES.
    """
    with os.fdopen(_open(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
    if size > PEM_BYTES:
        raise FileUnusable(f"is larger than {_words(PEM_BYTES)}")


def stats_of(path: Path) -> FileStats | None:
    """What the system says of a file; None of one that can't be read.

    The file is opened for that: a network's file system then asks its server, instead of what it remembers.
    """
    try:
        opened = _open(path)
    except FileUnusable:
        return None
    try:
        found = os.fstat(opened)
    except OSError:
        return None
    finally:
        os.close(opened)
    return FileStats(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _open(path: Path) -> int:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileUnusable(f"can't be read: {getattr(error, 'strerror', None) or 'it is not a path'}") from None
    try:
        mode = os.fstat(opened).st_mode
    except OSError as error:
        os.close(opened)
        raise FileUnusable(f"can't be read: {error.strerror}") from None
    if S_ISREG(mode):
        return opened
    os.close(opened)
    raise FileUnusable("can't be read: Is a directory" if S_ISDIR(mode) else "is not a regular file")


def _words(size: int) -> str:
    return f"{size // _MB} MB" if size >= _MB else f"{size // _KB} KB"
