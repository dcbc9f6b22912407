"""Routes, shapes and upstreams together; and that no configuration balances load."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.config.route_consistency import job_disagreements, unread
from gateway.config.settings.fields import ONE_CONTAINER
from gateway.errors import ConfigurationError
from tests.support.pure import document, write

SUBMIT = {"name": "submit", "methods": ["POST"], "path": "/api/{op:a|b}", "kind": "submit"}
RESULT = {"name": "result", "methods": ["GET"], "path": "/api/{op:a|b}/{request_id}", "kind": "result"}
TWO = {"two": {"url": "http://127.0.0.1:8001"}}
OSS = {"shapes": {"oss": {"id": "file_id", "read": "/results?file_id={id}"}}}


def told(*routes: Any, **sections: Any) -> list[str]:
    return [str(fault) for fault in job_disagreements({"routes": list(routes), **sections})]


def told_whole(directory: Path, **sections: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(write(directory, document(directory, **sections)), {})
    return [str(replace(fault, where="", value="")) for fault in caught.value.faults]


def test_nothing_disagrees_where_all_goes_one_way() -> None:
    assert told() == []
    assert list(job_disagreements({})) == []
    assert told(SUBMIT, RESULT) == []
    assert told({**SUBMIT, "upstream": "two"}, {**RESULT, "upstream": "two"}, upstreams=TWO) == []


# One container for each route


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"upstream": {"url": ["http://a", "http://b"]}}, "upstream.url"),
        ({"upstream": {"url": "http://a,http://b"}}, "upstream.url"),
        ({"upstream": {"urls": ["http://a", "http://b"]}}, "upstream"),
        ({"upstream": {"servers": []}}, "upstream"),
        ({"upstream": [{"url": "http://a"}, {"url": "http://b"}]}, "upstream"),
        ({"upstreams": {"two": {"url": ["http://a"]}}}, "upstreams.two.url"),
        ({"upstreams": {"two": {"urls": ["http://a"]}}}, "upstreams.two"),
        ({"upstreams": {"two": [{"url": "http://a"}]}}, "upstreams.two"),
        ({"routes": [{**SUBMIT, "upstream": ["default", "two"]}]}, "routes[0].upstream"),
        ({"routes": [{**SUBMIT, "upstream": "default, two"}]}, "routes[0].upstream"),
        ({"routes": [{**SUBMIT, "upstream": {"default": 1, "two": 2}}]}, "routes[0].upstream"),
    ],
)
def test_several_containers_where_one_is_due_are_refused_with_the_reason(
    tmp_path: Path, sections: dict[str, Any], path: str
) -> None:
    assert told_whole(tmp_path, **sections) == [f"{path}: {ONE_CONTAINER}"]
    assert "licence forbids balancing load" in ONE_CONTAINER


@pytest.mark.parametrize(
    ("other", "balances"),
    [
        ({}, True),
        ({"path": "/{x}"}, True),
        ({"methods": ["GET", "HEAD"]}, True),
        ({"methods": ["POST"]}, False),
        ({"path": "/{x*}"}, False),
        ({"path": "/a"}, False),
        ({"host": "a.test"}, False),
        ({"upstream": "default"}, False),
    ],
)
def test_the_same_requests_go_to_one_container(other: dict[str, Any], balances: bool) -> None:
    first = {"name": "first", "methods": ["GET"], "path": "/{y}"}
    second = {**first, "name": "second", "upstream": "two", **other}
    why = "the container's licence forbids balancing load, and a job lives in the one that made it"
    fault = f"routes[1].upstream: first takes the same requests to default: {why}"
    assert told(first, second, upstreams=TWO) == ([fault] if balances else [])


def test_the_same_host_in_another_case_is_the_same() -> None:
    first = {"name": "first", "methods": ["GET"], "path": "/a", "host": "A.test"}
    assert len(told(first, {**first, "host": "a.TEST", "upstream": "two"}, upstreams=TWO)) == 1


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("http://a.test:8000", "http://A.test:8000/"),
        ("http://a.test", "http://a.test:80"),
        ("https://a.test:443", "https://a.test"),
        (None, "http://127.0.0.1:8000"),
    ],
)
def test_a_container_has_one_name(url: str | None, other: str) -> None:
    upstream = {} if url is None else {"url": url}
    assert told(upstream=upstream, upstreams={"two": {"url": other}}) == [
        "upstreams.two.url: is that of upstream, too: a container has one name, or its jobs have two"
    ]
    assert told(upstreams={"one": {"url": "http://b"}, "two": {"url": "http://b"}}) == [
        "upstreams.two.url: is that of upstreams.one, too: a container has one name, or its jobs have two"
    ]


def test_two_containers_are_two() -> None:
    urls = ("https://a.test:8000", "http://a.test:8001", "http://b.test:8000", "http://[::1]:8000")
    assert told(upstreams={f"u{i}": {"url": url} for i, url in enumerate(urls)}) == []


def test_the_first_container_is_the_section_upstream() -> None:
    assert told(upstreams={"default": {"url": "http://a.test"}}) == [
        "upstreams.default: is the section upstream; what is here needs another name"
    ]


# Where a request names its job


@pytest.mark.parametrize(
    ("route", "faults"),
    [
        ({"path": "/r/{id}"}, ["path: has no segment {request_id} that names the job, and id says no other place"]),
        ({"path": "/r/{request_id*}"},
         ["path: has no segment {request_id} that names the job, and id says no other place"]),
        ({"path": "/r/{id}", "id": {"name": "id"}}, []),
        ({"path": "/r/{file_id}/{rest*}", "id": {"in": "path", "name": "file_id"}, "kind": "asset"}, []),
        ({"path": "/r", "id": {"in": "query"}}, []),
        ({"path": "/r", "id": {"in": "body"}}, ["methods: GET has no body, but id says that the job is named there"]),
        ({"path": "/r", "id": {"in": "body"}, "methods": ["POST"], "kind": "delete"}, []),
        ({"path": "/r", "id": {"in": "query"}, "kind": "plain"},
         ["id: is for routes of kind result, asset and delete"]),
        ({"path": "/r", "id": {"in": "path", "name": "request_id"}, "kind": "plain"}, []),
        ({"path": "/r", "job": "oss", "kind": "plain"},
         ["job: is for routes that have to do with jobs, and plain ones have not"]),
        ({"path": "/r", "job": "default", "kind": "plain"}, []),
        ({"path": "/r", "job": "oss", "kind": "submit", "id": {"name": "x"}},
         ["id: is for routes of kind result, asset and delete"]),
    ],
)  # fmt: skip
def test_a_route_of_jobs_says_where_a_request_names_one(route: dict[str, Any], faults: list[str]) -> None:
    assert told({**RESULT, **route}, jobs=OSS) == [f"routes[0].{fault}" for fault in faults]


@pytest.mark.parametrize(
    ("kind", "methods", "does"),
    [("submit", ["POST", "HEAD"], "start"), ("delete", ["HEAD"], "end"), ("result", ["GET", "HEAD"], None),
     ("asset", ["HEAD"], None), ("plain", ["HEAD"], None), ("submit", ["POST"], None), ("delete", ["DELETE"], None)],
)  # fmt: skip
def test_a_head_starts_and_ends_no_job(kind: str, methods: list[str], does: str | None) -> None:
    expected = [f"routes[0].methods: HEAD is safe (RFC 9110 9.2.1), but here it would {does} a job"] if does else []
    assert told({**RESULT, "kind": kind, "methods": methods}) == expected


# Where jobs are read


def test_a_job_is_read_from_the_container_that_made_it() -> None:
    there = {**RESULT, "upstream": "two"}
    fault = "routes[1].upstream: is two, but jobs of submit are read there, and live in default"
    assert told(SUBMIT, there, upstreams=TWO) == [fault]
    assert told({**SUBMIT, "upstream": "two"}, RESULT, upstreams=TWO) == [
        "routes[1].upstream: is default, but jobs of submit are read there, and live in two"
    ]


def test_containers_beside_each_other_have_paths_or_hosts_of_their_own() -> None:
    chandra = {"upstream": "two", "path": "/api/c"}
    routes = [SUBMIT, RESULT, {**SUBMIT, "name": "c", **chandra}]
    reading = {**RESULT, "name": "cr", **chandra, "path": "/api/c/{request_id}"}
    assert told(*routes, reading, upstreams=TWO) == []
    staging = {"host": "staging.test", "upstream": "two"}
    pair = [{**SUBMIT, "name": "s2", **staging}, {**RESULT, "name": "r2", **staging}]
    assert told(*pair, SUBMIT, RESULT, upstreams=TWO) == []
    assert told(SUBMIT, RESULT, pair[0], upstreams=TWO) == [
        "routes[1].upstream: is default, but jobs of s2 are read there, and live in two"
    ]


def test_each_choice_of_a_path_is_looked_at() -> None:
    only_b = {**RESULT, "name": "rb", "path": "/api/b/{request_id}", "upstream": "two"}
    assert told(SUBMIT, only_b, RESULT, upstreams=TWO) == [
        "routes[1].upstream: is two, but jobs of submit are read there, and live in default"
    ]


def test_what_reads_jobs_may_not_be_plain() -> None:
    """It would show everybody's jobs to everybody."""
    plain = {"name": "open", "methods": ["GET"], "path": "/api/{rest*}"}
    fault = "routes[0].kind: is plain, but jobs of submit are read there: it must be result"
    assert told(plain, SUBMIT, RESULT) == [fault]
    assert told({**plain, "methods": ["POST"]}, SUBMIT, RESULT) == []
    assert told(SUBMIT, RESULT, plain) == []


