"""Finds where the parts of a multipart body begin and end, as it streams through: pure.

`--boundary` may only appear in a body as a delimiter: at the very start or after CRLF, and followed by CRLF or `--`.
One line end may come before the first, and one (CRLF or LF) after the last: all parsers skip these.
Anywhere else (after a bare LF, in a head, followed by blanks or text, before the first part or after the last) some
parsers would take it for a delimiter and others not, so it is refused. How the body is cut into pieces makes no
difference. A piece of part data without any of a delimiter in it is passed on as the same object, uncopied.

States, each a step that continues at a place in the buffer, and what ends it:
    _beginning  nothing was read. One line end, or any other byte, ends it.
    _opening    `--boundary` CRLF must come here. It ends it once complete.
    _head       a part's head, up to MAX_PART_HEAD. Its empty line ends it, and the sink gets the head.
    _data       a part's bytes. A delimiter ends it: CRLF after it leads to _head, `--` to _closing.
    _closing    only a line end may come; `finish` is allowed only here.
What can't happen: the sink gets a byte of a delimiter, or of a possible one, as data; more is held back than a head
or a delimiter.

The library `multipart` is not used: it does not report offsets, which holding back needs, and it accepts what is
refused here: a preamble, an epilogue in the last piece, blanks in the heads. The tests compare with it.
"""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import refuse
from gateway.model.reasons import Reason
from gateway.uploads.multipart.part_head import MAX_PART_HEAD, ambiguous

_LINE_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_MAX_LENGTH: Final = len(_LINE_END) + MAX_PART_HEAD + len(_HEAD_END)
_ENDINGS: Final = (b"", b"\n", _LINE_END)
_COMPARED: Final = 8
_DIFFERENT: Final = 5
_MISUSED: Final = "The boundary stands where it is not a plain delimiter."


class PartSink(Protocol):
    """Gets the parts, in order: head, any number of data, end. Each call may refuse."""

    def head(self, block: bytes) -> None:
        """Called with a part's head: its lines without the final line end."""

    def data(self, piece: bytes) -> None:
        """Called with the next bytes of the part, at least one."""

    def end(self) -> None:
        """Called when the part is complete."""


