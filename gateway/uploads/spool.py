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
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import Refused
from gateway.model.reasons import Denial, Reason

_GATHERED: Final = 1_048_576  # bytes
_GATHERED_AMONG_MANY: Final = 65_536
MUCH_GATHERED: Final = 33_554_432
_SHARE: Final = 0.9  # so that somebody else's document always finds room
_MAX_PIECES: Final = 512  # the kernel takes 1024 at a time; and small ones cost more than they hold
_DEADLINE: Final = 30.0  # seconds
_RETRY_AFTER: Final = 5  # seconds
_MAX_KEPT: Final = 4
KEPT_FOR: Final = 2.0  # seconds


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
        self._shares: dict[str, SpoolShare] = {}  # of the accounts that have files
        self._waiting = 0
        self._kept: list[Kept] = []
        self._closed = False

    def __repr__(self) -> str:
        kept = f"kept_files={len(self._kept)} kept={self.kept}"
        return f"<Spool{' closed' if self._closed else ''} open={len(self._files)} used={self._used} {kept}>"

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

    def open(self, account: str = "") -> "SpoolFile":
        """Makes a file for an account's upload, or takes one that was kept.

        Raises:
            Refused: spool_full, when there can't be one.
        """
        fd, old = self._take_kept() or (self._new(), 0)
        file = SpoolFile(self, fd, self._thread, self._deadline, old, account)
        self._files.add(file)
        if account:
            share = self._shares.setdefault(account, SpoolShare())
            share.files += 1
            share.size += old
        return file

    def close(self) -> None:
        """Frees what is kept; ends the thread once the last file is closed and its last write done."""
        self._closed = True
        self._free_kept()
        self._end_thread()

    def reserve(self, size: int, account: str = "") -> None:
        """Takes bytes of the quota, for an account's file.

        Raises:
            Refused: spool_full.
        """
        if self._used + self.kept + size > self._limit:
            self.free_old()
        if self._used + size > self._limit:
            raise _no_room("Too much is being counted at once.")
        self._used += size
        if account:
            self._shares[account].size += size

    def check_share(self, file: "SpoolFile", size: int) -> None:
        """Refuses an account that would have more than nine tenths of the quota by several files at once.

        Raises:
            Refused: spool_full.
        """
        share = self._shares.get(file.account)
        if share is not None and share.files > 1 and share.size + size > self._limit * _SHARE:
            raise _no_room("Too much of this account is being counted at once.")

    @property
    def gathers_much(self) -> bool:
        """Whether so much waits in memory to be written that less should."""
        return self._waiting > MUCH_GATHERED

    def gather(self, size: int) -> None:
        """So many bytes more wait in memory to be written, or fewer."""
        self._waiting += size

    def release(self, size: int, account: str = "") -> None:
        """Gives bytes back to the quota."""
        self._used -= size
        if account:
            self._shares[account].size -= size

    def free_old(self) -> None:
        """Frees all that earlier uploads left: the files that are kept, and the rests in those that are open."""
        self._free_kept()
        for file in self._files:
            file.cut()

    def give_back(self, file: "SpoolFile", fd: int, size: int | None) -> None:
        """Takes a file that its upload needs no more: its size in bytes, None if it was not written whole.

        To keep a file needs no check of the quota: what is kept was released by its upload just before.
        """
        self._files.discard(file)
        if file.account:
            share = self._shares[file.account]
            share.files -= 1
            if not share.files:
                del self._shares[file.account]
        if size is None or self._closed or len(self._kept) >= _MAX_KEPT:
            self._thread.submit(os.close, fd)  # behind the write that may run; and to free a large file takes a while
        else:
            timer = asyncio.get_running_loop().call_later(KEPT_FOR, self._free_kept, fd)
            self._kept.append(Kept(fd, size, timer))
        self._end_thread()

    def _new(self) -> int:
        try:
            return _nameless_file(self._directory)
        except OSError as error:
            raise _no_room(f"The file could not be made ({error.strerror}).") from None

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
    """What an account has of a spool: how many files, and their bytes of the quota."""

    files: int = 0
    size: int = 0


class Kept(NamedTuple):
    """A file that is kept for the next upload: its descriptor, its size in bytes, and what will free it."""

    fd: int
    size: int
    timer: asyncio.TimerHandle


class SpoolFileClosedError(Exception):
    """A fault of ours: the file is closed, and its descriptor may be another upload's."""


