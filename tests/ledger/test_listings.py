"""Lists of jobs and webhooks, on both engines: the newest first, page after page, whatever comes in between."""

from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.ledger import listings as joblist
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import forget
from gateway.ledger.listings import JobMark, WebhookMark, jobs_with_id, list_jobs, list_webhooks
from gateway.ledger.reservations import reclaim
from gateway.ledger.schema import DeliveryState, JobState, Stage
from tests.ledger.test_plans import plans
from tests.support.endings import end, job_of
from tests.support.joblists import make_job
from tests.support.ledgers import NOON

A, B = ("key:a", "key:b")
MANY = 300


def ids(rows: list[Any]) -> list[str]:
    return [row.request_id for row in rows]


def fill(connection: Connection) -> None:
    """Five jobs: two of one second, one that is complete, one that failed, one that is gone."""
    for number, (name, owner) in enumerate((("done", A), ("bad", A), ("gone", A), ("run", B))):
        make_job(connection, name, owner=owner, now=NOON + number, webhook=f"of-{name}")
    make_job(connection, "twin", owner=A, now=NOON + 3)
    end(connection, ("default", "done"), 2, NOON + 10, 3600, failed=False)
    end(connection, ("default", "bad"), None, NOON + 10, 3600, failed=True)
    forget(connection, job_of(connection, ("default", "gone")), NOON + 11)


@pytest.mark.parametrize(
    ("owner", "state", "expected"),
    [
        (None, None, ["run", "twin", "bad", "done"]),
        (A, None, ["twin", "bad", "done"]),
        (B, None, ["run"]),
        ("key:nobody", None, []),
        (None, JobState.RUNNING, ["run", "twin"]),
        (A, JobState.RUNNING, ["twin"]),
        (None, JobState.COMPLETE, ["done"]),
        (None, JobState.FAILED, ["bad"]),
        (None, JobState.GONE, ["gone"]),
        (B, JobState.GONE, []),
        ("a\0b", None, []),
        ("\udc80", None, []),
    ],
)
async def test_the_newest_come_first(owner: str, state: JobState, expected: list[str], engine: Engine) -> None:
    await engine.write(fill)
    assert ids(await engine.report(lambda c: list_jobs(c, owner, state, 100))) == expected


async def test_a_row_says_what_it_cost_and_how_far_its_webhook_is(engine: Engine) -> None:
    await engine.write(fill)
    rows = {row.request_id: row for row in await engine.report(lambda c: list_jobs(c, None, None, 100))}
    told = {name: (row.stage, row.pages, row.webhook, row.webhook_state) for name, row in rows.items()}
    assert told == {
        "run": (Stage.ACCEPTED, 3, "of-run", DeliveryState.WAITING),
        "twin": (Stage.ACCEPTED, 3, None, None),
        "bad": (Stage.SETTLED, 0, "of-bad", DeliveryState.DUE),
        "done": (Stage.SETTLED, 2, "of-done", DeliveryState.DUE),
    }
    (gone,) = await engine.read(lambda c: jobs_with_id(c, "gone"))
    assert (gone.stage, gone.pages, gone.webhook) == (Stage.CHARGED, 3, None)


async def test_what_nobody_settled_is_charged(engine: Engine) -> None:
    await engine.write(lambda c: make_job(c, "a"))
    (row,) = await engine.read(lambda c: jobs_with_id(c, "a"))
    await engine.write(lambda c: reclaim(c, "key:ci", NOON + 90_000))
    (row,) = await engine.read(lambda c: jobs_with_id(c, "a"))
    assert (row.stage, row.pages) == (Stage.CHARGED, 3)


async def test_a_job_without_its_reservation_is_still_there(engine: Engine) -> None:
    await engine.write(lambda c: make_job(c, "a"))
    await engine.write(lambda c: c.execute(text("DELETE FROM reservations")).rowcount)
    (row,) = await engine.read(lambda c: jobs_with_id(c, "a"))
    assert (row.stage, row.pages) == (None, None)


