"""What we accept, every FastAPI since 0.88 reads alike: the real Starlette and python-multipart of four releases."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.content_type import boundary_of
from gateway.uploads.multipart.inspector import Inspector
from gateway.uploads.urlencoded import UrlEncoded
from tests.support.pure import PROPERTY, examples

READER = Path(__file__).parent.parent / "support" / "formreader.py"
FORMS = Path(sys.prefix) / "forms"
RELEASES = ["0.88", "0.110", "0.115"]
REFUSING = FormRules(frozenset({"file_url"}))
Field = tuple[str, bool, str]


class Reader:
    """One release of Starlette, in a process of its own."""

    def __init__(self, directory: str) -> None:
        command = [sys.executable, str(READER), directory]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 -- ours

    def read(self, content_type: bytes, body: bytes, step: int) -> list[Field] | None:
        """The fields with whether they are files and their values; None, when it refuses the form."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d %d %d\n" % (step, len(content_type), len(body)) + content_type + body)
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return None if answer is None else [(name, filename is not None, value) for name, filename, value in answer]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def fastapis() -> Iterator[dict[str, Reader]]:
    missing = [release for release in RELEASES if not (FORMS / release / ".made").exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: make test does it")
    readers = {release: Reader(str(FORMS / release)) for release in RELEASES} | {"newest": Reader("")}
    yield readers
    for reader in readers.values():
        reader.close()


def accepted(content_type: bytes, body: bytes) -> bytes | None:
    """What goes upstream of a form; None, when we refuse it."""
    try:
        boundary = boundary_of({b"content-type": [content_type]})
        inspector = Inspector(boundary, REFUSING) if boundary else UrlEncoded(FormRules())
        return inspector.take(body).upstream + inspector.finish().removed.get("", "").encode() + inspector.tail
    except Refused:
        return None


def agree(fastapis: dict[str, Reader], content_type: bytes, body: bytes, step: int = 1 << 20) -> bool:
    """Whether we accept it; if so, all releases must read the same fields, or refuse it."""
    upstream = accepted(content_type, body)
    if upstream is None:
        return False
    found = {name: reader.read(content_type, upstream, step) for name, reader in fastapis.items()}
    expected = found["newest"]
    assert expected is not None
    for name, fields in found.items():
        assert fields == expected or (fields is None and name == "0.88" and has_bare_boundary(content_type)), name
    return True


def has_bare_boundary(content_type: bytes) -> bool:
    """Whether the boundary has what should stand in quotes: 0.88 refuses it then."""
    boundary = content_type.partition(b"boundary=")[2].partition(b";")[0]
    return not boundary.startswith(b'"') and any(mark in boundary for mark in b"=/:?,@")


TYPE = b"multipart/form-data; boundary=b0"
FILE = (
    b'--b0\r\nContent-Disposition: form-data; name="file"; filename="x.pdf"\r\nContent-Type: a/b\r\n\r\n%PDF-1.7\r\n'
)
RANGE = b'--b0\r\nContent-Disposition: form-data; name="page_range"\r\n\r\n0-4\r\n'
END = b"--b0--\r\n"
WHOLE = FILE + RANGE + END


@pytest.mark.parametrize(
    "body",
    [
        WHOLE, b"\r\n" + WHOLE, WHOLE[:-2], WHOLE[:-2] + b"\n",
        *(WHOLE.replace(b'"x.pdf"', name) for name in (
            b'"a\\";b.pdf"', b'"a\\\\\\";b.pdf"', b'"C:\\dir\\x.pdf"', b'"a\\\\b;c.pdf"', b'"a\\\\"', b'"a%22b;.pdf"',
            b"\"=?utf-8?B?w6Q=?=\"; filename*=utf-8''%C3%A4.pdf", b'"' + b"\xe4\xbd\xa0" * 1024 + b'"',
        )),
    ],
)  # fmt: skip
def test_what_real_clients_send_is_read_alike(fastapis: dict[str, Reader], body: bytes) -> None:
    assert agree(fastapis, TYPE, body)
    assert agree(fastapis, TYPE, body, step=1)


@pytest.mark.parametrize(
    "parameters",
    [b"; boundary=b0;", b";boundary=b0", b";\tboundary=b0", b"; charset=ISO-8859-1; boundary=b0",
     b'; boundary="b0"; charset=us-ascii', b"; boundary=a=b/c:d"],
)  # fmt: skip
def test_a_content_type_is_read_alike(fastapis: dict[str, Reader], parameters: bytes) -> None:
    boundary = b"a=b/c:d" if b"/" in parameters else b"b0"
    assert agree(fastapis, b"multipart/form-data" + parameters, WHOLE.replace(b"b0", boundary))


tokens = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"b0", b"\r\n--b0\r\n", b'"', b"\\", b'\\"', b"\\\\", b";", b"; ", b"=", b" ",
     b"\t", b"\xff", b"name", b'name="mode"', b"filename=y", b"filename*=utf-8''y", b"*", b"\r\nX: y", b":", b"%22",
     b"'", b"a", b"_", b"1"]
)  # fmt: skip


