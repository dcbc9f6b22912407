"""What we accept, others read alike: python-multipart as Starlette uses it, defnull's multipart, Python's email."""

import email.policy
from email import message_from_bytes
from email.message import Message
from typing import NamedTuple

import multipart
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from gateway.errors import Refused
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.inspector import Inspector
from gateway.uploads.multipart.part_head import read_part_head
from tests.support.pure import PROPERTY, examples

RULES = FormRules(refused=frozenset({"file_url"}), removed=frozenset())


class Part(NamedTuple):
    name: bytes
    is_file: bool
    value: bytes


class Starlette:
    """Reads a form as starlette.formparsers.MultiPartParser does."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[Part] = []
        self._field, self._header, self._data = b"", b"", b""
        self._disposition: bytes | None = None
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._header_end,
            },
        )

    def _begin(self) -> None:
        self._data, self._disposition = b"", None

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._header
        self._field, self._header = b"", b""

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self.parts.append(Part(options[b"name"], b"filename" in options, self._data))


def by_starlette(body: bytes, boundary: bytes, step: int) -> list[Part]:
    reader = Starlette(boundary)
    for start in range(0, len(body), step):
        reader.parser.write(body[start : start + step])
    reader.parser.finalize()
    return reader.parts


def by_defnull(body: bytes, boundary: bytes) -> list[Part]:
    parts: list[Part] = []
    # Latin-1 in the heads, because it refuses filenames that are not in UTF-8, which we do not read.
    with multipart.PushMultipartParser(boundary, strict=True, header_charset="latin-1") as parser:
        for event in parser.parse(body):
            if isinstance(event, multipart.MultipartSegment):
                parts.append(Part(event.name.encode(), event.filename is not None, b""))
            elif event is not None:
                parts[-1] = parts[-1]._replace(value=parts[-1].value + bytes(event))
    return parts


def by_email(body: bytes, boundary: bytes) -> list[Part]:
    head = b'Content-Type: multipart/form-data; boundary="%b"\r\n\r\n' % boundary
    message = message_from_bytes(head + body, policy=email.policy.compat32)
    payload = message.get_payload()
    assert isinstance(payload, list)
    return [_from_email(part) for part in payload if isinstance(part, Message)]


def _from_email(part: Message) -> Part:
    name = part.get_param("name", header="Content-Disposition")
    value = part.get_payload(decode=True)
    assert isinstance(name, str)
    assert isinstance(value, bytes)
    # Not get_filename(), which also takes a name from the Content-Type.
    return Part(name.encode(), part.get_param("filename", header="Content-Disposition") is not None, value)


class Ours:
    """Reads a form with our own head reader and the Inspector's verdict; heads are told from what is given out."""

    def __init__(self, boundary: bytes) -> None:
        self.boundary = boundary

    def read(self, body: bytes, step: int) -> list[Part] | None:
        inspector = Inspector(self.boundary, RULES)
        out = b""
        try:
            for start in range(0, len(body), step):
                out += inspector.take(body[start : start + step]).upstream
            inspector.finish()
        except Refused:
            return None
        assert out + inspector.tail == body.removeprefix(b"\r\n")
        delimited = (b"\r\n" + out).split(b"\r\n--" + self.boundary + b"\r\n")
        assert delimited[0] == b""
        return [self._part(text) for text in delimited[1:]]

    def _part(self, text: bytes) -> Part:
        block, _, value = text.partition(b"\r\n\r\n")
        head = read_part_head(block)
        return Part(head.name.encode(), head.has_filename, value)


def agree(body: bytes, boundary: bytes = b"b0", step: int = 1 << 20) -> bool:
    """Whether we accept it; if so, the others must see the same."""
    ours = Ours(boundary).read(body, step)
    if ours is None:
        return False
    assert by_starlette(body, boundary, 1 << 20) == ours
    assert by_starlette(body, boundary, step) == ours
    assert by_defnull(body, boundary) == ours
    assert by_email(body, boundary) == ours
    return True


FILE_HEAD = b'Content-Disposition: form-data; name="file"; filename="x.pdf"\r\nContent-Type: application/pdf'
FILE = b"--b0\r\n" + FILE_HEAD + b"\r\n\r\n%PDF-1.7\r\n"
RANGE = b'--b0\r\nContent-Disposition: form-data; name="page_range"\r\n\r\n0-4\r\n'
OTHER = b"--b0\r\ncontent-type: text/plain\r\ncontent-disposition:form-data;name=other\r\n\r\n\r\n"
END = b"--b0--\r\n"
WHOLE = FILE + RANGE + OTHER + END


def test_the_plain_form_is_read_alike_by_all() -> None:
    assert agree(WHOLE)
    assert agree(WHOLE, step=1)
    assert by_starlette(WHOLE, b"b0", 1) == [
        Part(b"file", True, b"%PDF-1.7"),
        Part(b"page_range", False, b"0-4"),
        Part(b"other", False, b""),
    ]


