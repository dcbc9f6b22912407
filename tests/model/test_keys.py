"""Keys of the ledger, and the names of jobs."""

import pytest

from gateway.model.jobs import JobRef
from gateway.model.keys import Generation
from gateway.model.routes import Kind


@pytest.mark.parametrize(
    ("not_after", "revoked_at", "is_live"),
    [(None, None, True), (101, None, True), (100, None, False), (None, 1, False), (101, 1, False)],
)
def test_a_secret_is_live_until_its_end_and_never_after_it_was_revoked(
    not_after: int | None,
    revoked_at: int | None,
    is_live: bool,
) -> None:
    assert Generation(1, b"digest", 1, not_after, revoked_at).is_live(100.0) is is_live


def test_a_job_is_asked_for_by_upstream_and_id() -> None:
    assert JobRef("container", "job", "reservation").key == ("container", "job")


def test_which_requests_name_a_job() -> None:
    assert [kind.value for kind in Kind if kind.is_of_a_job] == ["result", "asset", "delete"]


def test_which_requests_begin_or_end_a_job() -> None:
    assert [kind.value for kind in Kind if kind.changes_job] == ["submit", "delete"]


def test_all_kinds_but_one_are_about_jobs_and_two_give_what_is_in_them() -> None:
    assert [kind.value for kind in Kind if not kind.is_about_jobs] == ["plain"]
    assert [kind.value for kind in Kind if kind.gives_content] == ["result", "asset"]