class SpoolFile:
    """One file, for one writer, until it is closed; whatever is asked of it then raises SpoolFileClosedError."""

    def __init__(
        self, spool: Spool, fd: int, thread: ThreadPoolExecutor, deadline: float, old: int, account: str
    ) -> None:
        self._spool = spool
        self._fd = fd
        self._reader: int | None = None
        self._thread = thread
        self._deadline = deadline
        self._reserved = 0  # for this upload
        self._old = old  # bytes of the quota for what an earlier upload left and this one has not reserved
        self._cutting = asyncio.get_running_loop().call_later(KEPT_FOR, self.cut) if old else None
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._place = 0
        self._writing: asyncio.Future[OSError | None] | None = None
        self._closed = False
        self.account = account

    @property
    def size(self) -> int:
        """Its bytes of the quota."""
        return self._reserved + self._old

    @property
    def waiting(self) -> int:
        """Its bytes that wait in memory."""
        return self._gathered_size

    async def write(self, data: bytes) -> None:
        """Adds bytes; waits only when the disk is behind.

        Raises:
            Refused: spool_full: no quota is left, or the disk failed at this write or the one before.
        """
        self._check_open()
        self._spool.check_share(self, len(data))
        over_old = min(self._old, len(data))
        self._old -= over_old
        self._reserved += over_old
        self._spool.reserve(len(data) - over_old, self.account)
        self._reserved += len(data) - over_old
        self._gathered.append(data)
        self._gathered_size += len(data)
        self._spool.gather(len(data))
        enough = _GATHERED_AMONG_MANY if self._spool.gathers_much else _GATHERED
        if self._gathered_size >= enough or len(self._gathered) >= _MAX_PIECES:
            await self._written()
            self._check_open()
            self._write_gathered()

    async def finish(self) -> int:
        """Waits until all is written; gives a descriptor to read the file, which is good until close().

        Raises:
            Refused: spool_full.
        """
        self._check_open()
        await self._written()
        self._check_open()  # it may have been closed meanwhile, and another upload have the descriptor
        self._write_gathered(is_last=True)
        await self._written()
        self._release_old()
        if self._reader is None:
            self._reader = _reader_of(self._fd)
        return self._reader

    def cut(self) -> None:
        """Frees what an earlier upload left behind the end of this one, behind the write that may run."""
        if self._old:
            self._thread.submit(os.ftruncate, self._fd, self._place)
            self._release_old()

    def close(self) -> None:
        """Frees the quota, and the file as soon as no write runs. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        self._spool.gather(-self._gathered_size)
        self._gathered_size = 0
        self._release_old()
        self._spool.release(self._reserved, self.account)
        if self._reader is None:
            self._spool.give_back(self, self._fd, None)
        else:
            os.close(self._reader)
            self._spool.give_back(self, self._fd, self._place)

    def _check_open(self) -> None:
        if self._closed:
            raise SpoolFileClosedError

    def _release_old(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        self._spool.release(self._old, self.account)
        self._old = 0

    def _write_gathered(self, *, is_last: bool = False) -> None:
        pieces, self._gathered = self._gathered, []
        place, self._place = self._place, self._place + self._gathered_size
        self._spool.gather(-self._gathered_size)
        self._gathered_size = 0
        ends_at = self._place if is_last else None
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._thread, _write_all, self._fd, pieces, place, ends_at
        )

    async def _written(self) -> None:
        """Waits for the write that runs, on a future of its own: the write is not to be cancelled with the wait."""
        writing = self._writing
        if writing is None:
            return
        if not writing.done():
            await _done_or_late(writing, self._deadline)
        if not writing.done():
            raise _no_room("The disk is too slow.")
        error = writing.result()
        if error is not None:  # it stays where it is, so that nothing comes after it
            self._spool.free_old()  # the disk may be full before the quota is
            raise _no_room(f"The disk took no more of the file ({error.strerror}).")
        self._writing = None


def _done_or_late(writing: "asyncio.Future[OSError | None]", deadline: float) -> "asyncio.Future[None]":
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    timer = loop.call_later(deadline, _wake, waiter)

    def end(_: object) -> None:
        timer.cancel()
        _wake(waiter)

    writing.add_done_callback(end)
    return waiter


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _nameless_file(directory: Path | None) -> int:
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = tempfile.gettempdir() if directory is None else directory
    with suppress(OSError):  # some file systems have no O_TMPFILE
        return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fd, path = tempfile.mkstemp(dir=place)
    Path(path).unlink()
    return fd


def _reader_of(fd: int) -> int:
    """A descriptor of the same file, for reading alone, with a place of its own.

    With a shared place, one who still reads for an upload that was broken off would move the next one's.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_room(f"The file could not be opened ({error.strerror}).") from None


def _write_all(fd: int, pieces: list[bytes], place: int, ends_at: int | None) -> OSError | None:
    """Runs on the thread; gives the error, for nobody may be left to raise it to. It cuts the file at `ends_at`."""
    try:
        while pieces:
            written = os.pwritev(fd, pieces, place)
            place += written
            pieces = _left(pieces, written)
        if ends_at is not None:
            os.ftruncate(fd, ends_at)
    except OSError as error:
        return error
    return None


def _left(pieces: list[bytes], written: int) -> list[bytes]:
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return []


def _no_room(why: str) -> Refused:
    detail = f"There is no room to count the document's pages now. {why}"
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=_RETRY_AFTER))
