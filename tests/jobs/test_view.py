"""What is told of jobs and webhooks: nothing of a URL that may be a secret, and no time that means something else."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.jobs.view import job_facts, webhook_facts
from gateway.ledger.schema import DeliveryState, JobState, Stage
from gateway.model.account_names import qualified

NOON = 1_795_435_200
CANARY = "canary-secret"


def row(**values: Any) -> Any:
    return SimpleNamespace(**{
        "request_id": "r1", "upstream": "default", "owner": "key:acme", "account": "key:ci", "state": 0,
        "created_at": NOON, "ended_at": None, "expires_at": None, "stage": 2, "pages": 3, "check_url": None,
        "webhook": None, "webhook_state": None, "destination": None, "attempts": None, **values,
    })  # fmt: skip


def test_a_job_that_runs() -> None:
    assert job_facts(row()) == {
        "request_id": "r1", "upstream": "default", "owner": "key:acme", "account": "key:ci", "key": "ci",
        "state": "running", "created_at": "2026-11-23T12:00:00Z", "ended_at": None, "expires_at": None, "pages": 3,
        "pages_are": "reserved", "check_path": None, "webhook": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "expires"), [(JobState.COMPLETE, "2026-11-23T13:00:00Z"), (JobState.FAILED, "2026-11-23T13:00:00Z"),
                           (JobState.GONE, None)],
)  # fmt: skip
def test_what_is_gone_does_not_expire_once_more(state: JobState, expires: str | None) -> None:
    facts = job_facts(row(state=state, ended_at=NOON, expires_at=NOON + 3600))
    assert (facts["state"], facts["expires_at"]) == (state.name.lower(), expires)


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        (Stage.ADMITTED, "reserved"), (Stage.RESERVED, "reserved"), (Stage.ACCEPTED, "reserved"),
        (Stage.SETTLED, "settled"), (Stage.CHARGED, "charged"), (Stage.REFUNDED, "refunded"), (None, None),
    ],
)  # fmt: skip
def test_what_its_pages_are(stage: Stage | None, word: str | None) -> None:
    assert job_facts(row(stage=stage))["pages_are"] == word


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (None, None), ("", None), ("https://g.example", None), ("http://[", None),
        (f"https://u:{CANARY}@g.example/api/v1/marker/r1?token={CANARY}#{CANARY}", "/api/v1/marker/r1"),
        (f"/api/v1/marker/r1?token={CANARY}", "/api/v1/marker/r1"),
    ],
)  # fmt: skip
def test_of_the_check_url_there_is_the_path(url: str | None, path: str | None) -> None:
    assert job_facts(row(check_url=url))["check_path"] == path


def test_of_its_webhook_there_is_where_and_how_far() -> None:
    facts = job_facts(row(webhook="w1", webhook_state=DeliveryState.DUE, destination="h:443", attempts=2))
    assert facts["webhook"] == {"id": "w1", "state": "due", "destination": "h:443", "attempts": 2}


def test_a_webhook() -> None:
    found = {
        "id": "w1", "owner": "key:ci", "upstream": "default", "request_id": "r1", "destination": "h:443",
        "status": "failed", "attempts": 2, "last_status": 500, "state": 1, "last_error": "status",
        "created_at": NOON, "next_at": NOON + 60, "ended_at": None, "url": CANARY, "check_url": CANARY,
        "leased_by": CANARY,
    }  # fmt: skip
    facts = webhook_facts(found)
    assert CANARY not in str(facts)
    assert facts == {
        "id": "w1", "owner": "key:ci", "upstream": "default", "request_id": "r1", "destination": "h:443",
        "status": "failed", "attempts": 2, "last_status": 500, "state": "due", "trouble": "status",
        "created_at": "2026-11-23T12:00:00Z", "next_at": "2026-11-23T12:01:00Z", "ended_at": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "owner"), [("acme", "key:acme"), ("key:acme", "key:acme"), ("jwt:i#s", "jwt:i#s"), ("", "key:")]
)
def test_owners_have_a_namespace(given: str, owner: str) -> None:
    assert qualified(given) == owner