DISPOSITION = b'Content-Disposition: form-data; name="page_range"'
ATTACKS = [
    # Two values for one field, and what only some take for the second.
    FILE + RANGE + RANGE + END,
    FILE + RANGE.replace(b"page_range", b"Page_Range") + RANGE + END,
    WHOLE.replace(DISPOSITION, DISPOSITION + b'; name="other"'),
    WHOLE.replace(DISPOSITION, DISPOSITION + b"\r\n" + DISPOSITION.replace(b"page_range", b"x")),
    WHOLE.replace(DISPOSITION, DISPOSITION + b"; name*=utf-8''x"),
    WHOLE.replace(b'name="page_range"', b"name*=utf-8''page_range"),
    WHOLE.replace(b'name="page_range"', b'name*0="page_"; name*1="range"'),
    WHOLE.replace(b'name="page_range"', b'name="x\\"; name=\\"page_range"'),
    WHOLE.replace(b'filename="x.pdf"', b'filename="x\\"; name="page_range"'),
    WHOLE.replace(b'filename="x.pdf"', b'filename="x\\\\"; name="page_range"'),
    WHOLE.replace(b'; filename="x.pdf"', b"; filename*=utf-8''x.pdf"),
    WHOLE.replace(b"form-data; name=", b"form-data;\r\n name="),
    WHOLE.replace(b"form-data; name=", b"form-data;\n name="),
    WHOLE.replace(b"Content-Disposition:", b"Content-Disposition :"),
    WHOLE.replace(b"Content-Disposition:", b"Content-Disposition\x00:"),
    # Delimiters that only some see.
    WHOLE.replace(b"\r\n--b0", b"\n--b0"),
    WHOLE.replace(b"\r\n--b0", b"\r--b0"),
    WHOLE.replace(b"--b0\r\n", b"--b0\n"),
    WHOLE.replace(b"--b0\r\n", b"--b0 \r\n"),
    WHOLE.replace(b"--b0\r\n", b"--b0\t\r\n"),
    WHOLE.replace(b"\r\n", b"\n"),
    WHOLE.replace(b"0-4", b"0-4\r\n--b0x"),
    WHOLE.replace(b"0-4", b"0-4\r\n--b0--\r\nmore"),
    WHOLE.replace(b"0-4", b"0-4\n--b0--\r\n"),
    WHOLE.replace(b"x.pdf", b"--b0"),
    WHOLE.replace(b"0-4\r\n--b0", b"--b0"),
    b"preamble\r\n" + WHOLE,
    b"\r\n\r\n" + WHOLE,
    WHOLE + b"epilogue",
    WHOLE + WHOLE,
    END + WHOLE,
    # Values that are encoded for some.
    WHOLE.replace(DISPOSITION, DISPOSITION + b"\r\nContent-Transfer-Encoding: base64"),
    WHOLE.replace(DISPOSITION, DISPOSITION + b"\r\nContent-Type: text/plain; charset=utf-16"),
    WHOLE.replace(DISPOSITION, DISPOSITION + b"\r\nContent-Length: 1"),
]  # fmt: skip


@pytest.mark.parametrize("body", ATTACKS)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_what_others_read_in_different_ways_is_refused(body: bytes, step: int) -> None:
    assert not agree(body, step=step)


tokens = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"b0", b"--b0", b"\r\n--b0", b"\r\n--b0\r\n", b"\r\n--b0--", b'"', b"\\", b'\\"',
     b";", b"; ", b"=", b" ",
     b"\t", b"\x00", b"\xff", b"\xc3\xa4", b"name", b'name="mode"', b"name=x", b'filename="y"', b"filename=y",
     b"filename*=utf-8''y", b"*",
     b"\r\nX: y", b"\r\n ", b":", b"Content-Length: 3\r\n", b"%22", b"'", b"(", b",", b"a", b"=?utf-8?q?x?="]
)  # fmt: skip
mutations = st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 6), tokens), min_size=1, max_size=3)


def mutated(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, token in changes:
        body = body[:place] + token + body[place + length :]
    return body


@settings(PROPERTY, max_examples=examples(1500))
@given(mutations, st.integers(1, 60))
@example([(WHOLE.index(b"0-4"), 3, b"\r\n")], 1)
def test_no_change_makes_others_see_what_we_do_not(changes: list[tuple[int, int, bytes]], step: int) -> None:
    agree(mutated(WHOLE, changes), step=step)


parameters = st.lists(
    st.sampled_from(
        [b"; ", b";", b"name=", b"filename=", b"filename*=", b'"', b"a", b"\\", b'\\"', b"\\\\", b" ", b"=", b".pdf",
         b"C:\\x", b"\xe4"]
    ),
    max_size=10,
).map(b"".join)  # fmt: skip


@settings(PROPERTY, max_examples=examples(1500))
@given(parameters)
@example(b'; filename="a\\"b"')
@example(b'; filename="C:\\x"')
@example(b'; filename="; filename="')
def test_no_parameters_make_others_see_another_name(text: bytes) -> None:
    agree(WHOLE.replace(b'name="file"; filename="x.pdf"', b'name="file"' + text))
    agree(WHOLE.replace(b"name=other", b"name=other" + text))
