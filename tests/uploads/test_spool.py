import asyncio
import errno
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.aio.drive import Drive
from gateway.errors import ConfigurationError, Refused
from gateway.model.reasons import Reason
from gateway.uploads.spool import Spool, require_usable
from gateway.uploads.spool_file import SpoolFileClosedError
from tests.support.waiting import eventually

MEGABYTE = 1_048_576


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    made = ThreadPoolExecutor(1)
    yield made
    made.shutdown()  # so that the next test counts its own files alone


@pytest.fixture
def spool(tmp_path: Path, thread: ThreadPoolExecutor) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", 4 * MEGABYTE, thread=thread)) as made:
        yield made


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """What the loop was asked to do later, in its order."""
    loop = asyncio.get_running_loop()
    real, noted = loop.call_later, list[asyncio.TimerHandle]()

    def call_later(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        noted.append(real(delay, callback, *args))
        return noted[-1]

    monkeypatch.setattr(loop, "call_later", call_later)
    return noted


class Disk:
    """Stands before os.pwritev: writes wait until they may go on, and can fail or fall short."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pwritev = os.pwritev
        self.may_write = threading.Event()
        self.error: OSError | None = None
        self.most: int | None = None
        self.calls = 0
        monkeypatch.setattr(os, "pwritev", self.write)

    def write(self, fd: int, pieces: list[bytes], place: int) -> int:
        self.calls += 1
        assert self.may_write.wait(30)
        os.fstat(fd)  # fails when it was closed under the write
        if self.error is not None:
            raise self.error
        return self._pwritev(fd, [b"".join(pieces)[: self.most]], place)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.may_write.set()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def is_done(thread: ThreadPoolExecutor) -> None:
    """Waits until the thread has done all it was given."""
    await asyncio.get_running_loop().run_in_executor(thread, int)


def nameless_files() -> dict[int, Path]:
    """The open files that have no name, by the numbers of their inodes: where their bytes can be read."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # what lists them was one of them
            status = entry.stat()
            if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                found[status.st_ino] = entry
    return found


async def write_whole(spool: Spool, content: bytes) -> int:
    """Writes a file and closes it; gives the number of its inode."""
    with closing(spool.open()) as file:
        await file.write(content)
        return os.fstat(await file.finish()).st_ino


async def some_turns() -> None:
    """Lets the loop do what is due now."""
    for _ in range(10):
        await asyncio.sleep(0)


def assert_no_room(refused: Refused, word: str) -> None:
    assert refused.denial.reason is Reason.SPOOL_FULL
    assert refused.denial.retry_after == 5
    assert word in refused.denial.detail


@pytest.mark.parametrize("size", [0, 1, 1000, MEGABYTE, 3 * MEGABYTE + 7])
@pytest.mark.parametrize("step", [1000, 262_144, 4 * MEGABYTE])
async def test_what_is_written_can_be_read(spool: Spool, size: int, step: int) -> None:
    content = os.urandom(size)
    file = spool.open()
    for start in range(0, size, step):
        await file.write(content[start : start + step])
    fd = await file.finish()
    assert os.pread(fd, size + 1, 0) == content
    assert spool.used == size
    file.close()
    assert spool.used == 0


async def test_a_file_has_no_name_and_is_its_owner_s(spool: Spool, tmp_path: Path) -> None:
    file = spool.open()
    status = os.fstat(await file.finish())
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 0)
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert list((tmp_path / "spool").iterdir()) == []
    file.close()


