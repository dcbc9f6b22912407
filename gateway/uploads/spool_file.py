"""One file of the spool, while an upload is written to it (spool.py)."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from gateway.errors import Refused
from gateway.model.reasons import RETRY_SOON, Denial, Reason

_GATHERED: Final = 1_048_576  # bytes
_GATHERED_AMONG_MANY: Final = 65_536
_MAX_PIECES: Final = 512  # the kernel takes 1024 at a time; and small ones cost more than they hold


class Quota(Protocol):
    """What a file needs of its spool: room, for it and for its owner."""

    @property
    def kept_for(self) -> float:
        """How long bytes of an earlier upload may stay in a file, in seconds."""

    @property
    def gathers_much(self) -> bool:
        """Whether so much waits in memory to be written that less should."""

    def check_share(self, file: "SpoolFile", size: int) -> None:
        """Refuses an owner that has too much of the quota."""

    def reserve(self, size: int, owner: str = "") -> None:
        """Takes bytes of the quota."""

    def release(self, size: int, owner: str = "") -> None:
        """Gives bytes back to the quota."""

    def gather(self, size: int) -> None:
        """So many bytes more wait in memory to be written, or fewer."""

    def free_old(self) -> None:
        """Frees all that earlier uploads left."""

    def give_back(self, file: "SpoolFile", fd: int, size: int | None) -> None:
        """Takes a file that its upload no longer needs."""


class SpoolFileClosedError(Exception):
    """A fault of ours: the file is closed, and its descriptor may be another upload's."""


class SpoolFile:
    """One file, for one writer, until it is closed; whatever is asked of it then raises SpoolFileClosedError."""

    def __init__(
        self, spool: Quota, fd: int, thread: ThreadPoolExecutor, deadline: float, old: int, owner: str
    ) -> None:
        self._spool = spool
        self._fd = fd
        self._reader: int | None = None
        self._thread = thread
        self._deadline = deadline
        self._reserved = 0  # for this upload
        self._old = old  # bytes of the quota for what an earlier upload left and this one has not reserved
        self._cutting = asyncio.get_running_loop().call_later(spool.kept_for, self.cut) if old else None
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._place = 0
        self._writing: asyncio.Future[OSError | None] | None = None
        self._closed = False
        self._gave_way = False
        self.owner = owner

    @property
    def size(self) -> int:
        """Its bytes of the quota."""
        return self._reserved + self._old

    @property
    def is_read(self) -> bool:
        """Whether it is written whole, and may be read."""
        return self._reader is not None

    @property
    def waiting(self) -> int:
        """Its bytes that wait in memory."""
        return self._gathered_size

    async def write(self, data: bytes) -> None:
        """Adds bytes; waits only when the disk is behind.

        Raises:
            Refused: spool_full: no quota is left, it gave way, or the disk failed at this write or the one before.
        """
        self._check_open()
        self._spool.check_share(self, len(data))
        over_old = min(self._old, len(data))
        self._old -= over_old
        self._reserved += over_old
        self._spool.reserve(len(data) - over_old, self.owner)
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
        self._check_open()
        self._release_old()
        if self._reader is None:
            self._reader = _reader_of(self._fd)
        return self._reader

    def cut(self) -> None:
        """Frees what an earlier upload left after the end of this one, after the write that may run."""
        if self._old:
            self._thread.submit(os.ftruncate, self._fd, self._place)
            self._release_old()

    def give_way(self) -> None:
        """Frees what it has, for an upload of another owner; its own upload is refused at its next byte."""
        self._gave_way = True
        self.close()

    def close(self) -> None:
        """Frees the quota, and the file as soon as no write runs. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        self._spool.gather(-self._gathered_size)
        self._gathered_size = 0
        self._release_old()
        self._spool.release(self._reserved, self.owner)
        if self._reader is None:
            self._spool.give_back(self, self._fd, None)
        else:
            os.close(self._reader)
            self._spool.give_back(self, self._fd, self._place)

    def _check_open(self) -> None:
        if self._gave_way:
            raise no_room("Too much of this owner is being counted at once: others have less.")
        if self._closed:
            raise SpoolFileClosedError

    def _release_old(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        self._spool.release(self._old, self.owner)
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
            raise no_room("The disk is too slow.")
        error = writing.result()
        if error is not None:  # it stays where it is, so that nothing comes after it
            self._spool.free_old()  # the disk may be full before the quota is
            raise no_room(f"The disk took no more of the file ({error.strerror}).")
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


def _reader_of(fd: int) -> int:
    """A descriptor of the same file, for reading alone, with a place of its own.

    With a shared place, one who still reads for an upload that was broken off would move the next one's.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise no_room(f"The file could not be opened ({error.strerror}).") from None


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


def no_room(why: str) -> Refused:
    """The one refusal for whatever goes wrong here."""
    detail = f"There is no room to count the document's pages now. {why}"
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=RETRY_SOON))
