import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.compile import compile_shape
from gateway.config.settings.jobs import ShapeSettings
from gateway.http.headers import read_target
from gateway.limits.job_cost import FailedCosts
from gateway.upstream.job_api import (
    DeleteCall,
    Finding,
    JobShape,
    Said,
    checkpoint_of,
    delete_request,
    finding,
    is_id,
    job_id,
    result_target,
    status_target,
    wanted,
)
from tests.support.pure import PROPERTY

DATALAB = compile_shape("default", ShapeSettings())
UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
OSS = JobShape(
    name="oss",
    id_member="file_id",
    id_pattern=UUID,
    check_url_member=None,
    read="/marker/results?file_id={id}",
    status_member="status",
    processing=frozenset({"processing"}),
    complete=frozenset({"done"}),
    failed=frozenset({"failed"}),
    success_member=None,
    pages_member=None,
    checkpoint_field=None,
    checkpoint_member=None,
    delete=DeleteCall("POST", "/marker/clear", {"file_id": "{id}", "of": "{path}"}),
)
SUBMIT, ID = "/api/v1/marker", "0b8c8e5e-7f6a-4b0e-9a55-0d1c2b3a4f5e"


def test_datalabs_shape_is_the_default() -> None:
    expected = JobShape(
        "default", "request_id", None, "request_check_url", "{path}/{id}", "status",
        frozenset({"processing", "pending", "queued"}), frozenset({"complete"}), frozenset({"failed"}),
        "success", "page_count", None,
    )  # fmt: skip
    assert expected == DATALAB


def test_a_job_is_read_where_its_shape_says() -> None:
    assert status_target(DATALAB, SUBMIT, "abc") == "/api/v1/marker/abc"
    assert status_target(OSS, "/marker/inference", ID) == f"/marker/results?file_id={ID}"
    assert status_target(DATALAB, "/{id}", "{path}") == "/{id}/%7Bpath%7D"  # nothing is filled twice


def test_a_job_is_deleted_as_its_shape_says() -> None:
    assert delete_request(DATALAB, SUBMIT, "abc") is None
    plain = replace(DATALAB, delete=DeleteCall("DELETE", "{path}/{id}"))
    assert delete_request(plain, SUBMIT, "a b") == ("DELETE", "/api/v1/marker/a%20b", None)
    deleting = delete_request(OSS, SUBMIT, 'a"b/ä')
    assert deleting is not None
    assert deleting[:2] == ("POST", "/marker/clear")
    assert json.loads(deleting[2] or b"") == {"file_id": 'a"b/ä', "of": SUBMIT}


def test_only_what_a_shape_has_is_asked_for() -> None:
    assert wanted(DATALAB) == ("status", "success", "page_count", "checkpoint_id")
    assert wanted(OSS) == ("status",)


@pytest.mark.parametrize(
    ("found", "checkpoint"),
    [("cp-1", "cp-1"), (7, "7"), (None, None), ("", None), (True, None), (1.5, None), ("a\n", None),
     ("x" * 257, None), (1 << 65, None)],
)  # fmt: skip
def test_a_checkpoint_is_a_short_text_or_number(found: Any, checkpoint: str | None) -> None:
    assert checkpoint_of(DATALAB, {"checkpoint_id": found}) == checkpoint
    assert checkpoint_of(OSS, {"checkpoint_id": found}) is None


PROCESSING = Finding(Said.RUNNING, is_processing=True)
RUNNING, COMPLETE, FAILED = Finding(Said.RUNNING), Finding(Said.COMPLETE), Finding(Said.FAILED)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, RUNNING),
        ({"status": None, "success": False}, RUNNING),
        ({"status": 7}, RUNNING),
        ({"status": "processing", "success": False, "page_count": 3}, PROCESSING),
        ({"status": "Queued"}, PROCESSING),
        ({"status": "complete", "success": True, "page_count": 3}, Finding(Said.COMPLETE, 3)),
        ({"status": "COMPLETE", "page_count": 3}, Finding(Said.COMPLETE, 3)),
        ({"status": "complete", "success": False, "page_count": 3}, Finding(Said.FAILED, 3)),
        ({"status": "complete"}, COMPLETE),
        ({"status": "complete", "success": None, "page_count": 0}, Finding(Said.COMPLETE, 0)),
        ({"status": "complete", "page_count": True}, COMPLETE),
        ({"status": "complete", "page_count": -1}, COMPLETE),
        ({"status": "complete", "page_count": 10_000_000}, Finding(Said.COMPLETE, 10_000_000)),
        ({"status": "complete", "page_count": 10_000_001}, COMPLETE),
        ({"status": "complete", "page_count": "3"}, COMPLETE),
        ({"status": "complete", "page_count": 3.0}, COMPLETE),
        ({"status": "failed"}, FAILED),
        ({"status": "Failed", "success": True}, FAILED),
        ({"status": "New word"}, Finding(Said.RUNNING, unknown="new word")),
        ({"status": "new word", "success": True}, Finding(Said.RUNNING, unknown="new word")),
        ({"status": "new word", "success": False}, Finding(Said.RUNNING, unknown="new word")),
    ],
)
def test_the_words_of_the_shape_end_a_job_and_no_others(values: dict[str, Any], expected: Finding) -> None:
    assert finding(DATALAB, values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"status": "done", "success": False, "page_count": 3}, COMPLETE),
        ({"status": "failed"}, FAILED),
        ({"status": "complete"}, Finding(Said.RUNNING, unknown="complete")),
        ({"status": "processing"}, PROCESSING),
    ],
)
def test_what_a_shape_has_not_is_not_read(values: dict[str, Any], expected: Finding) -> None:
    assert finding(OSS, values) == expected


