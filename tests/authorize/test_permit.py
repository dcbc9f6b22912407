"""permit.py: what a query may not say beside a form, or beside a path that names the job."""

from pathlib import Path

import pytest

from gateway.authorize.permit import make_permit
from gateway.config.compile import compile_settings
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.reasons import Reason
from tests.support.pure import ip, make_settings

CLIENT = ip("10.0.0.1")
SUBMIT, RESULT = ("POST", "/api/v1/marker"), ("GET", "/api/v1/marker/j1")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return compile_settings(make_settings(tmp_path))


def reason_of(state: State, request: tuple[str, str], query: str) -> Reason | None:
    method, path = request
    try:
        make_permit(state, state.routes.match(method, path, "g"), path, query, CLIENT, None)
    except Refused as refused:
        return refused.denial.reason
    return None


@pytest.mark.parametrize(
    "query",
    [
        "?page_range=0", "?a=1&Page_Range=0", "?max%5Fpages=1", "?mode=fast", "?webhook_url=x", "?webhook_secret=x",
        "?file_url=x", "?checkpoint_id=c", "?llm_service=x", "?a;max_pages=1", "?page_range%5B%5D=1",
        "?+page_range=1", "?page.range=1", "?page+range=1", "?page_range%00=1", "?page[range=1",
        "?additional_config=x", "?" + "a=1&" * 60, "?" + "a=1?" * 60,
    ],
)  # fmt: skip
def test_what_a_form_is_judged_by_stands_in_no_query(state: State, query: str) -> None:
    assert reason_of(state, SUBMIT, query) is Reason.BAD_REQUEST


@pytest.mark.parametrize("query", ["", "?", "?trace=1&langs=en", "?modes=2"])
def test_any_other_query_passes(state: State, query: str) -> None:
    assert reason_of(state, SUBMIT, query) is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?page_range=0", None),
        ("?request_id=j2", Reason.BAD_REQUEST),
        ("?a;Request%5Fid=j2", Reason.BAD_REQUEST),
        ("?request_id[]=j2", Reason.BAD_REQUEST),
        ("?request.id=j2", Reason.BAD_REQUEST),
        ("?+request+id=j2", Reason.BAD_REQUEST),
        ("?" + "a&" * 60, Reason.BAD_REQUEST),
        ("?" * 8000, Reason.BAD_REQUEST),
    ],
)
def test_a_job_is_named_once(state: State, query: str, reason: Reason | None) -> None:
    assert reason_of(state, RESULT, query) is reason
