from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.load import load
from gateway.config.settings.jobs import DeleteSettings, Jobs, ShapeSettings
from gateway.errors import ConfigurationError
from tests.support.pure import document, make_settings, write


def told(directory: Path, **sections: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(write(directory, document(directory, **sections)), {})
    return [str(replace(fault, where="", value="")) for fault in caught.value.faults]


def told_of_shape(directory: Path, **shape: Any) -> list[str]:
    return [fault.removeprefix("jobs.shapes.x.") for fault in told(directory, jobs={"shapes": {"x": shape}})]


def test_the_defaults_are_those_of_the_design() -> None:
    jobs = Jobs()
    assert (jobs.result_ttl, jobs.watch, jobs.hold, jobs.hold_limit) == (3600, True, 0, 60)
    assert (jobs.delete_after_read, jobs.give_up_after, jobs.records_kept) == (False, 86400, 90 * 86400)
    assert jobs.most_status_requests == 32


def test_datalabs_shape_is_always_there(tmp_path: Path) -> None:
    shapes = make_settings(tmp_path, jobs={"shapes": {"x": {"id": "file_id"}}}).jobs.shapes
    assert (shapes["default"], shapes["x"].id) == (ShapeSettings(), "file_id")
    own = make_settings(tmp_path, jobs={"shapes": {"default": {"pages": None}}}).jobs.shapes
    assert own == {"default": ShapeSettings(pages=None)}


@pytest.mark.parametrize(
    "read",
    ["{path}/{id}", "/r/{id}", "{path}?id={id}", "/marker/results?file_id={id}&x=/?y", "{path}{id}", "{path}/{id}/a"],
)
def test_a_job_is_read_where_a_template_says(read: str) -> None:
    assert ShapeSettings(read=read).read == read
    assert DeleteSettings(path=read).path == read


NO_TARGET = "is not a target, such as {path}/{id} or /results?id={id}"
NOWHERE_ELSE = "is not a target: it begins with {path} or /, and {path} stands nowhere else"


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("", NOWHERE_ELSE),
        ("{id}", NOWHERE_ELSE),
        ("http://h/{id}", NOWHERE_ELSE),
        ("/a{path}/{id}", NOWHERE_ELSE),
        ("{path}{path}/{id}", NOWHERE_ELSE),
        ("/{id}//", NO_TARGET),
        ("/a b/{id}", NO_TARGET),
        ("/a#{id}", NO_TARGET),
        ("/a\r\n/{id}", NO_TARGET),
        ("/a/../{id}", NO_TARGET),
        ("{path}/./{id}", NO_TARGET),
        ("/ä/{id}", NO_TARGET),
        ("/{id", NO_TARGET),
        ("{path}/}{id}", NO_TARGET),
        ("/{name}/{id}", "has {name}; there are {path}, the submit's path, and {id}, the job's id"),
        ("/{}/{id}", "has {}; there are {path}, the submit's path, and {id}, the job's id"),
        ("{path}/x", "has no {id}, so that all jobs would be read as one"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path: Path, read: str, message: str) -> None:
    assert told_of_shape(tmp_path, read=read) == [f"read: {message}"]


def test_a_deletion_names_its_job_in_its_path_or_its_body(tmp_path: Path) -> None:
    assert DeleteSettings(path="/clear", body={"a": "b", "id": "{id}"}).method == "DELETE"
    missing = "delete: has {id} neither in its path nor in its body: which job is it to delete?"
    assert told_of_shape(tmp_path, delete={"path": "/clear"}) == [missing]
    assert told_of_shape(tmp_path, delete={"path": "/clear", "body": {"a": "b"}}) == [missing]
    assert told_of_shape(tmp_path, delete={"method": "GET"}) == ["delete.method: must be DELETE, POST, PUT or PATCH"]


@pytest.mark.parametrize(
    ("status", "faults"),
    [
        ({"complete": ["queued"]}, ["complete: queued is in processing, too: a word means one thing"]),
        ({"failed": ["complete"]}, ["failed: complete is in complete, too: a word means one thing"]),
        ({"failed": ["a", "processing"]}, ["failed: processing is in processing, too: a word means one thing"]),
        ({"complete": []}, ["complete: must not be empty"]),
        ({"member": ""}, ["member: must not be empty"]),
        ({"processing": [""]}, ["processing[0]: must not be empty"]),
        ({"words": []}, ["words: there is no such setting"]),
    ],
)
def test_a_word_means_one_thing(tmp_path: Path, status: dict[str, Any], faults: list[str]) -> None:
    assert [fault.partition("; did")[0] for fault in told_of_shape(tmp_path, status=status)] == [
        f"status.{fault}" for fault in faults
    ]


def test_lists_of_words_may_be_empty_but_for_the_good_end() -> None:
    shape = ShapeSettings.model_validate({"status": {"processing": [], "failed": []}})
    assert (shape.status.processing, shape.status.complete) == ([], ["complete"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is not a regular expression: missing ), unterminated subpattern at position 0"),
     ("a" * 1001, "is longer than 1000 characters")],
)  # fmt: skip
def test_a_pattern_that_can_not_be_read_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    assert told_of_shape(tmp_path, id_pattern=pattern) == [f"id_pattern: {message}"]


@pytest.mark.parametrize(
    ("jobs", "faults"),
    [
        ({"hold": "61s"}, ["hold_limit: is less than jobs.hold"]),
        ({"hold": "10s", "hold_limit": "10s"}, []),
        ({"result_ttl": "91d"}, ["records_kept: is less than jobs.result_ttl"]),
        ({"result_ttl": "0s"}, ["result_ttl: must be more than zero"]),
        ({"most_status_requests": 0}, ["most_status_requests: must be at least 1"]),
        ({"shapes": {"A b": {}}}, ["shapes.A b: must match ^[a-z0-9_-]{1,63}$"]),
    ],
)
def test_times_that_contradict_each_other_are_refused(
    tmp_path: Path, jobs: dict[str, Any], faults: list[str]
) -> None:
    if faults:
        assert told(tmp_path, jobs=jobs) == [f"jobs.{fault}" for fault in faults]
    else:
        make_settings(tmp_path, jobs=jobs)


def test_a_result_that_is_deleted_once_it_is_read_is_known() -> None:
    shape = {"read": "/results?id={id}"}
    sections = {"delete_after_read": True, "shapes": {"x": shape}}
    with pytest.raises(ValidationError, match="x does not say which request gives the result"):
        Jobs.model_validate(sections)
    for known in ({**shape, "result": "/results?id={id}&download=true"}, {}):
        assert Jobs.model_validate({**sections, "shapes": {"x": known}}).delete_after_read
