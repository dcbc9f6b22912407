"""Jobs and webhooks through the admin API: what it tells, what it never tells, and a webhook that is retried."""

import time
from typing import Any
from urllib.parse import quote

import pytest

from gateway.admin.cursors import MAX_LENGTH, job_mark, webhook_mark, written
from gateway.ledger.listings import JobMark, WebhookMark
from tests.admin.api import TOKEN, Api
from tests.admin.filling import fill, ledger_of
from tests.support.backend import Backend
from tests.support.gateway import KEY, Running, Start, submit
from tests.support.joblists import CANARY, make_job
from tests.support.jobs import Jobs, comes_true, complete, poll

JOBS = "/admin/v1/jobs"
WEBHOOKS = "/admin/v1/webhooks"
STRANGE = ["a b", "a/b", "{x}", "%41", "ü😀", "a?b#c", "a+b", "a\\b", "x" * 256]


@pytest.fixture
def api(gateway: Running) -> Api:
    return Api(gateway)


@pytest.fixture
async def filled(api: Api) -> Api:
    async with ledger_of(api.gateway) as write:
        await write(fill)
    return api


def names(answer: Any) -> list[tuple[str, str, str]]:
    return [(job["upstream"], job["request_id"], job["state"]) for job in answer.json["jobs"]]


async def test_a_job_is_shown_from_its_submit_to_its_end(start: Start, backend: Backend) -> None:
    script = backend.script = Jobs()
    gateway = await start()
    api = Api(gateway)
    assert (await gateway.ask(submit())).status == 200
    (job,) = (await api("GET", JOBS)).json["jobs"]
    assert (job["request_id"], job["owner"], job["key"], job["state"]) == ("job-1", "key:ci", "ci", "running")
    assert (job["pages"], job["pages_are"], job["ended_at"], job["webhook"]) == (1, "reserved", None, None)
    script.results["job-1"] = complete(1, markdown=CANARY)
    assert CANARY.encode() in (await gateway.ask(poll())).body

    async def is_over() -> bool:
        return bool((await api("GET", f"{JOBS}/job-1")).json["state"] == "complete")

    await comes_true(is_over)
    answer = await api("GET", f"{JOBS}/job-1")
    assert (answer.json["pages"], answer.json["pages_are"]) == (1, "settled")
    assert answer.json["expires_at"] > answer.json["ended_at"] >= answer.json["created_at"]
    assert CANARY not in answer.text
    assert KEY not in answer.text


async def test_jobs_are_listed_the_newest_first(filled: Api) -> None:
    run, other = ("default", "run", "running"), ("staging", "run", "running")
    bad, done_, gone = ("default", "bad", "failed"), ("default", "done", "complete"), ("default", "gone", "gone")
    for query, expected in (
        ("", [other, run, bad, done_]), ("?owner=key:ci", [run, bad, done_]), ("?owner=other", [other]),
        ("?owner=key%3Anobody", []), ("?state=gone", [gone]), ("?state=running&owner=ci", [run]),
        ("?state=failed&limit=1", [bad]),
    ):  # fmt: skip
        answer = await filled("GET", JOBS + query)
        assert names(answer) == expected, query
        assert answer.json["next"] is None
        assert CANARY not in answer.text


async def test_pages_of_lists_are_the_lists(filled: Api) -> None:
    for path, member in ((JOBS, "jobs"), (WEBHOOKS, "webhooks")):
        whole = (await filled("GET", path)).json[member]
        found: list[Any] = []
        after: str | None = ""
        while after is not None:
            page = (await filled("GET", f"{path}?limit=1{after and f'&after={after}'}")).json
            found += page[member]
            after = page["next"]
        assert found == whole
        assert len(whole) >= 3


async def test_one_job_is_shown(filled: Api) -> None:
    job = (await filled("GET", f"{JOBS}/bad")).json
    assert job["webhook"] == {"id": "of-bad", "state": "dead", "destination": "hooks.example:443", "attempts": 1}
    assert (job["pages"], job["pages_are"], job["check_path"]) == (0, "settled", "/api/v1/marker/bad")
    gone = (await filled("GET", f"{JOBS}/gone")).json
    assert (gone["state"], gone["expires_at"], gone["webhook"]) == ("gone", None, None)


async def test_an_id_of_two_upstreams_needs_one_of_them(filled: Api) -> None:
    problem = (await filled("GET", f"{JOBS}/run")).is_problem(422, "invalid")
    assert problem["errors"] == [
        {"path": "upstream", "message": "is needed: there are jobs of this id of default, staging"}
    ]
    assert (await filled("GET", f"{JOBS}/run?upstream=staging")).json["owner"] == "key:other"
    (await filled("GET", f"{JOBS}/run?upstream=else")).is_problem(404, "job_not_found")
    (await filled("GET", f"{JOBS}/run?upstream=A")).is_problem(422, "invalid")


