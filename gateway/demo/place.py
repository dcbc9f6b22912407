"""The demo's directory: one of its user's own, in which nothing leads elsewhere.

The demo writes keys and certificates there, and does what the gateway.yaml in it says. A directory that others may
write into (one of theirs, one in /tmp) could make it overwrite files of its user's, or run as they like.
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
    """Makes the directory, or makes sure of one that is there.

    Raises:
        OSError: when it can't be made.
        SetupError: it is a link, somebody else's or open to all, or one of the demo's files in it is a link.
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
