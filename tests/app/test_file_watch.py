"""file_watch.py: content is read when it may have changed, and not each second."""

import os
from pathlib import Path

import pytest

from gateway.app.file_watch import FilesSeen, read_if_changed
from gateway.tls.contexts import fingerprint


class Watch:
    """Looks each second, by a clock of its own, and counts the readings."""

    def __init__(self, *files: Path) -> None:
        self.files = files
        self.now = 100.0
        self.readings = 0
        self.seen: FilesSeen | None = None

    def look(self, seconds: int = 1) -> str:
        for _ in range(seconds):
            self.now += 1.0
            self.seen = read_if_changed(self.files, self.seen, lambda: self.now, self._read)
        assert self.seen is not None
        return self.seen.fingerprint

    def _read(self, files: tuple[Path, ...]) -> str:
        self.readings += 1
        return fingerprint(files)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "one", tmp_path / "two"
    for path in found:
        path.write_text("content")
    return found


def test_files_that_stay_as_they_are_are_read_twice_a_minute(files: tuple[Path, Path]) -> None:
    watch = Watch(*files)
    watch.look(10)
    watch.readings = 0
    watch.look(600)
    assert watch.readings == 20


def test_a_change_is_seen_by_the_next_look(files: tuple[Path, Path]) -> None:
    watch = Watch(*files)
    before = watch.look(10)
    files[1].write_text("changed")
    after = watch.look()
    assert after == fingerprint(files) != before
    files[1].unlink()
    gone = watch.look()
    assert gone == fingerprint(files) != after
    files[1].write_text("changed")
    assert watch.look() == after


def test_a_second_change_that_leaves_no_trace_is_seen_as_long_as_there_may_be_one(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where two writes fall into one tick of a file system's clock."""
    watch = Watch(*files)
    watch.look(10)
    stats = dict.fromkeys(files, None)
    monkeypatch.setattr("gateway.app.file_watch.stats_of", lambda path: stats[path])
    for text in ("first", "other", "third"):
        files[0].write_text(text)
        assert watch.look() == fingerprint(files)


def test_a_change_that_no_stats_tell_is_seen_in_half_a_minute(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(*files)
    monkeypatch.setattr("gateway.app.file_watch.stats_of", lambda _: None)
    before = watch.look(10)
    files[0].write_text("changed")
    assert watch.look(5) == before
    assert watch.look(26) == fingerprint(files)


def test_a_link_into_a_directory_that_is_exchanged_is_followed(tmp_path: Path) -> None:
    for version, content in (("v1", "first"), ("v2", "other")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(content)
        os.utime(tmp_path / version / "token", (0, 0))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "token").symlink_to("..data/token")
    watch = Watch(tmp_path / "token")
    before = watch.look(10)
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert watch.look() != before


def test_other_files_are_read_at_once(files: tuple[Path, Path]) -> None:
    watch = Watch(files[0])
    watch.look(10)
    watch.files = files
    assert watch.look() == fingerprint(files)
