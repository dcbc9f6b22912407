"""What becomes of a form whose rules have changed while it came."""

from collections.abc import Callable

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.form import Form, FormRules, GivenNames
from gateway.uploads.judged_again import judge_again
from gateway.uploads.multipart.inspector import Inspector
from gateway.uploads.name_patterns import compile_patterns
from gateway.uploads.urlencoded import UrlEncoded

BEFORE = FormRules(removed=frozenset({"webhook_url"}), options="config")
FIELDS = {"mode": "fast", "file_url": "http://h/x", "empty": "", "webhook_url": "http://h/", "config": '{"a_x": 1}'}
Read = Callable[[FormRules, dict[str, str]], Form]


def by_parts(rules: FormRules, fields: dict[str, str]) -> Form:
    inspector = Inspector(b"b0", rules)
    for name, value in fields.items():
        inspector.take(f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    inspector.take(b"--b0--\r\n")
    return inspector.finish()


def url_encoded(rules: FormRules, fields: dict[str, str]) -> Form:
    body = UrlEncoded(rules)
    coded = {"{": "%7B", "}": "%7D", '"': "%22", " ": "+", ":": "%3A", "/": "%2F"}
    body.take("&".join(f"{n}={''.join(coded.get(one, one) for one in v)}" for n, v in fields.items()).encode())
    return body.finish()


READERS = pytest.mark.parametrize("read", [by_parts, url_encoded])


def is_let_in(form: Form, rules: FormRules) -> bool:
    try:
        judge_again(form, rules)
    except Refused as refused:
        return refused.denial.reason is not Reason.FIELD_REFUSED
    return True


@READERS
@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (BEFORE, True),
        (FormRules(refused=frozenset({"other", "empty"}), options="config"), True),
        (FormRules(refused=frozenset({"file_url"}), options="config"), False),
        (FormRules(refused_like=compile_patterns(["file*"]), options="config"), False),
        (FormRules(refused=frozenset({"webhook_url"}), options="config"), True),  # it did not go upstream
        (FormRules(refused=frozenset({"a_x"}), options="config"), False),
        (FormRules(refused_like=compile_patterns(["*_x"]), options="config"), False),
        (FormRules(members=frozenset({"b"}), options="config"), False),
        (FormRules(members=frozenset({"a_x"}), options="config"), True),
    ],
)
def test_it_is_judged_by_what_is_in_force(read: Read, rules: FormRules, expected: bool) -> None:
    assert is_let_in(read(BEFORE, FIELDS), rules) is expected


@READERS
def test_a_name_that_was_too_long_to_keep_may_be_a_refused_one(read: Read) -> None:
    fields = {"file_url": "http://h/x", "x" * 65: "y"}
    form = read(BEFORE, fields)
    assert form.given == GivenNames({"file_url"}, has_long=True)
    assert not is_let_in(form, FormRules())
    assert is_let_in(read(BEFORE, {"file_url": "http://h/x", "x" * 64: "y"}), FormRules())
