import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.field_rules import FieldRules, Treatment
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.part_head import PartHead

RULES = FormRules(refused=frozenset({"file_url", "use_llm"}), removed=frozenset({"webhook_url"}))
LIMITED = ["page_range", "max_pages", "mode", "webhook_url"]


def admit(*heads: PartHead, rules: FormRules = RULES) -> Treatment:
    judge = FieldRules(rules)
    treatments = [judge.admit(head) for head in heads]
    return treatments[-1]


def field(name: str, content_type: bytes | None = None) -> PartHead:
    return PartHead(name, has_filename=False, content_type=content_type)


def document(name: str = "file") -> PartHead:
    return PartHead(name, has_filename=True, content_type=b"application/pdf")


def reason_of(*heads: PartHead, rules: FormRules = RULES) -> Reason:
    with pytest.raises(Refused) as caught:
        admit(*heads, rules=rules)
    return caught.value.denial.reason


def test_each_part_has_its_treatment() -> None:
    assert admit(document()) == Treatment("file", is_file=True, forwarded=True, kept=False, most=None)
    assert admit(field("page_schema")) == Treatment(
        "page_schema", is_file=False, forwarded=True, kept=False, most=1_048_576
    )
    assert admit(field("page_range")) == Treatment("page_range", is_file=False, forwarded=True, kept=True, most=4096)
    assert admit(field("webhook_url")) == Treatment(
        "webhook_url", is_file=False, forwarded=False, kept=True, most=4096
    )
    assert admit(field("webhook_url"), rules=FormRules()).forwarded
    assert admit(field("file_url"), rules=FormRules()).kept


@pytest.mark.parametrize(
    "name", ["FILE_URL", " file_url", "file_url[]", "file_url[0]", "[file_url]", "file.url", "file url", "file[url"]
)
def test_a_refused_field_is_named_with_what_would_help(name: str) -> None:
    with pytest.raises(Refused, match=r"file_url .*in the field file\.") as caught:
        admit(field(name))
    assert caught.value.denial.reason is Reason.FIELD_REFUSED


def test_a_refused_field_may_be_there_empty() -> None:
    assert admit(field("use_llm")).refused
    with pytest.raises(Refused, match="use_llm"):
        admit(document("use_llm"))


def test_any_field_can_be_refused() -> None:
    with pytest.raises(Refused, match=r"use_llm .*leave it out"):
        admit(field("use_llm[]"))
    with pytest.raises(Refused, match=r"webhook_url .*poll"):
        admit(
            field("Webhook_Url"),
            rules=FormRules(refused=frozenset({"webhook_url"}), removed=frozenset({"webhook_url"})),
        )


@pytest.mark.parametrize("name", LIMITED)
def test_a_limited_field_comes_once_plain_and_without_a_filename(name: str) -> None:
    assert reason_of(field(name), field("x"), field(name)) is Reason.UNSUPPORTED_MEDIA_TYPE
    assert reason_of(document(name)) is Reason.UNSUPPORTED_MEDIA_TYPE
    for other in (
        b"application/json",
        b"text/html",
        b"text/plain; charset=utf-7",
        b"text/plain; format=flowed",
        b"",
        b"text/plainx",
    ):
        assert reason_of(field(name, other)) is Reason.UNSUPPORTED_MEDIA_TYPE
    for same in (name.upper(), name.title(), f" {name}", f"{name} ", f"{name}[]", f"{name} [0]", f"+{name}"):
        assert reason_of(field(same)) is Reason.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("name", ["page.range", "max pages", "webhook[url", "page\x80range"])
def test_a_limited_field_has_no_spelling_that_php_would_take_for_it(name: str) -> None:
    assert reason_of(field(name)) is Reason.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    "value",
    [
        b"text/plain",
        b"Text/Plain; charset=UTF-8",
        b'text/plain;charset="us-ascii"',
        b"text/plain; charset=ISO-8859-1",
    ],
)
def test_a_limited_field_may_say_that_it_is_plain_text(value: bytes) -> None:
    assert admit(field("page_range", value)).kept


def test_other_fields_may_come_twice_and_say_what_they_are() -> None:
    assert admit(field("x"), field("x", b"application/json")).forwarded
    assert admit(field("X"), field("x[]")).forwarded


def test_there_is_one_document_and_its_name_is_file() -> None:
    for heads in (
        [document(), document()],
        [document("upload")],
        [field("file")],
        [document("File")],
        [field("FILE")],
        [document("file[]")],
    ):
        assert reason_of(*heads) is Reason.UNSUPPORTED_MEDIA_TYPE


def test_the_parts_are_bounded() -> None:
    assert admit(*[field("x")] * 128).forwarded
    assert reason_of(*[field("x")] * 129) is Reason.UNSUPPORTED_MEDIA_TYPE
