"""Files that have no name, for what has to be read whole: written on a thread, within a quota, gone with the process.

A write never blocks the loop: pieces are gathered, and while the thread writes some the next are gathered; only who
is faster than the disk waits. Whatever the disk does wrong is one refusal, which says it in words.

To fill a new file costs the kernel three times what it costs to write over an old one (tried: 0.24 s and 0.07 s for a
GB). So a few files are kept for the next uploads. Only one that was written whole is kept: no write is left to come,
and its size is known. What it holds counts against the quota until it is freed: after two seconds, or at once when
the quota is needed. An upload that takes the file has two seconds to write over it; then the rest is cut off. Nobody
is shown a file before it is cut to its upload's size.
"""

import asyncio
import errno
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import ConfigurationError, Fault
from gateway.uploads.spool_file import SpoolFile, no_room

MUCH_GATHERED: Final = 33_554_432
_OF_MUCH: Final = 0.85
"""Of the quota, for owners that have much of it by several files: what is counted gives way to nobody, and two
owners with PDFs that are counted for long would keep out all others."""

_MUCH: Final = 0.125
"""Who has less never gives way: of many equal uploads the largest is the one that will soon be done, and all would be
ended just before they are. So an eighth of the quota is nobody's to take, but eight owners can have it all.
An owner's keys have one share together: by another key nobody has more."""

_DEADLINE: Final = 30.0  # seconds
_MAX_KEPT: Final = 4
KEPT_FOR: Final = 2.0  # seconds
_PASSES: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