@settings(PROPERTY, max_examples=examples(700))
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 6), tokens), max_size=3), st.integers(1, 60))
def test_no_change_parts_them(fastapis: dict[str, Reader], changes: list[tuple[int, int, bytes]], step: int) -> None:
    body = WHOLE
    for place, length, token in changes:
        body = body[:place] + token + body[place + length :]
    agree(fastapis, TYPE, body, step)


URLENCODED = b"application/x-www-form-urlencoded"
encoded = st.sampled_from(
    [b"&", b";", b"=", b"%", b"%41", b"%C3%A4", b"%ff", b"%26", b"%3B", b"+", b" ", b"a", b"page_range", b"\r\n",
     b"\xe4", b"[]", b"%00", b'"']
)  # fmt: skip


@settings(PROPERTY, max_examples=examples(700))
@given(st.lists(encoded, max_size=8).map(b"".join), st.integers(1, 40))
def test_no_url_encoded_form_parts_them(fastapis: dict[str, Reader], text: bytes, step: int) -> None:
    agree(fastapis, URLENCODED, b"file_url=https%3A%2F%2Fh%2F" + text, step)
    agree(fastapis, URLENCODED, text + b"&file_url=https%3A%2F%2Fh%2F", step)


def test_a_url_encoded_form_is_read_alike(fastapis: dict[str, Reader]) -> None:
    assert agree(fastapis, URLENCODED, b"file_url=https://h/a%20b&page_range=0-4%2C7&mode=fast&x=&y=%C3%A4+b", 1)
    assert agree(fastapis, URLENCODED + b"; charset=utf-8", b"file_url=https://h")
    long = urlencode({"file_url": "https://h", "page_schema": "\u4e2d" * 12_000}).encode()
    assert agree(fastapis, URLENCODED, long, 1024)


@settings(PROPERTY, max_examples=examples(700))
@given(st.lists(encoded, max_size=8).map(b"".join))
def test_a_url_encoded_value_is_judged_as_they_read_it(fastapis: dict[str, Reader], text: bytes) -> None:
    form = UrlEncoded(FormRules(removed=frozenset({"webhook_url"})))
    body = b"file_url=https://h&webhook_url=" + text.replace(b"&", b"")
    try:
        form.take(body)
        judged = form.finish().removed["webhook_url"].encode().decode("latin-1")
    except Refused:
        return
    for name, reader in fastapis.items():
        assert ("webhook_url", False, judged) in (reader.read(URLENCODED, body, 1 << 20) or ()), name


@settings(PROPERTY, max_examples=examples(700))
@given(st.lists(tokens, max_size=6).map(b"".join))
def test_no_filename_parts_them(fastapis: dict[str, Reader], name: bytes) -> None:
    agree(fastapis, TYPE, WHOLE.replace(b"x.pdf", name))


pieces = st.sampled_from([b";", b" ", b"\t", b"=", b'"', b"boundary=b0", b"charset=", b"utf-8", b"x", b"/"])


@settings(PROPERTY, max_examples=examples(700))
@given(st.lists(pieces, max_size=6).map(b"".join))
def test_no_content_type_parts_them(fastapis: dict[str, Reader], text: bytes) -> None:
    try:
        boundary = boundary_of({b"content-type": [b"multipart/form-data" + text]})
    except Refused:
        return
    agree(fastapis, b"multipart/form-data" + text, WHOLE.replace(b"b0", boundary))