async def test_without_o_tmpfile_a_file_loses_its_name_at_once(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def no_tmpfile(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", no_tmpfile)
    file = spool.open()
    await file.write(b"x")
    status = os.fstat(await file.finish())
    assert (stat.S_IMODE(status.st_mode), status.st_nlink, status.st_size) == (0o600, 0, 1)
    assert list((tmp_path / "spool").iterdir()) == []
    file.close()


async def test_the_system_s_directory_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(Spool(None, 10)) as spool:
        file = spool.open()
        await file.write(b"x")
        link = await asyncio.to_thread(os.readlink, f"/proc/self/fd/{await file.finish()}")
        assert link.startswith(str(tmp_path))
        file.close()


async def test_a_directory_that_can_t_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with closing(Spool(tmp_path / "file" / "spool", 10)) as spool:
        with pytest.raises(Refused) as caught:
            spool.open()
        assert_no_room(caught.value, "Not a directory")


async def test_the_quota_is_for_all_open_files(spool: Spool) -> None:
    first, second = spool.open(), spool.open()
    await first.write(b"x" * 3 * MEGABYTE)
    with pytest.raises(Refused) as caught:
        await second.write(b"x" * (MEGABYTE + 1))
    assert_no_room(caught.value, "at once")
    await second.write(b"x" * MEGABYTE)
    first.close()
    assert spool.used == MEGABYTE
    second.close()
    second.close()
    assert spool.used == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_a_disk_that_fails_is_a_refusal_in_words(spool: Spool, disk: Disk, number: int) -> None:
    disk.error = OSError(number, os.strerror(number))
    disk.may_write.set()
    file = spool.open()
    await file.write(b"x")
    with pytest.raises(Refused) as caught:
        await file.finish()
    assert_no_room(caught.value, os.strerror(number))
    file.close()
    assert spool.used == 0


async def test_a_failed_write_is_told_at_the_next_one(spool: Spool, disk: Disk) -> None:
    disk.error = OSError(errno.ENOSPC, "No space")
    disk.may_write.set()
    file = spool.open()
    await file.write(b"x" * MEGABYTE)
    with pytest.raises(Refused, match="No space"):
        await file.write(b"x" * MEGABYTE)
    disk.error = None
    with pytest.raises(Refused, match="No space"):  # a file with a hole is never shown
        await file.finish()
    file.close()
    assert (spool.used, spool.kept) == (0, 0)


@pytest.mark.parametrize("most", [1, 3, 700])
async def test_short_writes_are_gone_on_with(spool: Spool, disk: Disk, most: int) -> None:
    disk.most = most
    disk.may_write.set()
    file = spool.open()
    content = bytes(range(256)) * 3
    for start in range(0, len(content), 100):
        await file.write(content[start : start + 100])
    assert os.pread(await file.finish(), 1000, 0) == content
    assert disk.calls >= len(content) // most
    file.close()


async def test_a_writer_waits_only_for_the_write_before(spool: Spool, disk: Disk) -> None:
    file = spool.open()
    await file.write(b"x" * MEGABYTE)  # runs
    await file.write(b"y" * (MEGABYTE - 1))  # is gathered
    waiting = asyncio.get_running_loop().create_task(file.write(b"z"))
    await some_turns()
    assert not waiting.done()
    disk.may_write.set()
    await waiting
    assert os.fstat(await file.finish()).st_size == 2 * MEGABYTE
    file.close()


async def test_many_small_pieces_are_written_before_they_pile_up(spool: Spool, disk: Disk) -> None:
    disk.may_write.set()
    file = spool.open()
    for _ in range(2000):
        await file.write(b"xy")
    assert os.fstat(await file.finish()).st_size == 4000
    assert disk.calls == 4
    file.close()


async def test_a_disk_that_is_too_slow_is_a_refusal(tmp_path: Path, disk: Disk, thread: ThreadPoolExecutor) -> None:
    with closing(Spool(tmp_path, MEGABYTE, deadline=0.01, thread=thread)) as spool:
        file = spool.open()
        await file.write(b"x")
        with pytest.raises(Refused) as caught:
            await file.finish()
        assert_no_room(caught.value, "too slow")
        file.close()
        assert spool.used == 0
        assert spool.kept == 0
        disk.may_write.set()
        await is_done(thread)


async def test_a_file_is_closed_only_when_no_write_runs(spool: Spool, disk: Disk, thread: ThreadPoolExecutor) -> None:
    before = descriptors()
    file = spool.open()
    await file.write(b"x" * MEGABYTE)
    file.close()
    assert (spool.used, descriptors()) == (0, before + 1)
    disk.may_write.set()
    await is_done(thread)
    assert descriptors() == before
    assert disk.calls == 1


async def test_the_thread_ends_once_the_last_file_is_closed(
    spool: Spool, disk: Disk, thread: ThreadPoolExecutor
) -> None:
    before = descriptors()
    broken_off, whole = spool.open(), spool.open()
    await broken_off.write(b"x" * MEGABYTE)
    spool.close()
    broken_off.close()  # its write runs
    assert descriptors() == before + 2
    disk.may_write.set()
    await whole.write(b"y")
    assert os.pread(await whole.finish(), 2, 0) == b"y"
    whole.close()
    with pytest.raises(RuntimeError):
        thread.submit(int)
    thread.shutdown()
    assert (spool.used, spool.kept, descriptors()) == (0, 0, before)
    assert disk.error is None


async def test_a_drive_runs_it_and_may_interrupt_it_at_any_wait(
    spool: Spool, disk: Disk, thread: ThreadPoolExecutor
) -> None:
    ends: list[BaseException | None] = []
    before = descriptors()

    async def work() -> None:
        file = spool.open()
        try:
            await file.write(b"x" * MEGABYTE)
            await file.write(b"y" * MEGABYTE)
            await file.finish()
        finally:
            file.close()

    broken_off = Drive(work(), ends.append)
    broken_off.step()
    stop = RuntimeError("stop")
    broken_off.interrupt(stop)
    assert ends == [stop]
    assert spool.used == 0

    disk.may_write.set()
    ended = asyncio.get_running_loop().create_future()
    Drive(work(), ended.set_result).step()
    assert await ended is None
    await is_done(thread)
    assert (spool.used, spool.kept, descriptors()) == (0, 2 * MEGABYTE, before + 1)


async def test_a_file_is_kept_for_the_next_upload(spool: Spool) -> None:
    before = descriptors()
    first = await write_whole(spool, b"x" * 1000)
    assert (spool.used, spool.kept, descriptors()) == (0, 1000, before + 1)
    file = spool.open()
    assert (spool.used, spool.kept) == (1000, 0)
    await file.write(b"y" * 2000)
    assert spool.used == 2000
    fd = await file.finish()
    assert (os.fstat(fd).st_ino, os.pread(fd, 3000, 0)) == (first, b"y" * 2000)
    file.close()
    assert (spool.used, spool.kept, descriptors()) == (0, 2000, before + 1)


async def test_the_descriptor_zero_is_one_like_the_others(spool: Spool, thread: ThreadPoolExecutor) -> None:
    standard_input = os.dup(0)
    os.close(0)
    try:
        first = await write_whole(spool, b"x" * 5)
        assert os.fstat(0).st_ino == first
        assert (spool.used, spool.kept) == (0, 5)
        file = spool.open()
        assert (spool.used, spool.kept) == (5, 0)
        assert os.fstat(await file.finish()).st_ino == first
        file.close()
        spool.close()
        thread.shutdown()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(0)
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)


@pytest.mark.parametrize("size", [0, 1, 700, MEGABYTE, MEGABYTE + 5])
async def test_what_an_earlier_upload_left_is_cut_off_before_the_file_is_shown(spool: Spool, size: int) -> None:
    old = await write_whole(spool, b"x" * 2 * MEGABYTE)
    content = os.urandom(size)
    file = spool.open()
    for start in range(0, size, 100_000):
        await file.write(content[start : start + 100_000])
        assert spool.used == 2 * MEGABYTE
    fd = await file.finish()
    assert os.fstat(fd).st_ino == old
    assert os.pread(fd, 3 * MEGABYTE, 0) == content
    assert spool.used == size
    file.close()
    assert (spool.used, spool.kept) == (0, size)


async def test_a_file_that_can_t_be_cut_is_neither_shown_nor_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, thread: ThreadPoolExecutor
) -> None:
    def fail(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = descriptors()
    await write_whole(spool, b"x" * 1000)
    monkeypatch.setattr(os, "ftruncate", fail)
    file = spool.open()
    await file.write(b"y")
    with pytest.raises(Refused) as caught:
        await file.finish()
    assert_no_room(caught.value, "Input/output error")
    file.close()
    await is_done(thread)
    assert (spool.used, spool.kept, descriptors()) == (0, 0, before)


async def test_a_file_that_can_t_be_opened_for_reading_is_not_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, thread: ThreadPoolExecutor
) -> None:
    before = descriptors()
    file = spool.open()

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(Refused) as caught:
        await file.finish()
    monkeypatch.undo()
    assert_no_room(caught.value, "Too many open files")
    file.close()
    await is_done(thread)
    assert (spool.kept, descriptors()) == (0, before)


