"""The audit trail of a running gateway: who read a job first, who was refused, what administrators changed."""

import asyncio
import json
from typing import Any

import pytest

from gateway.keys.validation import Wanted
from gateway.ledger.audit import recorded
from gateway.ledger.ledger import open_ledger
from tests.flows.test_jobs import MORE_ROUTES, Container, key, keys, poll, started
from tests.support.backend import Backend, Connection, answer
from tests.support.gateway import ENVIRON, KEY, Running, Start, request
from tests.support.jobs import PROCESSING, administering, comes_true, complete, ledger_path

READS = [
    *MORE_ROUTES,
    {"name": "fetch", "methods": ["POST"], "path": "/fetch", "kind": "result", "access": "key",
     "id": {"in": "body", "name": "job"}},
]  # fmt: skip


@pytest.fixture
def container(backend: Backend) -> Container:
    backend.script = made = Container()
    return made


def told(gateway: Running, action: str) -> list[dict[str, Any]]:
    return [dict(event) for event in gateway.events if event["event"] == "audit" and event["action"] == action]


async def written(gateway: Running, action: str) -> list[tuple[str, str, Any]]:
    """What the ledger has, the oldest first."""
    ledger = open_ledger(f"sqlite:///{ledger_path(gateway)}", 5.0)
    try:
        found = [row.entry for row in await ledger.read(recorded)]
    finally:
        await ledger.close()
    return [(entry.actor, entry.subject, entry.detail) for entry in reversed(found) if entry.action == action]


async def test_the_first_who_reads_a_job_is_on_record_and_nobody_after(start: Start, container: Container) -> None:
    gateway = await start(**keys(3, lambda number: "acme" if number < 2 else "other"), jobs={})
    job = await started(gateway, key=key(0))
    assert (await gateway.ask(poll(job, key=key(0)))).body == PROCESSING
    container.results[job] = complete(1, markdown="canary-of-a-result")
    (await gateway.ask(poll(job, key=key(2)))).is_refusal(404, "job_not_found")
    assert (await gateway.ask(poll(job, key=key(1)))).status == 200
    assert (await gateway.ask(poll(job, key=key(0)))).status == 200
    await gateway.facts.until(lambda: bool(told(gateway, "job.read")))
    assert await written(gateway, "job.read") == [
        ("key:k1", job, {"upstream": "default", "owner": "key:acme", "client": "127.0.0.1"})
    ]
    (event,) = told(gateway, "job.read")
    assert (event["actor"], event["subject"], event["level"]) == ("key:k1", job, "info")
    assert "canary" not in json.dumps(gateway.events, default=str)


@pytest.mark.parametrize("how", ["asset", "query", "fetch", "prefer"])
async def test_every_way_to_a_result_is_a_read(start: Start, container: Container, how: str) -> None:
    gateway = await start(routes=READS, jobs={})
    job = await started(gateway)
    container.results[job] = complete(1)
    asked = {
        "asset": request("GET", f"/static/{job}/picture.png"),
        "query": request("GET", f"/results?job={job}"),
        "fetch": request("POST", "/fetch", body=json.dumps({"job": job}).encode()),
        "prefer": poll(job, "Prefer: wait=10"),
    }[how]
    assert (await gateway.ask(asked, asked.partition(b" ")[0])).status == 200
    await gateway.facts.until(lambda: bool(told(gateway, "job.read")))
    assert [(actor, subject) for actor, subject, _ in await written(gateway, "job.read")] == [("key:ci", job)]


class Partly(Container):
    """Gives a part of each result: what was asked for as a range, or what came before its client left."""

    def __init__(self, part: bytes) -> None:
        super().__init__()
        self.part = part

    async def _tell(self, connection: Connection, job: str, *, bodiless: bool) -> None:
        del job, bodiless
        connection.send(self.part)


@pytest.mark.parametrize("how", ["leaves", "range"])
async def test_whoever_has_a_part_of_a_result_is_on_record(start: Start, backend: Backend, how: str) -> None:
    whole = complete(1, markdown="m" * 300_000)
    ranged = answer(whole[:10_000], status=b"206 Partial Content")
    backend.script = Partly(ranged if how == "range" else answer(whole)[:200_000])
    gateway = await start()
    job = await started(gateway)
    client = await gateway.connect()
    client.send(poll(job))
    await asyncio.wait_for(client.reader.readuntil(b"mmmm"), 30)
    client.abort()
    await gateway.facts.until(lambda: bool(told(gateway, "job.read")))
    assert [(actor, subject) for actor, subject, _ in await written(gateway, "job.read")] == [("key:ci", job)]


