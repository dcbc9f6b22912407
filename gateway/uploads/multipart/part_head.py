r"""Reads the head of one part of a form, so strictly that every parser reads it alike: pure.

Facts this file rests on (python-multipart 0.0.34, which Starlette uses; tests/uploads/test_differential.py):
- Of two Content-Disposition headers it takes the last, of two parameters with one name, too.
- It ignores `filename*`; older releases take it as the only filename that counts. So it is only allowed beside
  `filename`, and if the two name different extensions, neither is trusted.
- It counts `"` minus `\"` to find a parameter's end; others read pairs of a backslash and the next character. Both
  find the same end if the pairs are complete and no backslash precedes the last quote; or if nothing follows it.
- It accepts no header of more than 4224 bytes. Older releases take letters and `-` alone in a header's name.
- It leaves `%22` in a name as it is, which is how browsers write a quote; others decode it. So a name has no `%`.
- Only Content-Disposition matters to Starlette; others also heed Content-Length and the encodings.
"""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import Refused, refuse
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import extension_of

MAX_PART_HEAD: Final = 8192
_MAX_LINE: Final = 4224
_MAX_HEADERS: Final = 8
MAX_NAME: Final = 128  # bytes, of a field of any form
_MAX_FILENAME: Final = 1024  # characters
# Possessive: a value that fails at its end is not retried from each of the blanks before it.
_LINE: Final = re.compile(rb"([A-Za-z-]++): *+([^\x00-\x08\x0a-\x1f]*+)")
_TOKEN: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_NAME: Final = rb"""(?P<name>"[ !#$&-\[\]-~]+"|[A-Za-z0-9!#$&'*+.^_`|~-]+)"""
_FILENAME: Final = rb'(?P<filename>"(?:[^"]|(?<=\\)")*"|' + _TOKEN + rb")"
_EXTENDED: Final = rb"(?P<extended>" + _TOKEN + rb")"
_PARAMETER: Final = re.compile(
    rb"; *(?:name=" + _NAME + rb"|filename=" + _FILENAME + rb"|filename\*=" + _EXTENDED + rb")(?=;|\Z)",
    re.IGNORECASE,
)
_PAIRED: Final = re.compile(rb'(?:[^"\\]|\\.)*\Z', re.DOTALL)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}\Z")
_TYPE: Final = re.compile(rb"([A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63})(?:[ ;]|\Z)")
_UNENCODED: Final = frozenset({b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True, slots=True)
class PartHead:
    """A part's description of itself. Of its filename only the extension is kept.

    `content_type` is the whole value as sent, or None; `length` its Content-Length in bytes, or None.
    """

    name: str = field(repr=False)
    has_filename: bool
    extension: str = field(default="", repr=False)
    content_type: bytes | None = field(default=None, repr=False)
    length: int | None = None

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; `?` if it is malformed, empty if it is missing."""
        if self.content_type is None:
            return ""
        match = _TYPE.match(self.content_type)
        return match[1].decode("ascii").lower() if match else "?"


def read_part_head(block: bytes) -> PartHead:
    """Reads the lines between a delimiter and the empty line, without the final line end.

    Raises:
        Refused: unsupported_media_type; the detail never contains the client's input.
    """
    headers = _headers(block)
    name, filename, extended = _disposition(headers.pop(b"content-disposition", b""))
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _UNENCODED:
        raise ambiguous("A part has a Content-Transfer-Encoding; send it as it is.")
    if b"content-encoding" in headers or b"transfer-encoding" in headers:
        raise ambiguous("A part is encoded; send it as it is.")
    return PartHead(
        name,
        filename is not None,
        _extension((filename or b"").strip(b'"'), extended),
        headers.get(b"content-type"),
        _length(headers.get(b"content-length")),
    )


def _headers(block: bytes) -> dict[bytes, bytes]:
    lines = block.split(b"\r\n", _MAX_HEADERS)
    if len(lines) > _MAX_HEADERS:
        raise ambiguous(f"A part has more than {_MAX_HEADERS} headers.")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        match = _LINE.fullmatch(line) if len(line) <= _MAX_LINE else None
        if match is None:
            raise ambiguous("A header of a part is malformed or too long.")
        name = match[1].lower()
        if name in headers:
            raise ambiguous("A part has a header twice.")
        headers[name] = match[2]
    return headers


def _disposition(value: bytes) -> tuple[str, bytes | None, bytes]:
    """The name, the filename with its quotes or None, and the decoded value of `filename*`."""
    found = _parameters(value)
    filename = found.get("filename")
    if (
        "name" not in found
        or ("extended" in found and filename is None)
        or not _is_plain(filename or b"", is_last=value.endswith(filename or b""))
    ):
        raise ambiguous('Each part needs one Content-Disposition: form-data; name="...", with at most a filename.')
    name = found["name"].strip(b'"')
    extended = unquote_to_bytes(found.get("extended", b"").rpartition(b"'")[2])
    longest = max(_characters((filename or b"").strip(b'"')), _characters(extended))
    if len(name) > MAX_NAME or longest > _MAX_FILENAME:
        raise ambiguous("A part's name or filename is too long.")
    return name.decode("ascii"), filename, extended


def _parameters(value: bytes) -> dict[str, bytes]:
    """Those of `form-data`, as sent, by the groups of _PARAMETER; none if anything else is there, or one twice."""
    kind, place = value[:9].lower(), 9
    found: dict[str, bytes] = {}
    while kind == b"form-data" and place < len(value):
        match = _PARAMETER.match(value, place)
        if match is None or match.lastgroup is None or match.lastgroup in found:
            return {}
        found[match.lastgroup] = match[match.lastgroup]
        place = match.end()
    return found


def _characters(text: bytes) -> int:
    return len(text.decode("utf-8", "replace"))


def _is_plain(filename: bytes, *, is_last: bool) -> bool:
    if not filename.startswith(b'"'):
        return True
    inner = filename[1:-1]
    return bool(_PAIRED.match(inner)) and (is_last or not inner.endswith(b"\\"))


def _extension(filename: bytes, extended: bytes) -> str:
    """The extension; `?` if two different ones are named."""
    found = {extension_of(filename), extension_of(extended)} - {""}
    return "?" if len(found) > 1 else "".join(found)


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not _LENGTH.match(value):
        raise ambiguous("A part's Content-Length is not one number.")
    return int(value)


def ambiguous(detail: str) -> Refused:
    """Makes the refusal of a form that another parser might read differently."""
    return refuse(Reason.UNSUPPORTED_MEDIA_TYPE, detail)
