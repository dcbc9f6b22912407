"""Watches files for a reload: by what the system says of each, and only where that may hide a change by content.

Kubernetes swaps secrets by symlink and editors write in several steps, so what counts is the content. But reading it
each second is most of what a gateway costs that nobody asks. So it is read again when the stats differ (symlinks are
followed), and for some seconds after that: a second change within one tick of a file system's clock leaves no trace
in them. These seconds are counted here, not by the stats: the clock of a file server may be another one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from gateway.aio.named_files import FileStats, stats_of

_SETTLED: Final = 3.0  # seconds; the coarsest file systems count in steps of two
_AGAIN: Final = 30.0  # seconds: what no stats tell (a file that is written by mapping it) is seen after that


class FilesSeen(NamedTuple):
    """What files held: `since` is when these stats were first seen, `read_at` when the content was read."""

    files: tuple[Path, ...]
    stats: tuple[FileStats | None, ...]
    since: float
    read_at: float
    fingerprint: str

    def holds(self, now: float) -> bool:
        """Whether files with the same stats have the content that was read."""
        return self.read_at - self.since >= _SETTLED and now - self.read_at < _AGAIN


def read_if_changed(
    files: tuple[Path, ...],
    before: FilesSeen | None,
    clock: Callable[[], float],
    fingerprint: Callable[[tuple[Path, ...]], str],
) -> FilesSeen:
    """Reads files, unless they are as they were. Blocks, so it runs on a thread."""
    stats = tuple(map(stats_of, files))
    now = clock()
    if before is None or (before.files, before.stats) != (files, stats):
        return FilesSeen(files, stats, now, now, fingerprint(files))
    return before if before.holds(now) else before._replace(read_at=now, fingerprint=fingerprint(files))