async def test_a_read_that_was_noted_last_is_written_at_the_end(start: Start, container: Container) -> None:
    gateway = await start(jobs={"delete_after_read": True})
    job = await started(gateway)
    container.results[job] = complete(1)
    assert (await gateway.ask(poll(job))).status == 200
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")
    await gateway.end()
    assert [subject for _, subject, _ in await written(gateway, "job.read")] == [job]
    assert [subject for _, subject, _ in await written(gateway, "request.refused")] == ["job_not_found"]


async def test_refusals_are_one_record_for_a_caller_and_a_reason(start: Start, container: Container) -> None:
    del container
    gateway = await start()
    for _ in range(3):
        await gateway.ask(request("GET", "/nowhere"))
        await gateway.ask(poll(key="canary-of-a-guess"))
    await gateway.ask(poll(key=None))
    (await gateway.ask(poll("canary-job"))).is_refusal(404, "job_not_found")
    await gateway.end()
    found: dict[tuple[str, str], int] = {}
    for actor, subject, detail in await written(gateway, "request.refused"):  # in two minutes, perhaps
        found[actor, subject] = found.get((actor, subject), 0) + detail["count"]
    assert found == {
        ("anyone", "route_not_found"): 3,
        ("anyone", "unauthenticated"): 4,
        ("key:ci", "job_not_found"): 1,
    }
    assert "canary" not in str(await written(gateway, "request.refused"))


async def test_a_refusal_stands_behind_the_change_that_caused_it(start: Start, container: Container) -> None:
    del container
    gateway = await start()
    async with administering(gateway) as admin:
        made = await admin.create("cli:op", Wanted("acme", "default"))
        await admin.set_disabled("cli:op", "acme", disabled=True)

    async def is_refused() -> bool:
        return b"This key is disabled." in (await gateway.ask(request(key=made.secret))).body

    await comes_true(is_refused)
    await gateway.end()
    ledger = open_ledger(f"sqlite:///{ledger_path(gateway)}", 5.0)
    try:
        found = [row.entry for row in await ledger.read(recorded)]
    finally:
        await ledger.close()
    refusals = [entry for entry in found if entry[1:4] == ("key:acme", "request.refused", "unauthenticated")]
    (disabled,) = [entry for entry in found if entry.action == "key.disable"]
    assert refusals
    for refusal in refusals:  # of two minutes, perhaps
        assert found.index(refusal) < found.index(disabled)
        assert disabled.at <= refusal.detail["first_at"] <= refusal.at


async def test_what_the_command_line_changes_is_told_while_the_gateway_runs(
    start: Start, container: Container
) -> None:
    del container
    gateway = await start(log={"level": "error"})  # the trail is told whatever the level is
    async with administering(gateway) as admin:
        await admin.create("cli:op", Wanted("acme", "default"))
    await gateway.facts.until(lambda: bool(told(gateway, "key.create")))
    (event,) = told(gateway, "key.create")
    assert (event["actor"], event["subject"]) == ("cli:op", "acme")


async def test_a_secret_that_a_reload_replaces_is_on_record(start: Start, container: Container) -> None:
    del container
    environ = {**ENVIRON, "OLD": "canary-webhook-secret-1", "NEW": "canary-webhook-secret-2"}
    gateway = await start(webhooks={"out": {"secret": {"env": "OLD"}}}, environ=environ)

    def subjects() -> list[str]:
        return [event["subject"] for event in told(gateway, "secret.set")]

    await gateway.facts.until(lambda: "webhooks.out.secret" in subjects())
    gateway.rewrite(lambda found: found["webhooks"]["out"].update(secret={"env": "NEW"}))
    gateway.gateway.reloader.force()
    await gateway.facts.until(lambda: subjects().count("webhooks.out.secret") == 2)
    assert "keys[ci].secret" in subjects()
    assert "canary" not in str(await written(gateway, "secret.set")) + str(told(gateway, "secret.set"))
    assert KEY not in str(gateway.events)