def test_a_job_is_read_as_what_it_is() -> None:
    reading = {**RESULT, "path": "/results", "id": {"in": "query", "name": "file_id"}}
    assert told({**SUBMIT, "job": "oss"}, {**reading, "job": "oss"}, jobs=OSS) == []
    assert told({**SUBMIT, "job": "oss"}, reading, jobs=OSS) == [
        "routes[1].job: is default, but jobs of submit, read there, are oss"
    ]


def test_a_result_that_is_deleted_once_it_is_read_can_be_read() -> None:
    named = {"in": "query", "name": "file_id"}
    reading = {**RESULT, "path": "/results", "job": "oss", "id": named}
    routes = {**SUBMIT, "job": "oss"}, reading
    there, elsewhere = (
        {"oss": {**OSS["shapes"]["oss"], "result": f"/{name}?id={{id}}"}} for name in ("results", "x")
    )
    assert told(*routes, jobs={"shapes": there, "delete_after_read": True}) == []
    assert told(*routes, jobs={"shapes": elsewhere}) == []
    (fault,) = told(*routes, jobs={"shapes": elsewhere, "delete_after_read": True})
    assert fault.startswith("jobs.shapes.oss.result: is served by no route of kind result")


@pytest.mark.parametrize("kind", ["asset", "delete"])
def test_what_belongs_to_a_job_goes_where_its_kind_is_made(kind: str) -> None:
    other = {"name": "other", "methods": ["POST"], "path": "/x/{request_id}", "kind": kind, "upstream": "two"}
    assert told(SUBMIT, RESULT, other, upstreams=TWO) == [
        "routes[2].upstream: is two, but its jobs are made by default and live there"
    ]
    assert told(other, upstreams=TWO) == []  # its submits may be another gateway's


