"""Options that are a JSON object in a field are judged as fields are, in both kinds of forms."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.errors import Refused
from gateway.http import strict_json
from gateway.model.reasons import Reason
from gateway.uploads.form import FormRules
from gateway.uploads.form_options import check_options
from gateway.uploads.multipart.inspector import Inspector
from gateway.uploads.name_patterns import compile_patterns
from gateway.uploads.urlencoded import UrlEncoded
from gateway.uploads.work import MARK, MOST, NAME, RANGE, Work

RULES = FormRules(
    refused=frozenset({"file_url"}),
    checkpoint="checkpoint_id",
    refused_like=compile_patterns(["*_base_url", "processors"]),
    options="config",
    most_pages=50,
)
LISTED = replace(RULES, members=frozenset({"page_range", "use_llm"}))


def reason_of(value: Any, rules: FormRules = RULES) -> Reason:
    with pytest.raises(Refused) as caught:
        check_options(rules, value if isinstance(value, str) else json.dumps(value), Work())
    return caught.value.denial.reason


def test_no_number_of_them_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 of the dearest held everybody for 12 ms, beside the work that a form may make."""
    converted = list[str]()

    def counted(text: str) -> float:
        converted.append(text)
        return 0.0

    monkeypatch.setattr(strict_json, "float", counted, raising=False)
    check_options(RULES, f'{{"a": [{",".join(["3e-316"] * 900)}]}}' + " " * 10_000, Work())
    assert converted == []
    assert reason_of({"page_range": 3e-316}, LISTED) is Reason.BAD_PAGE_RANGE


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "{}",
        '{"ocr_mode": 1, "my_page_range": 2}',
        '{"nested": {"x_base_url": 1}}',
    ],
)
def test_what_is_harmless_passes(value: str | None) -> None:
    check_options(RULES, value, Work())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"ollama_base_url": "http://10.0.0.1"}, Reason.FIELD_REFUSED),
        ({" Ollama_Base_URL ": ""}, Reason.FIELD_REFUSED),
        ({"processors": "os.system"}, Reason.FIELD_REFUSED),
        ({"file_url": "x"}, Reason.FIELD_REFUSED),
        ({"page_range": "0-4"}, Reason.FIELD_REFUSED),
        ({" Page_Range": "0-4"}, Reason.FIELD_REFUSED),
        ({"PdfProvider_page_range": [0]}, Reason.FIELD_REFUSED),
        ({"max_pages": 300}, Reason.FIELD_REFUSED),
        ({"mode": "accurate"}, Reason.FIELD_REFUSED),
        ({"checkpoint_id": "another's"}, Reason.FIELD_REFUSED),
        ({"webhook_url": "http://169.254.169.254/"}, Reason.FIELD_REFUSED),
        ({"webhook_secret": "x"}, Reason.FIELD_REFUSED),
        ({"page_range[]": "0"}, Reason.FIELD_REFUSED),
        ({"page.range": "0"}, Reason.FIELD_REFUSED),
        ({" PdfProvider.page range": "0"}, Reason.FIELD_REFUSED),
        ({f"a{number}": 1 for number in range(257)}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ('{"a": 1, "a": 2}', Reason.UNSUPPORTED_MEDIA_TYPE),
        ("[]", Reason.UNSUPPORTED_MEDIA_TYPE),
        ("{", Reason.UNSUPPORTED_MEDIA_TYPE),
        ('{"a": [' + "[]," * 9000 + "1]}", Reason.UNSUPPORTED_MEDIA_TYPE),
    ],
)
def test_what_is_not_is_refused(value: Any, reason: Reason) -> None:
    assert reason_of(value) is reason


def multipart(*parts: bytes, rules: FormRules = RULES) -> None:
    inspector = Inspector(b"b0", rules)
    inspector.take(field("file", b"%PDF-1.7", b'; filename="x.pdf"') + b"".join(parts) + b"--b0--\r\n")
    inspector.finish()


def urlencoded(rules: FormRules = RULES, **fields: str) -> None:
    body = UrlEncoded(rules)
    body.take(urlencode({"checkpoint_id": "c1", **fields}).encode())
    body.finish()


def field(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--b0\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more, value)