async def test_ids_of_upstreams_are_whatever_they_are(api: Api) -> None:
    async with ledger_of(api.gateway) as write:
        for name in STRANGE:
            await write(lambda c, n=name: make_job(c, n, now=time.time()))
    for name in STRANGE:
        assert (await api("GET", f"{JOBS}/{quote(name, safe='')}")).json["request_id"] == name
    found: set[str] = set()
    after: str | None = ""
    while after is not None:
        page = (await api("GET", f"{JOBS}?limit=2{after and f'&after={after}'}")).json
        found |= {job["request_id"] for job in page["jobs"]}
        after = page["next"]
    assert found == set(STRANGE)


@pytest.mark.parametrize("name", ["none", "%00", "%ff", "%ED%A0%80", "x" * 4000, "..%2f", "'--", "{id}"])
async def test_what_is_not_there(name: str, filled: Api) -> None:
    (await filled("GET", f"{JOBS}/{name}")).is_problem(404, "job_not_found")
    (await filled("GET", f"{WEBHOOKS}/{quote(name) if name == '{id}' else name}")).is_problem(
        404, "route_not_found" if name == "{id}" else "webhook_not_found"
    )


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "state=x", "state=GONE", "after=", "after=%2B", "after=AAAA", "x=1",
        f"after={'A' * MAX_LENGTH}A", f"after={written(WebhookMark(1, 'a'))}", "owner=", "owner=%00",
        "state=dead&state=dead",
    ],
)  # fmt: skip
async def test_queries_are_strict(query: str, api: Api) -> None:
    (await api("GET", f"{JOBS}?{query}")).is_problem(422, "invalid")


async def test_a_webhook_is_shown_without_its_url(filled: Api) -> None:
    answer = await filled("GET", f"{WEBHOOKS}/of-bad")
    assert {name: answer.json[name] for name in ("state", "destination", "last_status", "trouble", "attempts")} == {
        "state": "dead", "destination": "hooks.example:443", "last_status": 404, "trouble": "status", "attempts": 1,
    }  # fmt: skip
    listed = await filled("GET", f"{WEBHOOKS}?state=dead")
    assert listed.json == {"webhooks": [answer.json], "next": None}
    assert CANARY not in answer.text + listed.text


async def test_a_dead_letter_is_retried_and_that_is_noted(filled: Api) -> None:
    answer = await filled("POST", f"{WEBHOOKS}/of-bad/retry", {})
    assert (answer.status, answer.json["state"], answer.json["attempts"]) == (200, "due", 0)
    (await filled("POST", f"{WEBHOOKS}/of-run/retry", {})).is_problem(409, "conflict")
    (await filled("POST", f"{WEBHOOKS}/of-done/retry", {})).is_problem(409, "conflict")
    (await filled("POST", f"{WEBHOOKS}/none/retry", {})).is_problem(404, "webhook_not_found")
    (await filled("POST", f"{WEBHOOKS}/A/retry", {})).is_problem(404, "webhook_not_found")
    (await filled("POST", f"{WEBHOOKS}/of-bad/retry", {"x": 1})).is_problem(422, "invalid")
    changes = (await filled("GET", "/admin/v1/audit")).json["changes"]
    changes = [change for change in changes if change["action"] != "secret.set"]
    assert [(change["actor"], change["action"], change["subject"], change["detail"]) for change in changes] == [
        ("admin:loopback@127.0.0.1", "webhook.retry", "of-bad", {"was": "dead"})
    ]


async def test_the_token_is_asked_for(start: Start) -> None:
    environ = {"KEY_CI": KEY, "KEY_ADMIN": "a", "KEY_AWAY": "b", "TOKEN": TOKEN}
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ=environ)
    for path in (JOBS, f"{JOBS}/a", WEBHOOKS, f"{WEBHOOKS}/a"):
        (await Api(gateway)("GET", path)).is_problem(401, "unauthenticated")
        assert (await Api(gateway, TOKEN)("GET", path)).status in {200, 404}
    (await Api(gateway)("POST", f"{WEBHOOKS}/a/retry", {})).is_problem(401, "unauthenticated")


@pytest.mark.parametrize(
    "mark", [JobMark(0, "default", "a"), JobMark(10**12 - 1, "-", " a b "), JobMark(5, "u", "ü😀")]
)
def test_a_mark_comes_back_as_it_was(mark: JobMark) -> None:
    word = written(mark)
    assert word == quote(word, safe="")
    assert job_mark(word) == mark
    assert webhook_mark(written(WebhookMark(mark.created_at, "a"))) == (mark.created_at, "a")


@pytest.mark.parametrize(
    "word", [None, 5, "", "=", "A", "é", "AAAA", "MSBi", "LTEgYiBj", "/w==", "A" * (MAX_LENGTH + 1)]
)
def test_what_is_no_mark_is_refused(word: object) -> None:
    with pytest.raises(ValueError, match="is not what"):
        job_mark(word)
