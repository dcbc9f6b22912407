"""Which job a request names: one, in the one place that its route reads, or none."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authorize.job_id import job_id_of, names_in_query, refuse_in_query
from gateway.config.compile import compile_settings
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.reasons import Reason
from tests.support.pure import PROPERTY, denial_of, make_settings

ROUTES = [
    {"name": "poll", "methods": ["GET"], "path": "/jobs/{request_id}", "kind": "result"},
    {"name": "of-query", "methods": ["GET"], "path": "/of", "kind": "result", "id": {"in": "query", "name": "id"}},
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return compile_settings(make_settings(tmp_path_factory.mktemp("job-id"), routes=ROUTES))


def named(state: State, path: str, query: str = "") -> str | Reason:
    try:
        return job_id_of(state, state.routes.match("GET", path, "g"), path, query)
    except Refused as refused:
        return refused.denial.reason


@pytest.mark.parametrize(
    ("segment", "found"),
    [
        ("job-1", "job-1"),
        ("job%2D1", "job-1"),
        ("%6aob-1", "job-1"),
        ("a+b", "a+b"),
        ("%C3%A9", "\u00e9"),
        ("%FF", Reason.JOB_NOT_FOUND),
        ("%2e%2e", Reason.JOB_NOT_FOUND),
        ("a%2Fb", Reason.JOB_NOT_FOUND),
        ("a%5Cb", Reason.JOB_NOT_FOUND),
        ("a%3Bb", Reason.JOB_NOT_FOUND),
        ("a%2541", Reason.JOB_NOT_FOUND),
        ("a%0Ab", Reason.JOB_NOT_FOUND),
        ("x" * 256, "x" * 256),
        ("x" * 257, Reason.JOB_NOT_FOUND),
    ],
)
def test_an_id_in_the_path_is_decoded_once_and_is_one_segment(
    state: State, segment: str, found: str | Reason
) -> None:
    assert named(state, f"/jobs/{segment}") == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?id=job-1", "job-1"),
        ("?a=b&id=job%2d1&c", "job-1"),
        ("?%69d=job-1", "job-1"),
        ("?id=a+b", "a b"),
        ("", Reason.JOB_NOT_FOUND),
        ("?", Reason.JOB_NOT_FOUND),
        ("?id", Reason.JOB_NOT_FOUND),
        ("?id=", Reason.JOB_NOT_FOUND),
        ("?other=job-1", Reason.JOB_NOT_FOUND),
        ("?id=%FF", Reason.JOB_NOT_FOUND),
        ("?id=..", Reason.JOB_NOT_FOUND),
        ("?id=a%2Fb", Reason.JOB_NOT_FOUND),
        ("?id=job-1&id=job-2", Reason.BAD_REQUEST),
        ("?id=job-1&id=job-1", Reason.BAD_REQUEST),
        ("?id=job-1&ID=job-2", Reason.BAD_REQUEST),
        ("?ID=job-2", Reason.BAD_REQUEST),
        ("?id[]=job-2", Reason.BAD_REQUEST),
        ("?id=job-1;id=job-2", Reason.BAD_REQUEST),
        ("?id=job-1?id=job-2", Reason.BAD_REQUEST),
    ],
)
def test_an_id_in_the_query_stands_there_once_in_one_spelling(state: State, query: str, found: str | Reason) -> None:
    assert named(state, "/of", query) == found


@PROPERTY
@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\%;"), min_size=1, max_size=60))
def test_what_a_client_encodes_is_the_id_that_it_means(state: State, meant: str) -> None:
    if meant not in {".", ".."}:
        assert named(state, f"/jobs/{quote(meant, safe='')}") == meant
        assert named(state, "/of", f"?id={quote(meant, safe='')}") == meant


@pytest.mark.parametrize("query", ["?request_id=j", "?a&REQUEST_ID=j", "?a;request%5Fid=j", "?a?request.id=j"])
def test_a_query_may_not_name_the_job_that_stands_elsewhere(query: str) -> None:
    assert denial_of(refuse_in_query, "request_id", query).reason is Reason.BAD_REQUEST
    refuse_in_query("job", query)


def test_of_a_query_at_most_fifty_parameters_are_looked_at() -> None:
    assert names_in_query("?" + "&".join(["a"] * 50)) == ["a"] * 50
    for separator in "&;?":
        assert denial_of(names_in_query, "?" + separator.join(["a"] * 51)).reason is Reason.BAD_REQUEST


def test_an_id_behind_the_fiftieth_parameter_is_no_job(state: State) -> None:
    assert named(state, "/of", "?" + "a&" * 49 + "id=job-1") == "job-1"
    assert named(state, "/of", "?" + "a&" * 50 + "id=job-1") == Reason.JOB_NOT_FOUND


def test_names_of_parameters_are_decoded_however_they_are_separated() -> None:
    assert names_in_query("?a=1&b%20c;d+e?f") == ["a", "b c", "d e", "f"]