@pytest.mark.parametrize("is_reused", [True, False])
async def test_the_file_of_an_upload_that_was_broken_off_is_not_kept(
    spool: Spool, disk: Disk, is_reused: bool, thread: ThreadPoolExecutor
) -> None:
    """So its late write comes upon no other's file, and what an earlier one left in it goes, too."""
    before = descriptors()
    disk.may_write.set()
    if is_reused:
        await write_whole(spool, b"x" * 1000)
    disk.may_write.clear()
    broken_off = spool.open()
    await broken_off.write(b"y" * MEGABYTE)  # runs
    broken_off.close()
    assert (spool.used, spool.kept) == (0, 0)
    other = spool.open()
    await other.write(b"z")
    disk.may_write.set()
    assert os.pread(await other.finish(), 3, 0) == b"z"
    other.close()
    spool.free_old()
    await is_done(thread)
    assert descriptors() == before


async def test_a_file_that_is_closed_is_neither_written_nor_shown(spool: Spool) -> None:
    """Its descriptor may be another account's upload by then."""
    file = spool.open("a")
    await file.write(b"theirs")
    await file.finish()
    file.close()
    other = spool.open("b")
    await other.write(b"of another account")
    with pytest.raises(SpoolFileClosedError):
        await file.finish()
    with pytest.raises(SpoolFileClosedError):
        await file.write(b"x")
    assert os.pread(await other.finish(), 100, 0) == b"of another account"
    other.close()


