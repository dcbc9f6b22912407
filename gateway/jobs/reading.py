"""Parses one answer about a job while it streams by, and says what it means. Pure.

Clients' polls, the watcher and long polls all decide it here. The upstream is hostile input: what can't be parsed is
`unreadable`, with a word for the reason, and never an end. We ask for no content coding; if one comes anyway, it is
decoded in steps of bounded size, and the caller yields to others between two steps: a zip bomb holds nobody up, and
ends as `too_large`.
"""

import zlib
from collections import deque
from collections.abc import Callable
from typing import Final

import orjson

from gateway.model.statuses import FIRST_FAILURE, REDIRECTS
from gateway.upstream.job_api import Finding, JobShape, Said, finding, wanted
from gateway.upstream.json_scanner import JsonScanner
from gateway.upstream.response_head import ResponseHead

WHYS: Final = ("redirect", "status", "coding", "charset", "cut", "too_large", "no_object")
_READ: Final = frozenset({200, 201, 202, 203})
GONE: Final = frozenset({404, 410})
_NO_ANSWER: Final = frozenset({408, 425, 429})
_GATHERED: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"
_IN_16_OR_32: Final = (b"\xff\xfe", b"\xfe\xff")
_FIRST: Final = 4
_STEP: Final = 65_536  # of text: the costliest takes some milliseconds to read
_FED: Final = 16_384  # of what is undone, which may hold next to no text, and cost as much
_MAX_MEMBERS: Final = 16  # of gzip: servers make one, and empty ones cost more than they hold
_MAX_WAITING: Final = 16_777_216
_MAX_DECODED: Final = 268_435_456
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15
_DEFLATED: Final = 8
_SHORT: Final = 512  # bytes
_WORD: Final = 64  # characters
_CODINGS: Final = {b"": None, b"identity": None, b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}


def is_answer(status: int) -> bool:
    """Whether an answer with this status says anything of a job: a server fault, a timeout or a throttle does not."""
    return status < FIRST_FAILURE and status not in _NO_ANSWER


class StatusReader:
    """Takes the body of one answer; `finding` returns what it means once it is whole."""

    __slots__ = (
        "_coding",
        "_gathered",
        "_is_first",
        "_scalars",
        "_shape",
        "_status",
        "_unreadable",
        "is_plain",
    )

    def __init__(self, shape: JobShape, head: ResponseHead) -> None:
        self._shape = shape
        self._status = head.status
        self._unreadable = "" if head.status in _READ else _why(head.status)
        self._scalars = JsonScanner(wanted(shape))
        self._gathered = bytearray()
        self._is_first = True
        self._coding: _Decoder | None = None
        self.is_plain = True
        """Whether it has no content coding."""
        self._set_coding(head)

    @property
    def is_behind(self) -> bool:
        """Whether some of the body is still to be decoded, by `go_on`."""
        return self._coding is not None and not self._unreadable and self._coding.is_behind

    @property
    def decoded(self) -> int:
        """How many bytes of text came of its content coding so far."""
        return 0 if self._coding is None else self._coding.decoded

    def take(self, data: bytes) -> None:
        """Takes the next bytes."""
        if self._unreadable:
            return
        if self._coding is None:
            self._take_text(data)
        else:
            self._coding.take(data)
            self.go_on()

    def go_on(self) -> None:
        """Decodes one more bounded step of the body."""
        coding = self._coding
        if coding is not None and not self._unreadable:
            self._take_text(coding.step())
            self._unreadable = self._unreadable or coding.fault

    def catch_up(self) -> bool:
        """Decodes one more step; returns whether more is left."""
        self.go_on()
        return self.is_behind

    def finding(self) -> Finding:
        """What the answer means; call it once all of the body was taken and decoded."""
        if self._status in GONE:
            return Finding(Said.GONE)
        if not self._unreadable:
            self._flush()
        if not self._unreadable and self._coding is not None and not self._coding.has_ended:
            self._unreadable = "cut"
        if not self._unreadable and not self._scalars.is_whole:
            self._unreadable = "no_object"
        if self._unreadable:
            return Finding(Said.UNREADABLE, why=self._unreadable)
        return finding(self._shape, self._scalars.values)

    def _set_coding(self, head: ResponseHead) -> None:
        codings = b",".join(value for name, value in head.headers if name == b"content-encoding").strip().lower()
        if codings not in _CODINGS:
            self._unreadable = self._unreadable or "coding"
        elif (bits := _CODINGS[codings]) is not None:
            self._coding = _Decoder(bits)
        self.is_plain = self._coding is None

    def _take_text(self, data: bytes) -> None:
        """Buffers the beginning, which shows the charset, and small pieces."""
        if len(data) >= _GATHERED and not self._gathered and not self._is_first:
            self._scalars.take(data)
            return
        self._gathered += data
        if len(self._gathered) >= _GATHERED:
            self._flush()

    def _flush(self) -> None:
        data = bytes(self._gathered)
        self._gathered.clear()
        if self._is_first and (data.startswith(_IN_16_OR_32) or 0 in data[:_FIRST]):
            self._unreadable = "charset"
            return
        self._scalars.take(data.removeprefix(_BOM) if self._is_first else data)
        self._is_first = False


