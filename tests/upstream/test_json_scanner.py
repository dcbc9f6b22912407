import json
import time
import tracemalloc
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.reading import nested, ocr_result
from gateway.upstream import json_depth
from gateway.upstream.json_depth import JsonDepth
from gateway.upstream.json_scanner import JsonScanner
from tests.support.pure import PROPERTY

WANTED = ("status", "success", "page_count", "")
MAX_LENGTH = 1024

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text('"\\/{}[]:,u0 \n', max_size=12)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
keys = st.sampled_from(WANTED) | texts
members = st.lists(st.tuples(keys, values), max_size=8)
spaces = st.sampled_from(["", " ", "\n", "\t\r\n "])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """An object as text: with members that repeat, any space, escapes or none."""
    ascii_only = draw(st.booleans())

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only)

    parts = [
        f"{draw(spaces)}{dump(key)}{draw(spaces)}:{draw(spaces)}{dump(value)}{draw(spaces)}"
        for key, value in draw(members)
    ]
    return f"{draw(spaces)}{{{draw(spaces)}{','.join(parts)}}}{draw(spaces)}".encode()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def read(*data: bytes) -> JsonScanner:
    reader = JsonScanner(WANTED)
    for piece in data:
        reader.take(piece)
    return reader


def expected(document: bytes) -> dict[str, Any]:
    top = json.loads(document)
    return {name: top[name] for name in WANTED if name in top and not isinstance(top[name], dict | list)}


@PROPERTY
@given(documents(), st.lists(st.integers(0, 10_000), max_size=12))
@example(b'{"status": "a\\\\", "success": true}', [14])
@example(b'{"status": "a\\"b", "success": true}', [14])
def test_reads_what_json_reads_wherever_it_is_cut(document: bytes, cuts: list[int]) -> None:
    reader = read(*pieces(document, cuts))
    assert reader.is_whole
    assert reader.values == expected(document)
    byte_by_byte = read(*(document[place : place + 1] for place in range(len(document))))
    assert (byte_by_byte.values, byte_by_byte.is_whole) == (reader.values, True)


@PROPERTY
@given(documents(), st.data())
def test_a_part_of_it_is_not_whole(document: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(document.rstrip()) - 1))
    assert not read(document[:end]).is_whole


hostile = st.lists(st.sampled_from([*b'{}[]":,\\ntu01e ', 0xFF]), max_size=60).map(bytes) | st.binary(max_size=60)


@PROPERTY
@given(hostile, st.lists(st.integers(0, 100), max_size=5))
def test_any_bytes_are_taken_alike_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    one, many = read(data), read(*pieces(data, cuts))
    assert (one.is_whole, one.broken) == (many.is_whole, many.broken)
    if one.is_whole:
        assert one.values == many.values


