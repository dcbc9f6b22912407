"""The demo's directory: owned by its user, without links that lead elsewhere.

The demo writes keys and certificates there and follows the gateway.yaml in it. In a directory that others can write
to (their own, or one in /tmp) they could make it overwrite the user's files, or control how it runs.
"""

import os
import stat
from pathlib import Path
from typing import Final

from gateway.errors import SetupError

FILES: Final = (
    "ca.pem", "server.pem", "server.key", "sample.pdf", "webhook-secret.txt", "gateway.yaml", "key.txt",
    "ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal",
)  # fmt: skip


def take_place(directory: Path) -> None:
    """Creates the directory, or checks an existing one.

    Raises:
        OSError: it can't be created.
        SetupError: it is a link, owned by another user or open to all, or one of the demo's files in it is a link.
    """
    if directory.is_symlink():
        raise SetupError(f"{directory} is a link, and the demo follows none: name the directory itself")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.lstat()
    if found.st_uid != os.geteuid():
        raise SetupError(f"{directory} belongs to somebody else: choose another directory")
    if found.st_mode & stat.S_IWOTH:
        raise SetupError(f"{directory} is open to all: choose another directory, or chmod o-w it")
    for name in FILES:
        if (directory / name).is_symlink():
            raise SetupError(f"{directory / name} is a link, and the demo follows none: take it away")
