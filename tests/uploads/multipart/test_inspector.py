import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import FileFacts, Form, FormRules
from gateway.uploads.multipart.inspector import Inspector
from tests.support.held import texts_within
from tests.support.pure import PROPERTY

RULES = FormRules(refused=frozenset({"file_url"}), removed=frozenset({"webhook_url"}))
PDF = b"%PDF-1.7\n" + b"\x00\r\n--\xff" * 700


def field(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--b0\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more, value)


def document(content: bytes = PDF, filename: bytes = b"x.pdf", kind: bytes = b"application/pdf") -> bytes:
    return field("file", content, b'; filename="%b"\r\nContent-Type: %b' % (filename, kind))


def form(*parts: bytes, ending: bytes = b"\r\n") -> bytes:
    return b"".join(parts) + b"--b0--" + ending


def inspect(body: bytes, step: int = 1 << 20, rules: FormRules = RULES) -> tuple[Form, bytes, bytes, bytes]:
    """The form, what was given out, the tail, and the file."""
    inspector = Inspector(b"b0", rules)
    out = file = b""
    for start in range(0, len(body), step):
        passed = inspector.take(body[start : start + step])
        out += passed.upstream
        file += b"".join(passed.file)
        assert b"--b0--" not in out
        assert inspector.tail == b""
    return inspector.finish(), out, inspector.tail, file


def refusal(body: bytes, step: int = 1 << 20, rules: FormRules = RULES) -> Refused:
    with pytest.raises(Refused) as caught:
        inspect(body, step, rules)
    return caught.value


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1000, 1 << 20])
def test_a_form_goes_through_byte_for_byte(step: int) -> None:
    body = form(document(), field("page_range", b"0-4"), field("page_schema", b'{"a": 1}'), field("mode", b"fast"))
    found, out, tail, file = inspect(body, step)
    assert found == Form(page_range="0-4", mode="fast", file=FileFacts(FileKind.PDF, len(PDF)))
    assert (out + tail, tail, file) == (body, b"\r\n--b0--\r\n", PDF)


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("place", range(3))
def test_a_removed_field_is_kept_here_and_does_not_go_upstream(step: int, place: int) -> None:
    others = [document(), field("max_pages", b"7")]
    parts = [*others[:place], field("webhook_url", b"https://h/\xc3\xa4"), *others[place:]]
    found, out, tail, file = inspect(form(*parts), step)
    assert found.removed == {"webhook_url": "https://h/ä"}
    assert found.max_pages == "7"
    assert (out + tail, file) == (form(*others), PDF)


def test_a_form_of_removed_fields_alone_becomes_an_empty_one() -> None:
    _, out, tail, _ = inspect(form(field("webhook_url", b""), ending=b""))
    assert (out, tail) == (b"", b"--b0--")


def test_a_form_may_lack_a_file() -> None:
    assert inspect(form(field("x", b"1")))[0] == Form()