def has_no_text(content: bytes) -> bool:
    """Whether an answer is a short object of scalars, none longer than a word or two: no part of a document."""
    if len(content) > _SHORT:
        return False
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:  # with a BOM, for example
        return False
    return isinstance(found, dict) and all(_is_word(value) for value in (*found, *found.values()))


def _is_word(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _WORD
    return value is None or isinstance(value, bool | int | float)


def _why(status: int) -> str:
    return "redirect" if status in REDIRECTS else "status"


class _Decoder:
    """Decodes gzip or deflate in bounded steps; `fault` says what is wrong, `has_ended` that it is whole."""

    __slots__ = ("_bits", "_inflate", "_members", "_size", "_waiting", "decoded", "fault")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate: zlib._Decompress | None = None
        self._members = 0
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self.decoded = 0
        self.fault = ""

    @property
    def is_behind(self) -> bool:
        return bool(self._waiting)

    @property
    def has_ended(self) -> bool:
        return self._inflate is not None and self._inflate.eof

    def take(self, data: bytes) -> None:
        self._put(data, self._waiting.append)
        if self._size > _MAX_WAITING:
            self.fault = "too_large"

    def step(self) -> bytes:
        """Returns the next decoded bytes: bounded, and decoded from a bounded number of bytes."""
        done: list[bytes] = []
        room, hunger = _STEP, _FED
        while room > 0 and hunger > 0 and self._waiting and not self.fault:
            data = self._next(hunger)
            hunger -= len(data)
            done.append(self._undo(data, room))
            room -= len(done[-1])
        self.decoded += _STEP - room
        if self.decoded > _MAX_DECODED:
            self.fault = "too_large"
        return b"".join(done)

    def _next(self, most: int) -> bytes:
        data = self._waiting.popleft()
        self._size -= len(data)
        self._put(data[most:], self._waiting.appendleft)
        return data[:most]

    def _undo(self, data: bytes, room: int) -> bytes:
        inflate = self._inflate
        if inflate is None or inflate.eof:
            inflate = self._begin_member(data)
        if inflate is None:
            self.fault = "coding"  # data follows its end
            return b""
        try:
            text = inflate.decompress(data, room)
        except zlib.error:
            self.fault = "coding"
            return b""
        self._put(inflate.unused_data if inflate.eof else inflate.unconsumed_tail, self._waiting.appendleft)
        return text

    def _begin_member(self, data: bytes) -> "zlib._Decompress | None":
        """Begins to decode; None if no member may follow: gzip may have a few, deflate has one."""
        self._members += 1
        if self._members > (_MAX_MEMBERS if self._bits == _GZIP else 1):
            return None
        self._inflate = zlib.decompressobj(self._bits_of(data))
        return self._inflate

    def _put(self, data: bytes, where: Callable[[bytes], None]) -> None:
        if data:
            where(data)
            self._size += len(data)

    def _bits_of(self, data: bytes) -> int:
        """Window bits for zlib: servers send deflate with zlib's header, as they should, or without it."""
        is_bare = self._bits == _ZLIB and data[0] & 0x0F != _DEFLATED
        return _RAW if is_bare else self._bits