class Spool:
    """Where such files are made, and how many bytes they all may have together. Belongs to one loop."""

    def __init__(
        self,
        directory: Path | None,
        limit: int,
        *,
        deadline: float = _DEADLINE,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        """Takes a directory, made if it is missing (None: the system's temporary one), and the limit in bytes.

        `deadline` is how long one write of some hundred kilobytes may take, in seconds. `thread` is one thread that
        writes and ends with the spool: one of its own, if there is none.
        """
        self._directory = directory
        self._limit = limit
        self._used = 0
        self._deadline = deadline
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._files: set[SpoolFile] = set()
        self._shares: dict[str, SpoolShare] = {}  # of the owners that have files
        self._waiting = 0
        self._kept: list[Kept] = []
        self._closed = False

    def __repr__(self) -> str:
        kept = f"kept_files={len(self._kept)} kept={self.kept}"
        return f"<Spool{' closed' if self._closed else ''} open={len(self._files)} used={self._used} {kept}>"

    @property
    def kept_for(self) -> float:
        """How long what an earlier upload left is kept, in seconds."""
        return KEPT_FOR

    @property
    def limit(self) -> int:
        """How many bytes all files may have together."""
        return self._limit

    @property
    def used(self) -> int:
        """How many bytes the files have that are open for an upload, with what an earlier one left in them."""
        return self._used

    @property
    def kept(self) -> int:
        """How many bytes the files have that are kept for the next upload."""
        return sum(kept.size for kept in self._kept)

    def open(self, owner: str = "") -> SpoolFile:
        """Makes a file for an owner's upload, or takes one that was kept.

        Raises:
            Refused: spool_full, when there can't be one.
        """
        fd, old = self._take_kept() or (self._new(), 0)
        file = SpoolFile(self, fd, self._thread, self._deadline, old, owner)
        self._files.add(file)
        if owner:
            share = self._shares.setdefault(owner, SpoolShare())
            share.files.add(file)
            share.size += old
        return file

    def close(self) -> None:
        """Frees what is kept; ends the thread once the last file is closed and its last write done."""
        self._closed = True
        self._free_kept()
        self._end_thread()

    def reserve(self, size: int, owner: str = "") -> None:
        """Takes bytes of the quota, for an owner's file.

        When it is used up, an owner that has more than an eighth gives way to one that has less, by its largest
        upload: uploads may be slow, so that a few owners could keep out all others for hours.

        Raises:
            Refused: spool_full.
        """
        if self._used + self.kept + size > self._limit:
            self.free_old()
        while self._used + size > self._limit:
            self._make_room(size, owner)
        self._used += size
        if owner:
            self._shares[owner].size += size

    def check_share(self, file: SpoolFile, size: int) -> None:
        """Refuses an owner that would have much by several files where 85 % of the quota are used.

        Raises:
            Refused: spool_full.
        """
        if self._has_too_much(file.owner, size):
            self.free_old()
        if self._has_too_much(file.owner, size):
            raise no_room("Too much of this owner is being counted at once.")

    def _has_too_much(self, owner: str, size: int) -> bool:
        share = self._shares.get(owner)
        has_much = share is not None and len(share.files) > 1 and share.size + size > self._limit * _MUCH
        return has_much and self._used + size > self._limit * _OF_MUCH

    @property
    def gathers_much(self) -> bool:
        """Whether so much waits in memory to be written that less should."""
        return self._waiting > MUCH_GATHERED

    def gather(self, size: int) -> None:
        """So many bytes more wait in memory to be written, or fewer."""
        self._waiting += size

    def release(self, size: int, owner: str = "") -> None:
        """Gives bytes back to the quota."""
        self._used -= size
        if owner:
            self._shares[owner].size -= size

    def free_old(self) -> None:
        """Frees all that earlier uploads left: the files that are kept, and the rests in those that are open."""
        self._free_kept()
        for file in self._files:
            file.cut()

    def give_back(self, file: SpoolFile, fd: int, size: int | None) -> None:
        """Takes a file that its upload no longer needs: its size in bytes, None if it was not written whole.

        To keep a file needs no check of the quota: what is kept was released by its upload just before.
        """
        self._files.discard(file)
        if file.owner:
            share = self._shares[file.owner]
            share.files.discard(file)
            if not share.files:
                del self._shares[file.owner]
        if size is None or self._closed or len(self._kept) >= _MAX_KEPT:
            self._thread.submit(os.close, fd)  # after the write that may run; and to free a large file takes a while
        else:
            timer = asyncio.get_running_loop().call_later(self.kept_for, self._free_kept, fd)
            self._kept.append(Kept(fd, size, timer))
        self._end_thread()

    def _make_room(self, size: int, owner: str) -> None:
        """Lets one upload give way, if those that may are enough: of owners with much, and more than this one."""
        least = max(self._limit * _MUCH, size + (self._shares[owner].size if owner else 0))
        larger = [share for share in self._shares.values() if share.size > least and share.unfinished]
        could = sum(file.size for share in larger for file in share.unfinished)
        if self._used - could + size > self._limit:
            raise no_room("Too much is being counted at once.")
        most = max(larger, key=lambda share: share.size)
        max(most.unfinished, key=lambda file: file.size).give_way()

    def _new(self) -> int:
        try:
            return _nameless_file(self._directory)
        except OSError as error:
            raise no_room(f"The file could not be made ({error.strerror}).") from None

    def _take_kept(self) -> tuple[int, int] | None:
        """The descriptor and the size of a file that was kept; its bytes are now of those in use."""
        if not self._kept:
            return None
        kept = self._kept.pop()
        kept.timer.cancel()
        self._used += kept.size
        return kept.fd, kept.size

    def _free_kept(self, fd: int | None = None) -> None:
        """Frees one of the files that are kept, or all."""
        for kept in [kept for kept in self._kept if fd is None or kept.fd == fd]:
            kept.timer.cancel()
            self._kept.remove(kept)
            self._thread.submit(os.close, kept.fd)

    def _end_thread(self) -> None:
        if self._closed and not self._files:
            self._thread.shutdown(wait=False)


@dataclass(slots=True)
class SpoolShare:
    """What an owner has of a spool: its files, and their bytes of the quota."""

    files: set[SpoolFile] = field(default_factory=set)
    size: int = 0

    @property
    def unfinished(self) -> list[SpoolFile]:
        """Its files that are still written: those that are read will be closed in a moment."""
        return [file for file in self.files if not file.is_read]


class Kept(NamedTuple):
    """A file that is kept for the next upload: its descriptor, its size in bytes, and what will free it."""

    fd: int
    size: int
    timer: asyncio.TimerHandle


def require_usable(directory: Path | None) -> None:
    """Makes one file, as an upload will; a disk that is full may have room again by then.

    Raises:
        ConfigurationError: no upload could be kept there.
    """
    try:
        os.close(_nameless_file(directory))
    except OSError as error:
        has_none = directory is None and error.errno == errno.ENOENT
        if error.errno not in _PASSES and not (has_none and _may_have_room()):
            fault = f"{directory or 'the temporary directory'} can't be used: {error.strerror}"
            raise ConfigurationError([Fault("body.spool_dir", fault)]) from None


def _may_have_room() -> bool:
    """Whether the temporary directory may be written to, though it may be full now: tempfile tells of none then."""
    return os.access(os.environ.get("TMPDIR") or "/tmp", os.W_OK)  # noqa: S108 -- nothing is made under this name


def _nameless_file(directory: Path | None) -> int:
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = tempfile.gettempdir() if directory is None else directory
    with suppress(OSError):  # some file systems have no O_TMPFILE
        return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fd, path = tempfile.mkstemp(dir=place)
    Path(path).unlink()
    return fd
