"""What lies at a named path may be anything: only a regular file is read, to its bound, and nothing is waited for."""

import errno
import os
import socket
from pathlib import Path

import pytest

from gateway.aio.named_files import read_named, require_named, stats_of
from gateway.errors import FileUnusable


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def circle(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (missing, "can't be read: No such file or directory"),
        (fifo, "is not a regular file"),
        (directory, "can't be read: Is a directory"),
        (device, "is not a regular file"),
        (listening_socket, "can't be read: No such device or address"),
        (circle, "can't be read: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_told_and_not_waited_for(make: object, told: str, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / "named")
    before = len([*Path("/proc/self/fd").iterdir()])
    for read in (lambda path: read_named(path, 10), require_named):
        with pytest.raises(FileUnusable) as raised:
            read(tmp_path / "named")
        assert str(raised.value) == told
    assert stats_of(tmp_path / "named") is None
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_file_whose_kind_can_not_be_asked_is_told_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system whose server has lost it."""
    (tmp_path / "named").write_bytes(b"x")
    before = len([*Path("/proc/self/fd").iterdir()])

    def fail(_: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    for read in (lambda path: read_named(path, 10), require_named):
        with monkeypatch.context() as patch:
            patch.setattr("os.fstat", fail)
            with pytest.raises(FileUnusable, match="Stale file handle"):
                read(tmp_path / "named")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_path_that_is_none_is_told() -> None:
    with pytest.raises(FileUnusable, match=r"^can't be read: it is not a path$"):
        read_named(Path("a\0b"), 10)


def test_a_file_is_read_to_its_bound_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "named"
    path.write_bytes(b"x" * 2048)
    (tmp_path / "link").symlink_to(path)
    assert read_named(tmp_path / "link", 2048) == b"x" * 2048
    require_named(path)
    path.write_bytes(b"x" * 2049)
    with pytest.raises(FileUnusable, match=r"^is larger than 2 KB$"):
        read_named(path, 2048)
    with path.open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(FileUnusable, match=r"^is larger than 3 MB$"):
        read_named(path, 3 * 2**20)
    with pytest.raises(FileUnusable, match=r"^is larger than 4 MB$"):  # whose changes nobody would see
        require_named(path)


def test_the_stats_of_a_file_tell_of_each_change(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("one")
    link.symlink_to(path)
    found = [stats_of(path)]
    assert stats_of(link) == found[0]
    path.write_text("other")
    found.append(stats_of(link))
    os.utime(path, ns=(0, 0))
    found.append(stats_of(link))
    (tmp_path / "new").write_text("other")
    os.utime(tmp_path / "new", ns=(0, 0))
    (tmp_path / "new").replace(path)
    found.append(stats_of(link))
    assert None not in found
    assert len(set(found)) == len(found)