BAD = '{"openai_base_url": "http://10.0.0.1"}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0-9999999999", Reason.BAD_PAGE_RANGE),
        ([0, 1], Reason.BAD_PAGE_RANGE),
        (5, Reason.BAD_PAGE_RANGE),
        ("0-9," * 9 + "0-9", Reason.TOO_MANY_PAGES),
        ("0-99999,0-99999", Reason.BAD_PAGE_RANGE),
    ],
)
def test_a_page_range_that_a_shape_lists_is_bounded(value: Any, reason: Reason) -> None:
    assert reason_of({"page_range": value}, LISTED) is reason
    check_options(LISTED, '{"page_range": "0-4,7", "use_llm": true}', Work())
    check_options(LISTED, '{"page_range": null}', Work())


def test_both_kinds_of_forms_are_judged() -> None:
    refused: list[Callable[[], None]] = [
        lambda: multipart(field("config", BAD.encode())),
        lambda: multipart(field("openai_base_url", b"http://10.0.0.1")),
        lambda: multipart(field("Processors", b"x")),
        lambda: urlencoded(config=BAD),
        lambda: urlencoded(openai_base_url="http://10.0.0.1"),
    ]
    for judged in refused:
        with pytest.raises(Refused) as caught:
            judged()
        assert caught.value.denial.reason is Reason.FIELD_REFUSED
    multipart(field("config", '{"prompt": "\u00e9"}'.encode()), field("openai_base_url", b""))
    urlencoded(config='{"use_llm": true}')


def test_options_come_once_and_have_a_bound() -> None:
    for parts, reason in (
        ((field("config", b"{}"), field("config", b"{}")), Reason.UNSUPPORTED_MEDIA_TYPE),
        ((field("config", b'{"a": "' + b"x" * 70_000 + b'"}'),), Reason.BODY_TOO_LARGE),
    ):
        with pytest.raises(Refused) as caught:
            multipart(*parts)
        assert caught.value.denial.reason is reason


NAMES = ",".join(f'"{number:03}{"_" * 980}":1' for number in range(50))
MARKS = '"a":[' + "1," * 4_000 + "1]"


def test_options_may_be_long() -> None:
    assert max(50_000 * NAME, 4_000 * MARK) < MOST
    for value in (NAMES, MARKS):
        check_options(RULES, f"{{{value}}}", Work())


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (RULES, f"{{{NAMES},{MARKS}}}"),
        (RULES, '{"a":[' + "1e-320," * (MOST // MARK) + "1]}"),
        (LISTED, '{"page_range": "' + " " * (MOST // RANGE) + '1"}'),
        (replace(RULES, refused_like=compile_patterns(f"*_{n}_*" for n in range(9))), f"{{{NAMES}}}"),
    ],
)
def test_what_takes_long_has_one_bound_in_both_kinds_of_forms(rules: FormRules, value: str) -> None:
    """Bounds of each alone would add up."""
    assert reason_of(value, rules) is Reason.UNSUPPORTED_MEDIA_TYPE
    with pytest.raises(Refused, match="takes too long"):
        multipart(field("config", value.encode()), rules=rules)
    with pytest.raises(Refused, match="takes too long"):
        urlencoded(rules, config=value)


@pytest.mark.parametrize(
    ("value", "passes"),
    [({"use_llm": True}, True), ({"Use_LLM": True}, False), ({"PdfProvider_page_range": [0] * 9}, False), ({}, True)],
)
def test_a_shape_may_say_which_members_there_are(value: dict[str, Any], passes: bool) -> None:
    rules = FormRules(options="config", members=frozenset({"use_llm", "page_range"}))
    if passes:
        check_options(rules, json.dumps(value), Work())
        return
    with pytest.raises(Refused) as caught:
        check_options(rules, json.dumps(value), Work())
    assert caught.value.denial.reason is Reason.FIELD_REFUSED


@pytest.mark.parametrize(("kind", "passes"), [("application/json", True), ("text/plain", True), ("text/html", False)])
def test_options_may_say_that_they_are_json(kind: str, passes: bool) -> None:
    part = field("config", b"{}", f"\r\nContent-Type: {kind}".encode())
    if passes:
        multipart(part)
        return
    with pytest.raises(Refused):
        multipart(part)


def test_a_members_name_is_of_a_kilobyte_at_most() -> None:
    """One of 65,000 underscores held everybody for 11 ms: it is matched with patterns."""
    check_options(RULES, json.dumps({"A" + "_" * 1023: 1}), Work())
    assert reason_of({"A" + "_" * 1024: 1}) is Reason.UNSUPPORTED_MEDIA_TYPE