@pytest.mark.parametrize("content", [b"x", b"II*\x00", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_short_file_is_judged_at_its_end(content: bytes, step: int) -> None:
    kinds = {b"x": FileKind.UNKNOWN, b"II*\x00": FileKind.TIFF, b"\x89PNG\r\n\x1a\n": FileKind.IMAGE}
    found, *_ = inspect(form(document(content, b"x.png", b"image/png")), step)
    assert found.file == FileFacts(kinds[content], len(content))


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_an_empty_file_is_refused_as_empty(step: int) -> None:
    with pytest.raises(Refused, match="empty") as caught:
        inspect(form(document(b"", b"x.pdf", b"application/pdf")), step)
    assert caught.value.denial.reason is Reason.BODY_MALFORMED


def test_the_kind_is_known_as_soon_as_enough_has_come() -> None:
    inspector = Inspector(b"b0", RULES)
    whole = document(b"x" * 3000)
    start = len(whole) - 3002
    inspector.take(whole[: start + 2047])
    assert inspector.kind is None
    inspector.take(whole[start + 2047 : start + 2048])
    assert inspector.kind is FileKind.UNKNOWN


def test_the_bytes_of_a_file_are_not_copied() -> None:
    inspector = Inspector(b"b0", RULES)
    inspector.take(document()[:-2])
    piece = b"y" * 100_000
    passed = inspector.take(piece)
    assert passed.upstream is piece
    assert passed.file[0] is piece


@pytest.mark.parametrize("name", ["page_range", "webhook_url"])
def test_a_limited_field_has_at_most_4_kilobytes(name: str) -> None:
    inspect(form(field(name, b"x" * 4096)))
    for step in (1, 1 << 20):
        assert refusal(form(field(name, b"x" * 4097)), step).denial.reason is Reason.BODY_TOO_LARGE


def test_any_field_has_at_most_a_megabyte_and_all_have_four() -> None:
    inspect(form(*[field("x", b"x" * 1_048_576)] * 4))
    assert refusal(form(field("x", b"x" * 1_048_577))).denial.reason is Reason.BODY_TOO_LARGE
    assert refusal(form(*[field("x", b"x" * 1_048_576)] * 4, field("x", b"y"))).denial.reason is Reason.BODY_TOO_LARGE


@pytest.mark.parametrize("value", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
@pytest.mark.parametrize("name", ["page_range", "max_pages", "mode", "webhook_url"])
def test_a_value_that_is_not_in_utf_8_is_refused(name: str, value: bytes) -> None:
    refused = refusal(form(field(name, value)))
    assert refused.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert refused.__cause__ is None
    assert refused.__suppress_context__
    inspect(form(field("other", value)))


@pytest.mark.parametrize("name", ["mode", "checkpoint_id"])
def test_what_a_charset_could_make_another_value_of_is_refused(name: str) -> None:
    """Starlette decodes values by the charset of the form's Content-Type, or as Latin-1 where that fails."""
    rules = FormRules(checkpoint="checkpoint_id")
    refused = refusal(form(field(name, "\u00e9".encode())), rules=rules)
    assert refused.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    inspect(form(field("file_url", "https://example.com/\u00e9".encode())), rules=rules)


def test_a_part_has_the_length_that_it_says() -> None:
    inspect(form(field("x", b"1234", b"\r\nContent-Length: 4")))
    assert refusal(form(field("x", b"1234", b"\r\nContent-Length: 3"))).denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_refused_field_may_be_there_when_it_is_empty(step: int) -> None:
    others = (document(), field("max_pages", b"7"))
    found, out, tail, _ = inspect(form(others[0], field("file_url", b""), others[1]), step)
    assert (found.max_pages, out + tail) == ("7", form(*others))


def test_a_refused_field_is_refused_by_the_first_byte_of_its_value() -> None:
    inspector = Inspector(b"b0", RULES)
    inspector.take(document())
    head, value, _ = field("file_url", b"http://s3cret").partition(b"http")
    assert inspector.take(head).upstream == b""
    with pytest.raises(Refused, match="file_url") as caught:
        inspector.take(value[:1])
    assert caught.value.denial.reason is Reason.FIELD_REFUSED


@pytest.mark.parametrize("length", [0, 1, 40, 200, -20, -9, -3])
def test_a_form_that_ends_too_early_is_malformed(length: int) -> None:
    assert refusal(form(document(), field("x", b"1"))[:length]).denial.reason is Reason.BODY_MALFORMED


def test_it_shows_where_it_is_and_how_much_it_holds_back() -> None:
    inspector, whole = Inspector(b"b0", RULES), form(field("mode", b"fast"))
    seen = [repr(inspector)]
    inspector.take(whole)
    seen.append(repr(inspector))
    inspector.finish()
    seen.append(repr(inspector))
    assert seen == [
        "<Inspector <MultipartFraming beginning held=0> tail=0>",
        "<Inspector <MultipartFraming closing held=2> tail=0>",
        "<Inspector <MultipartFraming closing held=2> tail=10>",
    ]


def test_nothing_that_a_client_sent_is_shown_or_kept() -> None:
    inspector = Inspector(b"b0", RULES)
    inspector.take(
        form(field("api_secret", b"s3cret"), field("webhook_url", b"https://s3cret"), field("mode", b"s3cret"))
    )
    shown = repr(inspector.finish())
    assert "s3cret" not in shown
    assert sorted(text for text in texts_within(inspector) if "s3cret" in text) == ["https://s3cret", "s3cret"]


values = st.lists(st.sampled_from([b"\r\n", b"-", b"--", b"a", b"\xff", b"b0", b"\r\n--"]), max_size=6).map(b"".join)


@PROPERTY
@given(
    st.lists(
        st.tuples(st.sampled_from(["x", "y", "file", "webhook_url", "mode"]), values),
        min_size=1,
        max_size=5,
        unique_by=lambda item: item[0],
    ),
    st.lists(st.integers(1, 40), min_size=1),
    st.sampled_from([b"", b"\r\n"]),
)
def test_what_is_given_out_never_looks_whole(items: list[tuple[str, bytes]], steps: list[int], ending: bytes) -> None:
    parts = {name: document(value) if name == "file" else field(name, value) for name, value in items}
    body = form(*parts.values(), ending=ending)
    inspector = Inspector(b"b0", RULES)
    out, rest, count = b"", body, 0
    try:
        while rest:
            step = steps[count % len(steps)]
            count += 1
            out += inspector.take(rest[:step]).upstream
            rest = rest[step:]
            assert b"--b0--" not in out
        inspector.finish()
    except Refused:
        return
    forwarded = form(*[part for name, part in parts.items() if name != "webhook_url"], ending=ending)
    assert out + inspector.tail in {forwarded, b"--b0--" + ending}


@pytest.mark.parametrize("name", ["file_url", "checkpoint_id"])
@pytest.mark.parametrize(("value", "has_two"), [(b"https://h/", True), (b"", False)])
def test_a_document_that_is_named_beside_the_file_leaves_open_what_is_converted(
    name: str, value: bytes, has_two: bool
) -> None:
    rules = FormRules(checkpoint="checkpoint_id")
    for parts in ((document(), field(name, value)), (field(name, value), document())):
        found, *_ = inspect(form(*parts), rules=rules)
        assert (found.has_two, found.document) == (has_two, None if has_two else found.file)
    assert inspect(form(field(name, value)), rules=rules)[0].document is None
