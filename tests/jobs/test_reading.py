"""An answer in a coding that nobody asked for is undone in steps; what one costs does not depend on what it holds."""

import gzip
import zlib
from typing import Any

import pytest

from gateway.config.compile import compile_shape
from gateway.config.settings.jobs import ShapeSettings
from gateway.jobs.reading import StatusReader
from gateway.upstream.job_api import Said
from gateway.upstream.json_scanner import JsonScanner
from gateway.upstream.response_head import read_answer_head

SHAPE = compile_shape("default", ShapeSettings())
RUNS = b'{"status": "processing"}'
SLICE = 16_384  # as connections give it
MOST_TEXT = 65_536


def reader(coding: bytes = b"gzip") -> StatusReader:
    headers = [(b"content-encoding", coding)]
    return StatusReader(SHAPE, read_answer_head(200, b"", headers, http_1_1=True, bodiless=False))


def slices(data: bytes) -> list[bytes]:
    return [data[start : start + SLICE] for start in range(0, len(data), SLICE)]


class Counted:
    """What zlib and the scanner are given, between two looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fed = self._text = 0
        self.steps: list[tuple[int, int]] = []
        begin, take = zlib.decompressobj, JsonScanner.take

        def taken(scanner: JsonScanner, data: bytes) -> None:
            self._text += len(data)
            take(scanner, data)

        monkeypatch.setattr("gateway.jobs.reading.zlib.decompressobj", lambda bits: Inflate(begin(bits), self))
        monkeypatch.setattr(JsonScanner, "take", taken)

    def feed(self, size: int) -> None:
        self._fed += size

    def look(self) -> None:
        """Called behind each step."""
        self.steps.append((self._fed, self._text))
        self._fed = self._text = 0

    @property
    def most_fed(self) -> int:
        return max(fed for fed, _ in self.steps)

    @property
    def most_text(self) -> int:
        return max(text for _, text in self.steps)


class Inflate:
    """One of zlib's, and how much it is given: also what is behind its end is copied each time."""

    def __init__(self, inner: Any, counted: Counted) -> None:
        self._inner = inner
        self._counted = counted

    def decompress(self, data: bytes, most: int) -> bytes:
        self._counted.feed(len(data))
        text: bytes = self._inner.decompress(data, most)
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def read(of: StatusReader, pieces: list[bytes], counted: Counted) -> None:
    for piece in pieces:
        of.take(piece)
        counted.look()
    while of.is_behind:
        of.go_on()
        counted.look()


EMPTY = gzip.compress(b"", mtime=0)
PADDING = zlib.compressobj(0, zlib.DEFLATED, 31)
WITHOUT_TEXT = PADDING.compress(RUNS) + PADDING.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * 60_000


@pytest.mark.parametrize("size", [SLICE, 262_144])
def test_empty_members_are_no_answer_and_are_not_looked_through(counted: Counted, size: int) -> None:
    """Each of 20 bytes was begun and copied all that was behind it: 13,000 of them in one step."""
    coded = gzip.compress(RUNS) + EMPTY * 50_000
    unread = reader()
    read(unread, [coded[start : start + size] for start in range(0, len(coded), size)], counted)
    assert unread.finding().why == "coding"
    assert counted.most_fed <= SLICE + 100
    assert sum(fed for fed, _ in counted.steps) <= 17 * SLICE


def test_a_few_members_are_one_answer(counted: Counted) -> None:
    whole = reader()
    read(whole, [gzip.compress(RUNS[:7]) + EMPTY * 3 + gzip.compress(RUNS[7:])], counted)
    assert whole.finding().said is Said.RUNNING


def test_what_holds_no_text_is_undone_a_little_at_a_time_too(counted: Counted) -> None:
    much = reader()
    read(much, [WITHOUT_TEXT], counted)
    assert much.finding().why == "cut"
    assert counted.most_fed <= SLICE
    assert len(counted.steps) >= len(WITHOUT_TEXT) // SLICE


def test_what_holds_much_text_is_read_a_little_at_a_time(counted: Counted) -> None:
    """A megabyte at once took 36 ms."""
    much = reader()
    read(much, slices(gzip.compress(b'{"a": [' + b"[" * 5_000_000 + b"]" * 5_000_000 + b"]," + RUNS[1:])), counted)
    assert much.finding().said is Said.RUNNING
    assert counted.most_text <= MOST_TEXT