async def test_a_file_that_is_closed_while_it_waits_for_the_disk_is_not_written_on(spool: Spool, disk: Disk) -> None:
    disk.may_write.clear()
    file = spool.open("a")
    await file.write(b"x" * MEGABYTE)  # runs
    finishing = asyncio.get_running_loop().create_task(file.finish())
    await some_turns()
    file.close()
    disk.may_write.set()
    with pytest.raises(SpoolFileClosedError):
        await finishing


async def test_a_kept_file_is_freed_after_two_seconds(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, thread: ThreadPoolExecutor, timers: list[asyncio.TimerHandle]
) -> None:
    before = descriptors()
    earliest = asyncio.get_running_loop().time() + 2
    await write_whole(spool, b"x" * 1000)
    assert earliest <= timers[-1].when() <= asyncio.get_running_loop().time() + 2
    spool.free_old()

    monkeypatch.setattr("gateway.uploads.spool.KEPT_FOR", 0)
    await write_whole(spool, b"x" * 1000)
    assert spool.kept == 1000
    await some_turns()
    assert spool.kept == 0
    await is_done(thread)
    assert descriptors() == before


async def test_a_file_in_use_is_not_freed_by_the_time_it_was_kept_for(
    spool: Spool, timers: list[asyncio.TimerHandle]
) -> None:
    await write_whole(spool, b"x" * 1000)
    timer = timers[-1]
    file = spool.open()
    assert timer.cancelled()
    file.close()


async def test_a_slow_upload_does_not_hold_what_an_earlier_one_left(
    spool: Spool, disk: Disk, monkeypatch: pytest.MonkeyPatch, thread: ThreadPoolExecutor
) -> None:
    disk.may_write.set()
    inode = await write_whole(spool, b"x" * 3 * MEGABYTE)
    monkeypatch.setattr("gateway.uploads.spool.KEPT_FOR", 0)
    file = spool.open()
    disk.may_write.clear()
    await file.write(b"y" * MEGABYTE)  # runs
    await file.write(b"z")  # is gathered
    assert spool.used == 3 * MEGABYTE
    disk.may_write.set()
    await some_turns()
    await is_done(thread)
    assert spool.used == MEGABYTE + 1
    assert nameless_files()[inode].read_bytes() == b"y" * MEGABYTE
    assert os.pread(await file.finish(), 4 * MEGABYTE, 0) == b"y" * MEGABYTE + b"z"
    file.close()


async def test_what_is_left_in_a_file_is_not_cut_by_a_timer_of_an_upload_before(
    spool: Spool, timers: list[asyncio.TimerHandle]
) -> None:
    await write_whole(spool, b"x" * 1000)
    before = len(timers)
    file = spool.open()
    (timer,) = timers[before:]
    assert timer.when() <= asyncio.get_running_loop().time() + 2
    await file.finish()
    assert timer.cancelled()
    file.close()