class MultipartFraming:
    """Splits one body into parts."""

    __slots__ = ("_dashes", "_delimiter", "_held", "_is_sought_from_behind", "_last", "_sink", "_step")

    def __init__(self, boundary: bytes, sink: PartSink) -> None:
        self._dashes = b"--" + boundary
        self._delimiter = _LINE_END + self._dashes
        self._is_sought_from_behind = not _repeats_itself(self._dashes)
        self._last: int | None = None
        self._sink = sink
        self._held = b""
        # Not bound: a cycle would keep the form, and what it held, until a garbage collection.
        self._step: Callable[[MultipartFraming, bytes, int], int] = MultipartFraming._beginning

    def __repr__(self) -> str:
        return f"<MultipartFraming{self._step.__name__.replace('_', ' ')} held={len(self._held)}>"

    def take(self, data: bytes) -> None:
        """Processes the next bytes.

        Raises:
            Refused: unsupported_media_type, or any refusal of the sink.
        """
        buffer = self._held + data if self._held else data
        self._last = None
        place = 0
        while place >= 0:
            place = self._step(self, buffer, place)

    def finish(self) -> bytes:
        """Checks that the body is complete; returns what came after the closing delimiter: a line end or nothing.

        Raises:
            Refused: body_malformed.
        """
        if self._step is not MultipartFraming._closing or self._held not in _ENDINGS:
            raise refuse(Reason.BODY_MALFORMED, "The form ends before its closing delimiter.")
        return self._held

    # The steps: each starts at a place, and returns where the next step starts, or -1 if it needs more bytes.

    def _beginning(self, buffer: bytes, place: int) -> int:
        """Skips one line end that may come before all else."""
        begun = buffer[place : place + len(_LINE_END)]
        if begun != _LINE_END and _LINE_END.startswith(begun):
            return self._hold(buffer, place)
        self._step = MultipartFraming._opening
        return place + len(_LINE_END) if begun == _LINE_END else place

    def _opening(self, buffer: bytes, place: int) -> int:
        first = self._dashes + _LINE_END
        if not first.startswith(buffer[place : place + len(first)]):
            raise ambiguous("The form does not begin with its boundary.")
        if len(buffer) - place < len(first):
            return self._hold(buffer, place)
        self._step = MultipartFraming._head
        return place + len(self._dashes)

    def _head(self, buffer: bytes, place: int) -> int:
        """Starts at the line end before the head, so that an empty head is found."""
        end = buffer.find(_HEAD_END, place, place + _MAX_LENGTH)
        if end < 0:
            if len(buffer) - place >= _MAX_LENGTH:
                raise ambiguous(f"The headers of a part have more than {MAX_PART_HEAD} bytes.")
            return self._hold(buffer, place)
        block = buffer[place + len(_LINE_END) : end]
        if self._dashes in block:
            raise ambiguous(_MISUSED)
        self._sink.head(block)
        self._step = MultipartFraming._data
        return end + len(_HEAD_END)

    def _data(self, buffer: bytes, place: int) -> int:
        found = self._find(buffer, place)
        if found < 0:
            start = self._first_candidate(buffer, place)
            self._pass(buffer, place, start)
            return self._hold(buffer, start)
        start = found - len(_LINE_END)
        if start < place or not buffer.startswith(_LINE_END, start):
            raise ambiguous(_MISUSED)
        self._pass(buffer, place, start)
        return self._delimit(buffer, start, found + len(self._dashes))

    def _delimit(self, buffer: bytes, start: int, place: int) -> int:
        following = buffer[place : place + 2]
        if len(following) < len(_LINE_END):
            return self._hold(buffer, start)
        self._sink.end()
        if following == _LINE_END:
            self._step = MultipartFraming._head
            return place
        if following == b"--":
            self._step = MultipartFraming._closing
            return place + 2
        raise ambiguous(_MISUSED)

    def _closing(self, buffer: bytes, place: int) -> int:
        if not any(ending.startswith(buffer[place:]) for ending in _ENDINGS):
            raise ambiguous("There is data after the form's closing delimiter.")
        return self._hold(buffer, place)

    def _hold(self, buffer: bytes, place: int) -> int:
        self._held = buffer[place:]
        return -1

    def _pass(self, buffer: bytes, start: int, end: int) -> None:
        if start < end:
            self._sink.data(buffer[start:end])  # CPython does not copy if this is the whole buffer

    def _find(self, buffer: bytes, place: int) -> int:
        """The place of the next delimiter from `place` on, or -1.

        CPython searches backward four times as fast, and most pieces contain no delimiter. The backward search runs
        once for each piece: once for each part could be a hundred times, if the sender likes.
        """
        if self._is_sought_from_behind:
            if self._last is None:
                self._last = buffer.rfind(self._dashes)
            if self._last < place:
                return -1
        return buffer.find(self._dashes, place)

    def _first_candidate(self, buffer: bytes, place: int) -> int:
        """Where a possible delimiter, or a misuse of one, begins; else the buffer's end."""
        start = max(place, len(buffer) - len(self._delimiter) + 1)
        tail = buffer[start:]
        if b"\r" in tail or b"-" in tail:
            for place_in_tail in range(len(tail)):
                rest = tail[place_in_tail:]
                if self._delimiter.startswith(rest) or self._dashes.startswith(rest):
                    return start + place_in_tail
        return len(buffer)


def _repeats_itself(wanted: bytes) -> bool:
    """Whether a delimiter's end has few different bytes: a backward search for it may take far longer.

    CPython compares from the end, and a repetitive end matches partly at one place and at the next one, too.
    """
    return len(set(wanted[-_COMPARED:])) < _DIFFERENT