@PROPERTY
@given(hostile)
def test_what_json_reads_is_whole_and_what_is_told_of_it_is_right(data: bytes) -> None:
    try:
        top = json.loads(data)
    except ValueError:
        return
    if isinstance(top, dict):
        assert read(data).is_whole
    else:
        assert not read(data).is_whole


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"[]", b'"x"', b"1", b"}", b"]", b"{", b"{{", b'{"a"', b'{"a":', b'{"status":"x"', b"x{}", b"[{}]",
        b"{}{}", b"{}x", b'{}"', b"{}}", b"{},", b"{}" + b" " * 5000 + b"x", b"\xef\xbb\xbf{}", b'{"a":1:2}',
        b'{"a":1,b:2}', b"{" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_object_or_no_whole_one_tells_nothing(data: bytes) -> None:
    assert not read(data).is_whole
    assert not read(*(data[place : place + 1] for place in range(len(data)))).is_whole


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (b'{"status": "a", "status": "b"}', {"status": "b"}),
        (b'{"status": "a", "status": {"x": 1}}', {}),
        (b'{"status": {"x": 1}, "status": "a"}', {"status": "a"}),
        (b'{"a": {"status": "no"}, "b": [{"status": "no"}], "success": true}', {"success": True}),
        (b'{"st\\u0061tus": "\\u00e4\\ud83d\\ude00"}', {"status": "\u00e4\U0001f600"}),
        (b'{"status": "\\ud800"}', {}),
        (b'{"page_count": 12, "success": null}', {"page_count": 12, "success": None}),
        (b'{"page_count": -0.5e1}', {"page_count": -5.0}),
        (b'{"page_count": 01}', {}),
        (b'{"page_count": 1 2}', {}),
        (b'{"page_count": [1] 2}', {}),
        (b'{"page_count": 1, "page_count": 2 3}', {}),
        (b'{"status": "\xff"}', {}),
        (b'{"": "empty"}', {"": "empty"}),
        (b'{"status": "' + b"x" * (MAX_LENGTH - 3) + b'"}', {"status": "x" * (MAX_LENGTH - 3)}),
        (b'{"status": "' + b"x" * (MAX_LENGTH - 1) + b'"}', {}),
        (b'{"' + b"k" * 5000 + b'": 1, "success": false}', {"success": False}),
        (b'{"markdown": "\\"status\\": \\"no\\"", "success": true}', {"success": True}),
    ],
)
def test_the_last_scalar_at_the_top_counts(document: bytes, values: dict[str, Any]) -> None:
    assert read(document).values == values
    assert read(*(document[place : place + 1] for place in range(len(document)))).values == values


HOSTILE = {
    "flat arrays": b'{"a":[' + b"[1]," * 50_000,
    "arrays": b'{"a":[' + b"[[]]," * 40_000,
    "containers without commas": b'{"a":' + b"[]" * 100_000,
    "strings without commas": b'{"a":' + b'""' * 100_000,
    "keys": b"{" + b'"k":1,' * 32_000,
    "one key": b'{"' + b"k" * 200_000,
    "backslashes": b'{"a":"' + b"\\" * 200_000,
    "quotes": b'{"a":"' + b'\\"' * 100_000,
    "quotes below": b'{"a":["' + b'\\"' * 100_000,
    "space": b" " * 200_000,
    "digits": b'{"page_count":' + b"1" * 200_000,
    "commas": b"{" + b"," * 200_000,
    "colons below": b'{"a":[' + b":" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [4096, 65_536])
def test_what_is_remembered_is_bounded(name: str, size: int) -> None:
    data = HOSTILE[name]
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    reader = JsonScanner(WANTED)
    tracemalloc.start()
    try:
        for chunk in chunks:
            reader.take(chunk)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20_000
    assert peak < 4 * size + 700_000