async def test_kept_files_are_freed_when_the_quota_is_needed(spool: Spool, thread: ThreadPoolExecutor) -> None:
    before = descriptors()
    first, second = spool.open(), spool.open()
    for file in (first, second):
        await file.write(b"x" * MEGABYTE)
        await file.finish()
    new = spool.open()
    first.close()
    second.close()
    await new.write(b"y" * 2 * MEGABYTE)
    assert (spool.used, spool.kept) == (2 * MEGABYTE, 2 * MEGABYTE)
    await new.write(b"y")
    assert (spool.used, spool.kept) == (2 * MEGABYTE + 1, 0)
    await is_done(thread)
    assert descriptors() == before + 1
    new.close()


async def test_what_is_left_in_open_files_is_cut_off_when_the_quota_is_needed(
    spool: Spool, thread: ThreadPoolExecutor
) -> None:
    inode = await write_whole(spool, b"x" * 3 * MEGABYTE)
    slow = spool.open()
    await slow.write(b"y")
    other = spool.open()
    await other.write(b"z" * MEGABYTE)
    assert spool.used == 4 * MEGABYTE
    await other.write(b"z" * (3 * MEGABYTE - 1))
    assert spool.used == 4 * MEGABYTE
    await is_done(thread)
    assert nameless_files()[inode].stat().st_size == 0  # its byte is gathered
    with pytest.raises(Refused) as caught:
        await slow.write(b"y")
    assert_no_room(caught.value, "at once")
    other.close()
    assert os.pread(await slow.finish(), 2, 0) == b"y"
    slow.close()
    assert (spool.used, spool.kept) == (0, 1)


async def test_a_full_disk_frees_what_is_kept(spool: Spool, disk: Disk, thread: ThreadPoolExecutor) -> None:
    before = descriptors()
    disk.may_write.set()
    reused, kept = spool.open(), spool.open()
    await kept.write(b"x" * 1000)
    await kept.finish()
    await reused.write(b"x" * 1000)
    inode = os.fstat(await reused.finish()).st_ino
    reused.close()
    reused = spool.open()
    full = spool.open()
    kept.close()
    assert (spool.used, spool.kept) == (1000, 1000)
    disk.error = OSError(errno.ENOSPC, "No space")
    await full.write(b"y")
    with pytest.raises(Refused, match="No space"):
        await full.finish()
    assert (spool.used, spool.kept) == (1, 0)
    await is_done(thread)
    assert nameless_files()[inode].stat().st_size == 0
    full.close()
    reused.close()
    await is_done(thread)
    assert descriptors() == before


async def test_at_most_four_files_are_kept(spool: Spool, thread: ThreadPoolExecutor) -> None:
    before = descriptors()
    files = [spool.open() for _ in range(6)]
    for file in files:
        await file.write(b"x" * 10)
        await file.finish()
    for file in files:
        file.close()
    await is_done(thread)
    assert (spool.used, spool.kept, descriptors()) == (0, 40, before + 4)


async def test_what_is_kept_is_freed_with_the_spool(
    spool: Spool, thread: ThreadPoolExecutor, timers: list[asyncio.TimerHandle]
) -> None:
    before = descriptors()
    await write_whole(spool, b"x" * 10)
    timer = timers[-1]
    spool.close()
    spool.close()
    thread.shutdown()
    assert timer.cancelled()
    assert (spool.kept, descriptors()) == (0, before)


async def test_uploads_of_all_sizes_at_once_see_their_own_bytes_alone(
    spool: Spool, thread: ThreadPoolExecutor
) -> None:
    """And files and quota add up at every moment, some of them broken off."""
    before, others = descriptors(), nameless_files().keys()

    async def upload(number: int) -> None:
        size = number * 7919 % 300_000
        with closing(spool.open()) as file:
            for start in range(0, size, 9000):
                await file.write(bytes([number]) * min(9000, size - start))
                await asyncio.sleep(0)
                assert spool.used + spool.kept <= 4 * MEGABYTE
            if number % 5:
                assert os.pread(await file.finish(), 400_000, 0) == bytes([number]) * size

    for start in range(0, 200, 10):
        async with asyncio.TaskGroup() as tasks:
            for number in range(start, start + 10):
                tasks.create_task(upload(number))
        await is_done(thread)
        sizes = [file.stat().st_size for inode, file in nameless_files().items() if inode not in others]
        assert descriptors() == before + len(sizes)
        assert repr(spool) == f"<Spool open=0 used=0 kept_files={len(sizes)} kept={sum(sizes)}>"