def test_a_submit_may_take_what_another_is_read_at() -> None:
    assert told(SUBMIT, {**SUBMIT, "name": "any", "methods": ["GET"], "path": "/api/{x}/{y}"}) == []


def test_paths_without_end_are_looked_at_for_a_while() -> None:
    path = "/" + "/".join("{" + name + ":a|b|c|d}" for name in "abcdefghij")
    assert told({**SUBMIT, "path": path}, {**RESULT, "path": path + "/{request_id}"}) == []


def test_jobs_that_nobody_can_read_are_told() -> None:
    assert list(unread({"routes": [SUBMIT, RESULT]})) == []
    assert list(unread({"routes": [RESULT, SUBMIT | {"path": "/s"}]})) == [("routes[1]", "submit", "/s/x")]
    hosted = {**RESULT, "host": "a.test"}
    assert [place for place, _, _ in unread({"routes": [SUBMIT, hosted]})] == ["routes[0]"]


@pytest.mark.parametrize(
    "wrong", [None, 3, "text", [], ["text"], [[]], {}, {"x": None}, {"x": 3}, {3: {"x": []}}, [{}], "http://[", "/{"]
)
def test_what_has_the_wrong_shape_is_left_to_others(wrong: Any) -> None:
    for name in ("routes", "upstream", "upstreams", "jobs"):
        told(**{name: wrong}) if name != "routes" else list(job_disagreements({"routes": wrong}))
    told(SUBMIT, jobs={"shapes": wrong})
    told(SUBMIT, jobs={"shapes": {"default": wrong}})
    told(SUBMIT, jobs={"shapes": {"default": {"read": wrong}}})
    told(upstream={"url": wrong}, upstreams={"two": {"url": wrong}})
    for name in ("name", "path", "methods", "kind", "upstream", "job", "host", "id"):
        told(SUBMIT, {**RESULT, name: wrong})
        told({**SUBMIT, name: wrong}, RESULT)
        told({**RESULT, "id": {"in": wrong, "name": wrong}})
        list(unread({"routes": [{**SUBMIT, name: wrong}]}))