@pytest.mark.parametrize("text", ["plain words ", "lines\n", 'class="x" '], ids=["plain", "lines", "quotes"])
def test_a_long_string_is_passed_in_a_few_steps_for_each_chunk(text: str) -> None:
    steps = 0

    class Searched(bytes):
        """Counts how often a string's end is looked for in it."""

        def find(self, *what: Any) -> int:
            nonlocal steps
            steps += 1
            return super().find(*what)

    document = json.dumps({"markdown": text * (5_000_000 // len(text)), "status": "complete"}).encode()
    chunks = [Searched(document[start : start + 65_536]) for start in range(0, len(document), 65_536)]
    assert read(*chunks).values == {"status": "complete"}
    assert len(chunks) <= steps <= len(chunks) + 6


OCR_LINE = {
    "polygon": [[102.5, 233.25], [841.0, 233.25], [841.0, 262.75], [102.5, 262.75]],
    "confidence": 0.9912,
    "text": "a line } of [ text",
    "chars": [{"text": "x", "bbox": [102.5, 233.25, 841.0, 262.75], "bbox_valid": True}] * 60,
}


def test_a_result_of_millions_of_marks_is_read_to_its_end() -> None:
    """Surya's: each letter has its place. More than a million marks were once too many, and it never ended."""
    page = json.dumps({"text_lines": [OCR_LINE] * 45, "page": 1}).encode()
    reader = JsonScanner(WANTED)
    reader.take(b'{"status": "complete", "pages": [')
    for number in range(80):
        reader.take(b"," * bool(number) + page)
    reader.take(b'], "success": true, "page_count": 80}')
    assert 80 * page.count(b'"') > 1_000_000
    assert reader.is_whole
    assert reader.values == {"status": "complete", "success": True, "page_count": 80}


COSTLY = {
    "ocr": json.dumps([OCR_LINE]).encode() + b",",
    "arrays": b"[],",
    "deep": b"[" * 64 + b"]" * 64 + b",",
    "strings": b'"",',
    "brackets in strings": b'"[","]",',
    "escapes": b'"\\",""",',
    "backslashes": b'"' + b"\\" * 50 + b'",',
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_a_byte_costs_does_not_depend_on_what_it_is(name: str) -> None:
    """Some milliseconds a megabyte; a step for each mark takes half a second. The bound is for a busy machine."""
    repeated = COSTLY[name]
    data = b'{"a":[' + repeated * (1_000_000 // len(repeated))
    reader = JsonScanner(WANTED)
    began = time.process_time()
    for start in range(0, len(data), 65_536):
        reader.take(data[start : start + 65_536])
    assert time.process_time() - began < 0.15
    assert not reader.broken
    reader.take(b'0], "status": "complete"}')
    assert reader.is_whole
    assert reader.values == {"status": "complete"}


def cpu_of(data: bytes) -> float:
    reader = JsonScanner(WANTED)
    began = time.process_time()
    for start in range(0, len(data), 65_536):
        reader.take(data[start : start + 65_536])
    took = time.process_time() - began
    assert reader.values["status"] == "complete"
    return took / len(data)


def test_no_nesting_costs_many_times_what_a_result_does() -> None:
    """Brackets at random were seventeen times as dear, 50 ms a megabyte. Each is the best of some runs."""
    result, random_ones = ocr_result(2), nested(500_000)
    deep = b'{"a":[' + COSTLY["deep"] * 4000 + b'0],"status":"complete"}'
    costs = [(cpu_of(result), cpu_of(random_ones), cpu_of(deep)) for _ in range(9)]
    usual, *hostile = (min(column) for column in zip(*costs, strict=True))
    assert max(hostile) < 9 * usual


@pytest.mark.parametrize("member", [b'"a":1,', b'"a":[],', b",", b'"a":"x",'])
def test_more_members_than_any_answer_has_are_not_read(member: bytes) -> None:
    """Each of them costs some microseconds, and they come in one piece."""
    assert not read(b"{" + member * 100 + b'"z":1').broken
    assert read(b"{" + member * 3000).broken


@pytest.mark.parametrize("container", [b"{}", b"[]", b'"a":{},'])
def test_short_containers_at_the_top_count_as_what_they_cost(container: bytes) -> None:
    with patch("gateway.upstream.json_scanner.JsonDepth", side_effect=JsonDepth) as opened:
        assert read(b"{" + container * 3000).broken
    assert opened.call_count <= 200


@pytest.mark.parametrize("size", [66, 580, 1200, 4700, 5000, 9000, 37_500, 70_000])
@pytest.mark.parametrize("inner", [b"[" * 20 + b"]" * 20, b'"["', b"[],"], ids=["deep", "strings", "flat"])
def test_a_container_costs_what_it_is_long(size: int, inner: bytes) -> None:
    """Pieces that grew eightfold from 64 bytes on: one of 5000 bytes cost as much as 64 KB, and there may be 181."""
    member = b',"a":[' + inner * (size // len(inner)) + b"]"
    data = b'{"a":0' + member * 120
    passed = 0

    def counted(piece: bytes, in_string: bool, depth: int) -> Any:
        nonlocal passed
        passed += len(piece)
        return pass_piece(piece, in_string, depth)

    pass_piece = json_depth.passed_over
    with patch("gateway.upstream.json_depth.passed_over", counted):
        scanner = read(*(data[start : start + 262_144] for start in range(0, len(data), 262_144)), b"}")
    assert scanner.is_whole
    assert passed <= 3 * len(data) + 120 * 256
