"""Which member a text has twice; what read_object refuses, test_jws.py and test_tokens.py tell."""

import json

import pytest

from gateway.http import strict_json
from gateway.http.strict_json import MAX_MARKS, has_too_many_marks, member_twice, read_object, read_texts


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "a": 1}', "a"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "b"),
        ('[[{"": 1, "": 2}]]', ""),
        (r'{"a": 1, "\u0061": 2}', "a"),
        (r'{"\ud800": 1, "\ud800": 2}', "\ud800"),
        ('{"x": NaN, "y": -Infinity, "z": 1e999, "a": 1, "a": 2}', "a"),
        (f'{{"x": 1{"0" * 5000}, "a": 1, "a": 2}}', "a"),
        ('{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]}', None),
        ('{"a": 1, "A": 2, "\u00e9": 3, "e\u0301": 4}', None),
        ("{}", None),
        ('"a"', None),
    ],
)
def test_a_member_that_is_there_twice_is_named(text: str, name: str | None) -> None:
    assert member_twice(text.encode()) == name
    if name is not None:
        assert read_object(text.encode()) is None


@pytest.mark.parametrize("text", [b"", b"\xff", b"{", b'{"a": 1, "a": 2', b"\xef\xbb\xbf{}", b"[" * 100_000])
def test_what_is_no_json_has_no_members(text: bytes) -> None:
    assert member_twice(text) is None


@pytest.mark.parametrize("mark", ['"x"', "1,", "[],", '{"a":1},'])
def test_what_would_take_long_to_read_is_not_read(mark: str) -> None:
    many = f'{{"a": [{",".join([mark.strip(",")] * MAX_MARKS)}]}}'.encode()
    assert json.loads(many)
    assert has_too_many_marks(many)
    assert read_object(many) is None


def test_backslashes_cost_as_much() -> None:
    assert read_object(json.dumps({"a": "\n" * (MAX_MARKS - 10)}).encode()) is not None
    assert read_object(json.dumps({"a": "\n" * MAX_MARKS}).encode()) is None


def test_length_alone_is_no_reason() -> None:
    members = {"text": "x" * 1_000_000, "list": [1] * (MAX_MARKS - 20)}
    assert read_object(json.dumps(members).encode()) == members


@pytest.mark.parametrize("number", ["1" * 65, "1." + "0" * 64, "-0." + "1" * 64, "1e" + "0" * 64])
def test_numbers_of_a_long_text_have_a_bound(number: str) -> None:
    long = " " * MAX_MARKS
    assert read_object(f'{{"a": {number}}}'.encode()) is not None
    most = 64 if number.isdigit() else 25
    assert read_object(f'{{"a": {number[:most]}}}{long}'.encode()) is not None
    assert read_object(f'{{"a": {number[: most + 1]}}}{long}'.encode()) is None
    assert read_object(f'{{"a": {number}}}{long}'.encode()) is None


@pytest.mark.parametrize(("number", "most"), [("8988465674311578540.70000", 4000), ("9" * 64, 1562), ("-1.5", 9990)])
def test_numbers_of_a_long_text_have_a_bound_for_all_of_them(
    number: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 of the costliest doubles held everybody for 15 ms."""
    digits = 0

    def counted(text: str) -> float:
        nonlocal digits
        digits += len(text)
        return 0.0

    monkeypatch.setattr(strict_json, "float", counted, raising=False)
    monkeypatch.setattr(strict_json, "int", counted, raising=False)
    several = json.dumps({"a": [0]}).replace("0", ",".join([number] * min(most, 9990))).encode() + b" " * MAX_MARKS
    assert read_object(several) is not None
    read_object(json.dumps({"a": [0]}).replace("0", ",".join([number] * 9990)).encode())
    assert digits <= 2 * 100_000


DEAR = ["3e-316", "1E5", "8.9884656743115785407e307"]


@pytest.mark.parametrize("number", DEAR)
def test_numbers_with_exponents_are_counted(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 short ones, 64 KB, held everybody for 12 to 39 ms: a double has the price of its value."""
    converted = list[str]()

    def counted(text: str) -> float:
        converted.append(text)
        return 0.0

    monkeypatch.setattr(strict_json, "float", counted, raising=False)

    def of(count: int) -> bytes:
        return b'{"a": [%b]}' % ",".join([number] * count).encode() + b" " * MAX_MARKS

    assert read_object(of(1000)) is not None
    assert read_object(of(1001)) is None
    assert read_object(of(9990)) is None
    assert len(converted) <= 3000


@pytest.mark.parametrize(("count", "is_read"), [(700, True), (1001, False)])
def test_a_text_too_short_for_many_numbers_may_have_them_all(count: int, is_read: bool) -> None:
    text = b'{"a": [%b]}' % b",".join([b"3e-316"] * count)
    assert (read_object(text) is not None) is is_read


@pytest.mark.parametrize("number", [*DEAR, "1" * 5000, "1e999", "7"])
def test_who_needs_no_numbers_has_none_converted(number: str) -> None:
    text = f'{{"a": [{",".join([number] * 9000)}], "b": {number}, "c": null, "d": "x"}}'.encode()
    assert read_texts(text) == {"a": [0] * 9000, "b": 0, "c": None, "d": "x"}


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"a": 1, "a": 1}', b'{"a": NaN}', b"[" * 100_000, b'{"a": -}', b"\xff", b'{"a": 01}']
)
def test_all_else_is_as_it_is_for_others(text: bytes) -> None:
    assert read_texts(text) is None