async def test_one_account_leaves_others_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    first, second, other = spool.open("key:eve"), spool.open("key:eve"), spool.open("key:bob")
    await first.write(b"x" * 849)
    with pytest.raises(Refused) as refused:
        await second.write(b"x" * 2)
    assert refused.value.denial.reason is Reason.SPOOL_FULL
    await other.write(b"x" * 100)
    second.close()
    await first.write(b"x" * 51)  # by one file it may have all
    for file in (first, other):
        file.close()
    spool.close()


async def test_what_an_earlier_upload_left_is_no_accounts_share(spool: Spool) -> None:
    """Files that were kept counted as the account's that took them: two uploads of 100 bytes were refused."""
    for account in ("a", "b"):
        with closing(spool.open(account)) as file:
            await file.write(bytes(2 * MEGABYTE - 1000))
            assert await file.finish()
    with closing(spool.open("c")) as first, closing(spool.open("c")) as second:
        for file in (first, second):
            await file.write(bytes(100))
        assert await first.finish()


async def test_two_accounts_leave_others_room(spool: Spool) -> None:
    """What is counted gives way to nobody: two keys' PDFs, counted for 9 s, kept out a third one's for as long."""
    many = [spool.open(name) for name in ("eve", "mallory") * 4]
    for number in range(54):
        await many[number % 8].write(bytes(MEGABYTE // 16))
    for file in many:
        with pytest.raises(Refused):
            await file.write(bytes(MEGABYTE // 16))
    assert spool.used == 54 * MEGABYTE // 16
    for file in many:
        assert await file.finish()
    others = [spool.open(f"a{number}") for number in range(2)]
    for file in others:
        await file.write(bytes(MEGABYTE // 4))
    for file in (*many, *others):
        file.close()


async def test_who_has_most_gives_way_to_who_has_less(spool: Spool) -> None:
    """Two keys with slow uploads kept out all others' PDFs for as long as they liked."""
    large, small, other = spool.open("eve"), spool.open("eve"), spool.open("mallory")
    await large.write(bytes(MEGABYTE))
    await small.write(bytes(MEGABYTE // 2))
    await other.write(bytes(2 * MEGABYTE))
    with closing(spool.open("ann")) as mine:
        await mine.write(bytes(MEGABYTE))  # of the half that is free, and what mallory had
        assert spool.used == 2 * MEGABYTE + MEGABYTE // 2
        for use in (other.write(b"x"), other.finish()):
            with pytest.raises(Refused) as refused:
                await use
            assert_no_room(refused.value, "others have less")
        for file in (large, small):
            await file.write(b"x")
        assert await mine.finish()
    for file in (large, small, other):
        file.close()
    assert spool.used == 0


async def test_nobody_gives_way_to_who_would_have_more(spool: Spool) -> None:
    with closing(spool.open("ann")) as hers, closing(spool.open("bob")) as his:
        await hers.write(bytes(3 * MEGABYTE))
        await his.write(bytes(MEGABYTE))
        with pytest.raises(Refused) as refused:
            await hers.write(b"x")
        assert_no_room(refused.value, "at once")
        with pytest.raises(Refused) as refused:
            await his.write(bytes(2 * MEGABYTE))  # as much as she has is not less
        assert_no_room(refused.value, "at once")
        await his.write(b"x")
        with pytest.raises(Refused) as refused:
            await hers.write(b"x")
        assert_no_room(refused.value, "others have less")


async def test_what_is_counted_does_not_give_way(spool: Spool) -> None:
    """It is closed in a moment, and its pages may have been paid for with the processor's time."""
    with (
        closing(spool.open("eve")) as counted,
        closing(spool.open("eve")) as slow,
        closing(spool.open("ann")) as mine,
    ):
        await counted.write(bytes(2 * MEGABYTE + MEGABYTE // 2))
        assert await counted.finish()
        await slow.write(bytes(MEGABYTE // 2))
        await mine.write(bytes(MEGABYTE + MEGABYTE // 4))
        with pytest.raises(Refused) as refused:
            await slow.write(b"x")
        assert_no_room(refused.value, "others have less")
        with pytest.raises(Refused) as refused:
            await mine.write(bytes(MEGABYTE // 2))
        assert_no_room(refused.value, "at once")
        assert await counted.finish()


async def test_one_that_gives_way_while_it_waits_for_the_disk_writes_no_more(spool: Spool, disk: Disk) -> None:
    disk.may_write.clear()
    slow = spool.open("eve")
    await slow.write(bytes(2 * MEGABYTE))
    waits = asyncio.ensure_future(slow.write(bytes(MEGABYTE)))
    await some_turns()
    assert not waits.done()
    with closing(spool.open("ann")) as mine:
        await mine.write(bytes(MEGABYTE))
        await mine.write(bytes(MEGABYTE // 2))
        disk.may_write.set()
        with pytest.raises(Refused) as refused:
            await waits
        assert_no_room(refused.value, "others have less")


@pytest.mark.parametrize("others", [0, 1])
async def test_one_that_gives_way_at_its_end_is_not_shown(
    spool: Spool, disk: Disk, thread: ThreadPoolExecutor, others: int
) -> None:
    """Its descriptor is the next file's by then: the pages of another account's document were counted for it."""
    before = descriptors()
    more = [spool.open("eve") for _ in range(others)]
    slow = spool.open("eve")
    disk.may_write.set()
    await slow.write(bytes(2 * MEGABYTE))
    await is_done(thread)
    await slow.write(b"the rest")
    disk.may_write.clear()
    finishing = asyncio.get_running_loop().create_task(slow.finish())
    await some_turns()
    with closing(spool.open("ann")) as mine:
        await mine.write(bytes(MEGABYTE))
        await mine.write(bytes(MEGABYTE - 8))
        await mine.write(b"x")  # hers gives way
        disk.may_write.set()
        with pytest.raises(Refused) as refused:
            await finishing
        assert_no_room(refused.value, "others have less")
        assert await mine.finish()
    for file in (*more, slow):
        file.close()
    assert spool.used == 0
    await eventually(lambda: descriptors() <= before + 2)  # of which two are kept


async def test_of_many_equal_uploads_none_is_ended_for_another(spool: Spool) -> None:
    """Each was ended just before its end, as the largest, for the next one: none came through."""
    step, whole = MEGABYTE // 16, MEGABYTE // 2
    files = [spool.open(f"a{number}") for number in range(20)]
    for number, file in enumerate(files[:16]):
        await file.write(bytes(number % 8 * step))
    done = refused = 0
    for number in range(40 * len(files)):
        file = files[number % len(files)]
        try:
            await file.write(bytes(step))
        except Refused:
            refused += 1
            file.close()
            files[number % len(files)] = spool.open(f"a{number % len(files)}")
            continue
        if file.size >= whole:
            assert await file.finish()
            done += 1
            file.close()
            files[number % len(files)] = spool.open(f"a{number % len(files)}")
    assert refused > 0
    assert done > 2 * len(files)
    for file in files:
        file.close()


async def test_nobody_gives_way_for_nothing(spool: Spool) -> None:
    counted, mine = spool.open("eve"), spool.open("ann")
    await counted.write(bytes(3 * MEGABYTE - 20))
    assert await counted.finish()
    small = [spool.open("eve") for _ in range(5)]
    for file in small:
        await file.write(b"x")
    with pytest.raises(Refused) as refused:
        await mine.write(bytes(MEGABYTE + 99))
    assert_no_room(refused.value, "at once")
    for file in small:
        await file.write(b"x")
    for file in (counted, mine, *small):
        file.close()


async def test_among_many_less_waits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.uploads.spool.MUCH_GATHERED", 100)
    spool = Spool(tmp_path, 10_000_000)
    file = spool.open()
    await file.write(b"x" * 60_000)
    assert file.waiting == 60_000
    await file.write(b"x" * 6_000)
    assert file.waiting == 0
    assert file.size == 66_000
    await file.finish()
    file.close()
    spool.close()


def test_a_place_where_no_upload_could_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was found by the first PDF, and each was answered 503 from then on."""
    (tmp_path / "file").write_text("")
    for place in ("file", "file/x"):
        with pytest.raises(ConfigurationError, match=rf"^body\.spool_dir: {tmp_path}/{place} can't be used: "):
            require_usable(tmp_path / place)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    require_usable(tmp_path / "made")
    require_usable(None)
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors  # a thread of an earlier test may close some
    assert list((tmp_path / "made").iterdir()) == []

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    require_usable(tmp_path / "made")


def test_a_temporary_directory_that_is_full_keeps_nobody_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """tempfile writes into some and says then that there is none."""

    def none_of_them() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_of_them)
    require_usable(None)
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    with pytest.raises(ConfigurationError, match="the temporary directory can't be used"):
        require_usable(None)