def test_words_are_compiled_without_their_case() -> None:
    shape = compile_shape("x", ShapeSettings.model_validate({"status": {"complete": ["DONE"], "failed": ["Error"]}}))
    assert finding(shape, {"status": "Done"}).said is Said.COMPLETE
    assert finding(shape, {"status": "ERROR"}).said is Said.FAILED


def test_a_result_is_where_its_status_is_unless_the_shape_says_another_place() -> None:
    assert result_target(DATALAB, SUBMIT, "abc") == status_target(DATALAB, SUBMIT, "abc")
    there = replace(OSS, result="/marker/results?file_id={id}&download=true")
    assert result_target(there, SUBMIT, ID) == f"/marker/results?file_id={ID}&download=true"


@pytest.mark.parametrize(
    ("found", "expected"),
    [("abc", "abc"), (7, "7"), (-7, "-7"), (2**63, str(2**63)), ("a b", "a b"), ("ä", "ä"), ("x" * 256, "x" * 256),
     ("x" * 257, None), ("", None), (".", None), ("..", None), ("...", "..."), ("a\nb", None), ("\0", None),
     ("\ud800", None), (True, None), (None, None), (1.5, None), (["a"], None), (2**64, None)],
)  # fmt: skip
def test_an_id_is_usable_or_there_is_none(found: object, expected: str | None) -> None:
    assert job_id(DATALAB, {"request_id": found, "file_id": "other"}) == expected
    assert job_id(DATALAB, {}) is None


def test_a_number_that_is_too_long_to_write_is_no_id() -> None:
    assert job_id(DATALAB, {"request_id": 10**5000}) is None


def test_an_id_matches_its_pattern_whole() -> None:
    assert job_id(OSS, {"file_id": ID}) == ID
    assert is_id(OSS, ID)
    for wrong in (ID.upper(), ID + "\n", ID + "/..", "../../etc", f"{ID}/../{ID}", "x"):
        assert job_id(OSS, {"file_id": wrong}) is None
        assert not is_id(OSS, wrong)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["complete", "failed"])
)


@PROPERTY
@given(st.text(min_size=1, max_size=260))
def test_whatever_an_id_is_it_stays_one_segment_or_one_value(text: str) -> None:
    found = job_id(DATALAB, {"request_id": text})
    if found is None:
        return
    target = status_target(DATALAB, SUBMIT, found)
    assert target.startswith(SUBMIT + "/")
    segment = target.removeprefix(SUBMIT + "/")
    assert "/" not in segment
    assert "?" not in segment
    assert unquote(segment) == found == text
    query = urlsplit(status_target(OSS, SUBMIT, found)).query
    assert parse_qs(query, keep_blank_values=True) == {"file_id": [found]}
    assert read_target("GET", "/marker/results?" + query) == ("/marker/results", "?" + query)


@PROPERTY
@given(st.dictionaries(st.sampled_from(["status", "success", "page_count"]), scalars))
def test_no_answer_makes_it_stumble(values: dict[str, Any]) -> None:
    found = finding(DATALAB, values)
    assert found.pages is None or 0 <= found.pages <= 10_000_000


@pytest.mark.parametrize(
    ("costs", "meant"),
    [(None, FailedCosts.IF_TAKEN), ("nothing", FailedCosts.NOTHING), ("reserved", FailedCosts.RESERVED)],
)
def test_what_a_failure_costs_is_configured(costs: str | None, meant: FailedCosts) -> None:
    shape = ShapeSettings.model_validate({"failed_costs": costs})
    assert compile_shape("x", shape).failed_costs is meant
