"""The parts of one form by themselves: what is passed on, what is kept of it here, and what a form is judged by."""

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import SNIFFED, FileKind
from gateway.uploads.form import FileFacts, Form, FormRules
from gateway.uploads.multipart.parts import FormParts
from tests.support.held import texts_within

RULES = FormRules(
    refused=frozenset({"secret"}),
    removed=frozenset({"webhook_url"}),
    checkpoint="checkpoint_id",
    options="config",
    members=frozenset({"use_llm"}),
)
OF_FILE = b'Content-Disposition: form-data; name="file"; filename="x.pdf"\r\nContent-Type: application/pdf'
PDF = b"%PDF-1.7\n"


@pytest.fixture
def parts() -> FormParts:
    return FormParts(b"b0", RULES)


def named(name: str) -> bytes:
    return b'Content-Disposition: form-data; name="%b"' % name.encode()


def add(parts: FormParts, name: str, *pieces: bytes) -> None:
    """Adds a part; the field file is the document."""
    parts.head(OF_FILE if name == "file" else named(name))
    for piece in pieces:
        parts.data(piece)
    parts.end()


def refused(parts: FormParts, name: str, *pieces: bytes) -> Reason:
    try:
        add(parts, name, *pieces)
        parts.form()
    except Refused as error:
        return error.denial.reason
    raise AssertionError("it is not refused")


def test_the_first_delimiter_alone_has_no_line_before_it(parts: FormParts) -> None:
    assert parts.closing() == b"--b0--"
    add(parts, "a", b"1")
    assert parts.drain().upstream == b"--b0\r\n" + named("a") + b"\r\n\r\n1"
    add(parts, "b", b"2", b"3")
    assert parts.drain().upstream == b"\r\n--b0\r\n" + named("b") + b"\r\n\r\n23"
    assert parts.closing() == b"\r\n--b0--"
    assert parts.drain() == (b"", [])


def test_of_what_is_not_forwarded_nothing_is_passed_on(parts: FormParts) -> None:
    add(parts, "webhook_url", b"https://", b"hook.test/")
    add(parts, "secret")
    assert parts.drain() == (b"", [])
    assert parts.closing() == b"--b0--"
    assert parts.form().removed == {"webhook_url": "https://hook.test/"}


def test_the_bytes_of_the_file_are_told_apart(parts: FormParts) -> None:
    add(parts, "a", b"1")
    add(parts, "file", PDF, b"more")
    add(parts, "b", b"2")
    passed = parts.drain()
    assert passed.file == [PDF, b"more"]
    assert passed.upstream.count(PDF + b"more\r\n--b0") == 1
    assert parts.form().file == FileFacts(FileKind.PDF, len(PDF) + 4)


@pytest.mark.parametrize("pieces", [(SNIFFED + 1,), (SNIFFED,), (SNIFFED - 1, 1), (SNIFFED - 1, 5), (1, SNIFFED)])
def test_the_beginning_of_a_file_decides_once_whatever_pieces_it_comes_in(
    pieces: tuple[int, ...], parts: FormParts
) -> None:
    whole, start = PDF + b"x" * SNIFFED * 2, 0
    parts.head(OF_FILE)
    for length in pieces:
        assert parts.kind is None
        parts.data(whole[start : start + length])
        start += length
    assert parts.kind is FileKind.PDF
    parts.data(b"\x89PNG\r\n\x1a\n" * SNIFFED)
    assert parts.kind is FileKind.PDF


def test_of_a_file_and_of_fields_that_are_not_kept_nothing_is_held(parts: FormParts) -> None:
    add(parts, "file", PDF + b"canary" * SNIFFED)
    add(parts, "other", b"canary" * 100)
    assert any("canary" in text for text in texts_within(parts))  # until it is drained
    parts.drain()
    assert not any("canary" in text for text in texts_within(parts))


def test_a_value_comes_in_pieces_and_is_as_it_was_sent(parts: FormParts) -> None:
    add(parts, "page_range", b"0-", b"4")
    add(parts, "max_pages", b" 7")
    add(parts, "mode", b"Fast")
    add(parts, "checkpoint_id", b"c1")
    assert parts.form() == Form(
        page_range="0-4", max_pages=" 7", mode="Fast", checkpoint="c1", removed={}, file=None, has_two=False
    )


@pytest.mark.parametrize("name", ["page_range", "max_pages", "file_url", "webhook_url"])
def test_what_is_read_later_or_not_at_all_may_have_any_characters(name: str, parts: FormParts) -> None:
    add(parts, name, "https://h/\u00e9".encode())
    parts.form()


def test_texts_in_the_options_may_have_any_characters(parts: FormParts) -> None:
    add(parts, "config", '{"use_llm": "\u00e9"}'.encode())
    parts.form()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mode", "\u00e9".encode(), Reason.UNSUPPORTED_MEDIA_TYPE),
        ("mode", b"\xff", Reason.UNSUPPORTED_MEDIA_TYPE),
        ("file_url", b"file:///etc/passwd", Reason.FIELD_REFUSED),
        ("config", b'{"secret": 1}', Reason.FIELD_REFUSED),
        ("config", b"[", Reason.UNSUPPORTED_MEDIA_TYPE),
        ("secret", b"1", Reason.FIELD_REFUSED),
        ("mode", b"x" * 4097, Reason.BODY_TOO_LARGE),
    ],
)
def test_a_form_is_refused_for_a_value(name: str, value: bytes, reason: Reason, parts: FormParts) -> None:
    assert refused(parts, name, value) is reason


def test_a_field_is_measured_over_all_its_pieces(parts: FormParts) -> None:
    assert refused(parts, "mode", b"x" * 4096, b"x") is Reason.BODY_TOO_LARGE


def test_a_file_of_no_bytes_is_refused(parts: FormParts) -> None:
    assert refused(parts, "file") is Reason.BODY_MALFORMED


def test_a_part_of_another_size_than_it_says_is_refused(parts: FormParts) -> None:
    parts.head(named("a") + b"\r\nContent-Length: 3")
    for piece in (b"1", b"2"):
        parts.data(piece)
    with pytest.raises(Refused, match="another size"):
        parts.end()


@pytest.mark.parametrize(("has_file", "value", "has_two"), [
    (True, b"https://h/", True), (True, b"", False), (False, b"https://h/", False),
])  # fmt: skip
def test_only_a_form_with_a_file_names_two_documents(
    has_file: bool, value: bytes, has_two: bool, parts: FormParts
) -> None:
    if has_file:
        add(parts, "file", PDF)
    add(parts, "file_url", value)
    assert parts.form().has_two is has_two