async def test_pages_of_a_list_are_the_list(engine: Engine) -> None:
    names = [f"{number:02}" for number in range(23)]

    def make(connection: Connection) -> None:
        for number, name in enumerate(names):
            for upstream in ("one", "two"):
                make_job(connection, name, upstream=upstream, now=NOON + number // 5)

    await engine.write(make)
    whole = await engine.report(lambda c: list_jobs(c, None, None, 1000))
    assert [row.created_at for row in whole] == sorted((row.created_at for row in whole), reverse=True)
    found, after = [], None
    while rows := await engine.report(lambda c, a=after: list_jobs(c, None, JobState.RUNNING, 4, a)):  # type: ignore[misc] # its default is the value
        assert len(rows) <= 4
        found += rows
        after = JobMark(rows[-1].created_at, rows[-1].upstream, rows[-1].request_id)
        newer = f"new-{len(found)}"
        await engine.write(lambda c, n=newer: make_job(c, n, now=NOON + 100))  # type: ignore[misc] # likewise
    assert found == whole
    assert len(whole) == 46


async def test_an_id_is_looked_for_at_every_upstream(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(connection: Connection) -> None:
        for upstream in ("two", "one", "three"):
            make_job(connection, "same", upstream=upstream)
        make_job(connection, "other", upstream="one")

    assert await engine.read(lambda c: jobs_with_id(c, "same")) == []
    await engine.write(make)
    assert [row.upstream for row in await engine.read(lambda c: jobs_with_id(c, "same"))] == ["one", "three", "two"]
    assert [row.upstream for row in await engine.read(lambda c: jobs_with_id(c, "same", "two"))] == ["two"]
    assert [row.upstream for row in await engine.read(lambda c: jobs_with_id(c, "other"))] == ["one"]
    assert await engine.read(lambda c: jobs_with_id(c, "other", "two")) == []
    monkeypatch.setattr(joblist, "MAX_UPSTREAMS", 2)
    assert [row.upstream for row in await engine.read(lambda c: jobs_with_id(c, "same"))] == ["one", "three"]


@pytest.mark.parametrize("name", ["", "a\0b", "\udc80", "x" * 5000, "' OR 1=1 --", "%", "gon_"])
async def test_what_can_not_be_an_id_is_none(name: str, engine: Engine) -> None:
    await engine.write(fill)
    assert await engine.read(lambda c: jobs_with_id(c, name)) == []
    assert await engine.read(lambda c: jobs_with_id(c, "done", name)) == []
    assert len(await engine.report(lambda c: list_jobs(c, None, None, 9, JobMark(int(NOON) - 1, name, name)))) == 0


async def test_a_webhook_of_an_id_that_was_given_before_is_not_shown(engine: Engine) -> None:
    def make(connection: Connection) -> None:
        make_job(connection, "a", webhook="old")
        end(connection, ("default", "a"), 1, NOON, 10, failed=False)
        forget(connection, job_of(connection, ("default", "a")), NOON + 10)
        make_job(connection, "a", now=NOON + 20)

    await engine.write(make)
    (row,) = await engine.read(lambda c: jobs_with_id(c, "a"))
    assert (row.state, row.webhook) == (JobState.RUNNING, None)


async def test_webhooks_are_listed_page_after_page(engine: Engine) -> None:
    def make(connection: Connection) -> None:
        for number in range(10):
            make_job(connection, f"j{number}", now=NOON + number // 4, webhook=f"w{number}")
        end(connection, ("default", "j3"), 1, NOON + 9, 10, failed=False)
        claim_due(connection, "me", NOON + 9, NOON + 60, Bounds(1, 1))

    await engine.write(make)
    whole = await engine.report(lambda c: list_webhooks(c, None, 100))
    assert [row["id"] for row in whole] == ["w8", "w9", "w4", "w5", "w6", "w7", "w0", "w1", "w2", "w3"]
    found, after = [], None
    while rows := await engine.report(lambda c, a=after: list_webhooks(c, None, 3, a)):  # type: ignore[misc] # its default is the value
        found += rows
        after = WebhookMark(rows[-1]["created_at"], rows[-1]["id"])
    assert found == whole
    (due,) = await engine.report(lambda c: list_webhooks(c, DeliveryState.DUE, 100))
    assert (due["id"], due["attempts"]) == ("w3", 1)
    assert await engine.report(lambda c: list_webhooks(c, None, 9, WebhookMark(0, "a\0"))) == []


def look(connection: Connection) -> None:
    """Everything that is looked at, but for the first pages of all."""
    mark = JobMark(int(NOON) + 9, "default", "j9")
    jobs_with_id(connection, "j5")
    for state in (None, *JobState):
        list_jobs(connection, "key:ci", state, 10)
        list_jobs(connection, None, state, 10, mark)
    for living in (None, JobState.RUNNING, JobState.COMPLETE, JobState.FAILED):
        list_jobs(connection, None, living, 10)
    list_webhooks(connection, None, 10, WebhookMark(int(NOON) + 9, "w9"))


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_sqlite_goes_through_no_table(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        for number in range(MANY):
            make_job(connection, f"j{number}", now=NOON + number, webhook=f"w{number}")
        with plans(connection) as found:
            look(connection)
        return found

    assert set(await engine.write(work)) & {"jobs", "reservations", "deliveries"} == set()


async def test_of_an_id_given_again_each_job_has_its_own_webhook_whatever_a_clock_said(engine: Engine) -> None:
    """The first job's replica was ten seconds ahead: its webhook was planned later than the second job began."""

    def make(connection: Connection) -> None:
        make_job(connection, "a", now=NOON + 10, webhook="old")
        end(connection, ("default", "a"), 1, NOON + 10, 10, failed=False)
        forget(connection, job_of(connection, ("default", "a")), NOON + 2)
        make_job(connection, "a", owner=B, now=NOON + 8, webhook="new")

    await engine.write(make)
    rows = await engine.read(lambda c: jobs_with_id(c, "a"))
    assert [(row.owner, row.webhook, row.webhook_state) for row in rows] == [(B, "new", DeliveryState.WAITING)]
    assert await engine.report(lambda c: list_jobs(c, None, None, 9)) == rows
