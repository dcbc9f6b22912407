"""The end of jobs in the ledger, on both engines: what is over, who deletes it when, and which records go."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from sqlalchemy import Connection, insert, update

from gateway.ledger import expiry
from gateway.ledger import jobs as steps
from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.engine import Engine
from gateway.ledger.schema import DeliveryState, JobState, Stage, deliveries, jobs, reservations
from gateway.limits.job_cost import Known
from tests.support.jobbook import JOB, TTL, JobBook
from tests.support.ledgerkeys import DAY
from tests.support.ledgers import NOON, rows_of

NOW: Final = int(NOON)


@pytest.fixture
def book(engine: Engine) -> JobBook:
    return JobBook(engine)


def readable(name: str, **changes: Any) -> dict[str, Any]:
    """A complete job whose time is over now."""
    return {
        "upstream": "container", "request_id": name, "reservation": f"r-{name}", "account": "key:ci",
        "owner": "key:ci", "shape": "default", "path": "/p", "check_url": None, "state": JobState.COMPLETE,
        "created_at": NOW - 100, "ended_at": NOW - 50, "expires_at": NOW, "changed_at": (NOW - 50) * 1000,
        "watcher": "me", "known": int(Known.COMPLETE), **changes,
    }  # fmt: skip


def gone(name: str, due: int = NOW, wait: int = 0, **changes: Any) -> dict[str, Any]:
    """A forgotten job whose deletion is due at a moment, after so long a wait."""
    waiting = {"state": JobState.GONE, "expires_at": due, "changed_at": (due - wait) * 1000}
    return readable(name, **{**waiting, **changes})


def ended(name: str, stage: Stage = Stage.SETTLED, **changes: Any) -> dict[str, Any]:
    """A reservation that nobody renews, and that cost nothing."""
    return {
        "id": f"r-{name}", "account": "key:ci", "owner": "key:ci", "stage": stage, "mode": "", "pages": 0, "price": 0,
        "day": 20261123, "month": 202611, "upstream": "container", "request_id": None, "created_at": NOW - 100,
        "expires_at": None, "settled_at": NOW - 50, "given_back": None, **changes,
    }  # fmt: skip


async def put(book: JobBook, table: Any, *rows: dict[str, Any]) -> None:
    await book.engine.write(lambda c: c.execute(insert(table), list(rows)))


async def read(book: JobBook, report: Any, *arguments: Any) -> Any:
    return await book.engine.read(lambda c: report(c, *arguments))


async def write(book: JobBook, work: Any, *arguments: Any) -> Any:
    return await book.engine.write(lambda c: work(c, *arguments))


def names_of(rows: Any) -> list[str]:
    return [row.request_id for row in rows]


async def left(book: JobBook) -> list[str]:
    """Whose reservations are left."""
    return sorted(row["id"].removeprefix("r-") for row in await book.engine.read(lambda c: rows_of(c, reservations)))


# What is over


async def test_the_first_end_is_that_of_all_jobs_passed_or_not(book: JobBook) -> None:
    assert await read(book, expiry.first_expiry) is None
    await put(book, jobs, readable("running", state=JobState.RUNNING, expires_at=None))
    assert await read(book, expiry.first_expiry) is None
    await put(book, jobs, readable("b", expires_at=NOW + 9), readable("a", expires_at=NOW + 5))
    assert await read(book, expiry.first_expiry) == NOW + 5
    await put(book, jobs, gone("c", NOW - 5))
    assert await read(book, expiry.first_expiry) == NOW - 5


async def test_over_is_what_can_be_read_and_whose_moment_has_come(
    book: JobBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(
        book, jobs, readable("b"), readable("c", expires_at=NOW + 1), readable("a", expires_at=NOW - 1), gone("gone"),
        readable("running", state=JobState.RUNNING, expires_at=None),
    )  # fmt: skip
    assert names_of(await read(book, expiry.expired, NOW + 0.9)) == ["a", "b"]
    monkeypatch.setattr(expiry, "AT_ONCE", 1)
    assert names_of(await read(book, expiry.expired, NOW)) == ["a"]


async def test_what_is_over_is_found_until_the_upstream_was_told(book: JobBook) -> None:
    await book.running("first", "r1")
    await book.running("second", "r2")
    await book.running("third", "r3")
    await book.end(job=("container", "second"))
    book.now += 5
    await book.end(job=("container", "first"))
    assert await book.expired() == []
    book.now += TTL - 4
    assert await book.expired() == ["second"]
    book.now += 5
    assert await book.expired() == ["second", "first"]
    first = ("container", "first")
    await book.mark_deleted("first")
    assert await book.claim() == []
    assert await book.expired() == ["second", "first"]  # it was not forgotten yet
    await book.forget(first)
    assert await book.expired() == ["second"]
    assert await book.claim() == ["first"]
    assert await book.due(container=9) == []
    book.now += 60
    assert await book.expired() == ["second"]
    assert await book.claim() == ["first"]
    await book.mark_deleted("first")
    book.now += 61
    assert await book.expired() == ["second"]
    assert (await book.row(first)).state == JobState.GONE


def attempted(connection: Connection, now: float, most: int) -> Iterator[int]:
    """Claims the deletion as often as it becomes due, so often at the most; how long each attempt lets it wait."""
    while most and (due := expiry.due_gone(connection, {"container": 9}, now)):
        assert [row.request_id for row in expiry.claim_gone(connection, due, now)] == ["job"]
        assert expiry.due_gone(connection, {"container": 9}, now) == []
        row = steps.find(connection, *JOB)
        assert row is not None
        if row.expires_at is None:
            return
        yield expiry.waited(row)
        now += expiry.waited(row)
        most -= 1


async def test_a_deletion_is_due_for_a_day_and_each_wait_is_a_second_longer(book: JobBook) -> None:
    await book.running()
    await book.forget()
    began, waits = book.now, list[int]()
    # a transaction for each were 700
    while len(waits) < 400 and (some := await book.do(lambda c: list(attempted(c, book.now, 60)))):
        waits += some
        book.now += sum(some)
    assert waits == list(range(60, 421))
    assert book.now - began == 86_640


async def test_an_attempt_that_is_late_counts_for_those_that_were_missed(book: JobBook) -> None:
    """At most sixty: the gateway may have been off for days. A backlog at a container that fails never ended."""
    await book.running()
    await book.forget()
    waits = list[int]()
    for late in (0, 59, 60, 7 * 60, 86_400, 86_400, 86_400, 86_400, 86_400, 86_400, 86_400):
        book.now += late
        assert await book.claim() == ["job"]
        row = await book.row()
        if row.expires_at is None:
            break
        waits.append(expiry.waited(row))
        book.now = float(row.expires_at)
    assert waits == [60, 61, 62, 62 + 1 + 6, 129, 189, 249, 309, 369, 420]


async def test_a_job_that_was_never_asked_about_late_counts_as_well(book: JobBook) -> None:
    await book.running()
    await book.forget()
    book.now += 240
    assert await book.claim() == ["job"]
    assert expiry.waited(await book.row()) == 64


async def test_what_is_due_is_told_for_each_upstream_and_by_whether_it_was_asked(book: JobBook) -> None:
    for number, upstream in enumerate(["x", "x", "x", "y", "z"]):
        name = f"job-{number}"
        await book.running(name, f"r{number}")
        moved = update(jobs).where(jobs.c.request_id == name).values(upstream=upstream)
        await book.do(lambda c, moved=moved: c.execute(moved))
        await book.forget((upstream, name))
        if number == 0:
            due = await book.engine.read(lambda c: expiry.due_gone(c, {"x": 9}, book.now))
            await book.do(expiry.claim_gone, due, book.now)
            book.now += 60
    assert sorted(await book.due(x=9)) == [("job-0", 1), ("job-1", 0), ("job-2", 0)]
    assert sorted(await book.due(x=1, y=1)) == [("job-0", 1), ("job-1", 0), ("job-3", 0)]
    assert await book.due() == []
    assert await book.strays("x", "y") == ["job-4"]
    book.now -= 61
    assert (await book.due(x=9, y=9, z=9), await book.strays("x", "y")) == ([], [])


async def test_many_are_forgotten_at_once_as_one_is(book: JobBook) -> None:
    names = ["done", "failed", "running", "open", "other", "kept"]
    for name in names:
        await book.running(name, f"r-{name}", account=f"key:{name}")
    for name in names:
        if name not in {"running", "open"}:
            await book.end(failed=name == "failed", job=("container", name))
    over = {"state": JobState.COMPLETE, "ended_at": int(book.now), "expires_at": int(book.now + TTL)}
    changes: dict[str, dict[str, Any]] = {"open": over, "done": {"known": 0}, "kept": {"shape": "kept"}}
    for name, values in changes.items():
        changed = update(jobs).where(jobs.c.request_id == name).values(values)
        await book.do(lambda c, changed=changed: c.execute(changed))
    rows = [await book.row(("container", name)) for name in names if name != "other"]
    ended_at = rows[0].ended_at
    assert await book.do(expiry.forget_expired, rows, book.now, ["kept"]) == []  # none of them is over
    book.now += TTL + 1
    left = await book.do(expiry.forget_expired, rows, book.now, ["kept"])
    assert [row.request_id for row in left] == ["open"]
    others = [row for row in rows if row.request_id != "open"]
    assert await book.do(expiry.forget_expired, others, book.now) == []
    states = {name: JobState((await book.row(("container", name))).state) for name in names}
    assert [name for name, state in states.items() if state == JobState.GONE] == ["done", "failed", "kept"]
    done = await book.row(("container", "done"))
    assert (done.known, done.ended_at, done.expires_at) == (Known.COMPLETE, ended_at, int(book.now))
    assert (await book.row(("container", "kept"))).expires_at is None
    found = await book.engine.read(lambda c: rows_of(c, reservations))
    assert {row["id"] for row in found if row["request_id"] is None} == {"r-done", "r-failed", "r-kept"}
    assert set(await book.heard(book.now - 1)) == {"done", "failed", "kept"}


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_of_several_replicas_one_forgets_at_a_time(book: JobBook, ledger_url: str) -> None:
    await book.running()
    await book.end()
    book.now += TTL + 1
    rows = [await book.row()]
    import asyncpg  # noqa: PLC0415 -- for this engine alone

    raw = await asyncpg.connect(ledger_url)
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute("SELECT pg_advisory_xact_lock($1)", 0x7377_6570)
    assert await book.do(expiry.forget_expired, rows, book.now) == []
    assert await book.expired() == ["job"]
    await transaction.rollback()
    await raw.close()
    await book.do(expiry.forget_expired, rows, book.now)
    assert (await book.expired(), await book.due(container=9)) == ([], [("job", 0)])


async def test_what_is_forgotten_takes_along_the_webhook_that_waits_and_no_other(book: JobBook) -> None:
    await put(book, jobs, readable("a"), readable("b"), readable("c", expires_at=NOW + 1))
    await put(book, reservations, *(ended(name, request_id=name) for name in "abc"))

    def planned(connection: Connection) -> None:
        for name in "abc":
            plan(connection, Planned(f"w-{name}", "container", name, "key:ci", "https://h.test/", "h", None), NOON)
        is_due = update(deliveries).where(deliveries.c.request_id == "b").values(state=DeliveryState.DUE)
        connection.execute(is_due)

    await book.engine.write(planned)
    await write(book, expiry.forget_expired, await read(book, expiry.expired, NOW), NOW)
    assert sorted(row["id"] for row in await read(book, rows_of, deliveries)) == ["w-b", "w-c"]


async def test_who_forgets_it_first_writes_when_and_an_end_is_no_later(book: JobBook) -> None:
    await put(book, jobs, readable("a"), readable("b", ended_at=None))
    rows = await read(book, expiry.expired, NOW)
    for at in (NOW + 0.25, NOW + 5):
        assert await write(book, expiry.forget_expired, rows, at) == []
    found = {row["request_id"]: row for row in await read(book, rows_of, jobs)}
    assert [found[name]["ended_at"] for name in "ab"] == [NOW - 50, NOW]
    assert {row["changed_at"] for row in found.values()} == {NOW * 1000 + 250}


async def test_what_runs_is_not_forgotten_whatever_its_row_says(book: JobBook) -> None:
    await put(book, jobs, readable("a", state=JobState.RUNNING))
    assert await write(book, expiry.forget_expired, await read(book, expiry.expired, NOW), NOW) == []
    (row,) = await read(book, rows_of, jobs)
    assert row["state"] == JobState.RUNNING


async def test_a_job_that_has_the_id_by_now_is_not_forgotten(book: JobBook) -> None:
    await put(book, jobs, readable("a"))
    rows = await read(book, expiry.expired, NOW)
    await book.engine.write(lambda c: c.execute(update(jobs).values(reservation="r-another")))
    await write(book, expiry.forget_expired, rows, NOW)
    (row,) = await read(book, rows_of, jobs)
    assert row["state"] == JobState.COMPLETE


# What upstreams have to delete


async def test_due_first_is_what_is_due_for_longest_of_either_kind(book: JobBook) -> None:
    await put(
        book, jobs, gone("now"), gone("late", NOW - 9), gone("latest", NOW - 10, 59), gone("soon", NOW + 1),
        gone("again", NOW, 60), gone("again-late", NOW - 5, 420), gone("again-soon", NOW + 1, 60),
        gone("deleted", expires_at=None), readable("readable", expires_at=NOW - 99),
    )  # fmt: skip

    async def due(most: int) -> set[tuple[str, int]]:
        rows = await read(book, expiry.due_gone, {"container": most}, NOW + 0.9)
        return {(row.request_id, row.is_repeated) for row in rows}

    first, again = [("latest", 0), ("late", 0), ("now", 0)], [("again-late", 1), ("again", 1)]
    for most in (9, 2, 1):
        assert await due(most) == {*first[:most], *again[:most]}


async def test_a_claim_is_of_what_is_due_still_and_tells_it_as_it_was(book: JobBook) -> None:
    await put(book, jobs, gone("a", NOW - 5), gone("b", NOW, 60))
    due = await read(book, expiry.due_gone, {"container": 9}, NOW)
    claimed = await write(book, expiry.claim_gone, due, NOW + 0.25)
    assert {(row.request_id, row.expires_at) for row in claimed} == {("a", NOW - 5), ("b", NOW)}
    assert await write(book, expiry.claim_gone, due, NOW + 0.25) == []  # another replica comes too late
    found = {row["request_id"]: (row["changed_at"], row["expires_at"]) for row in await read(book, rows_of, jobs)}
    assert found == {name: (NOW * 1000 + 250, NOW + wait) for name, wait in (("a", 60), ("b", 61))}


async def test_a_wait_is_a_second_longer_than_the_last_and_for_each_attempt_that_was_missed(book: JobBook) -> None:
    next_waits = {
        (0, 0): 60, (59, 0): 60, (0, 59): 60, (0, 60): 61, (60, 0): 61, (60, 60): 61, (60, 61): 62,
        (100, 58 * 101): 159, (100, 59 * 101): 160, (100, 10**6): 160, (418, 0): 419, (419, 0): 420,
        (400, 10**6): 420, (420, 0): None, (421, 10**6): None,
    }  # fmt: skip
    await put(book, jobs, *(gone(f"{wait} {late}", NOW - late, wait) for wait, late in next_waits))
    await write(book, expiry.claim_gone, await read(book, expiry.due_gone, {"container": 99}, NOW), NOW)
    rows = await read(book, lambda c: list(c.execute(jobs.select())))
    found = {row.request_id: None if row.expires_at is None else expiry.waited(row) for row in rows}
    assert found == {f"{wait} {late}": seconds for (wait, late), seconds in next_waits.items()}


async def test_an_id_that_is_another_jobs_by_now_is_neither_claimed_nor_marked(book: JobBook) -> None:
    await put(book, jobs, gone("a"), gone("b"))
    due = await read(book, expiry.due_gone, {"container": 9}, NOW)
    await book.engine.write(
        lambda c: c.execute(update(jobs).where(jobs.c.request_id == "a").values(state=JobState.FAILED))
    )
    assert names_of(await write(book, expiry.claim_gone, due, NOW)) == ["b"]
    await write(book, expiry.mark_deleted, due, NOW + 5)
    found = {row["request_id"]: (row["expires_at"], row["changed_at"]) for row in await read(book, rows_of, jobs)}
    assert found == {"a": (NOW, NOW * 1000), "b": (None, (NOW + 5) * 1000)}


async def test_strays_are_what_is_due_where_nobody_can_be_asked(
    book: JobBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(
        book, jobs, gone("a", upstream="elsewhere"), gone("b", NOW, 60, upstream="elsewhere"),
        gone("c", NOW + 1, upstream="elsewhere"),
        gone("d"), readable("e", upstream="elsewhere"),
    )  # fmt: skip
    assert sorted(names_of(await read(book, expiry.stray_gone, ["container"], NOW + 0.9))) == ["a", "b"]
    monkeypatch.setattr(expiry, "AT_ONCE", 1)
    assert len(await read(book, expiry.stray_gone, ["container"], NOW)) == 1


# Records


async def test_a_record_goes_with_its_reservation_once_the_upstream_has_deleted_its_job(
    book: JobBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "AT_ONCE", 2)
    await put(
        book, jobs, gone("b", created_at=NOW - 2, expires_at=None), gone("a", created_at=NOW - 3, expires_at=None),
        gone("c", created_at=NOW - 1, expires_at=None), gone("young", created_at=NOW, expires_at=None), gone("waits"),
        readable("readable", expires_at=None),
    )  # fmt: skip
    kept = ["readable", "waits", "young"]
    await put(book, reservations, *(ended(name) for name in ["a", "b", "c", *kept]))
    assert await write(book, expiry.purge, NOW + 0.9) == 2
    assert await left(book) == ["c", *kept]
    assert [await write(book, expiry.purge, NOW) for _ in range(2)] == [1, 0]
    assert sorted(row["request_id"] for row in await read(book, rows_of, jobs)) == kept
    assert await left(book) == kept


async def test_what_was_given_back_goes_by_when_unless_a_job_has_it(
    book: JobBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "AT_ONCE", 2)
    back = Stage.REFUNDED
    await put(
        book, reservations, ended("b", back, created_at=NOW - 102), ended("a", back, created_at=NOW - 103),
        ended("c", back, created_at=NOW - 101, settled_at=NOW - 1), ended("has-a-job", back, request_id="x"),
        ended("late", back, settled_at=NOW), ended("later", back, created_at=NOW), ended("settled"),
        ended("charged", Stage.CHARGED),
    )  # fmt: skip
    kept = ["charged", "has-a-job", "late", "later", "settled"]
    assert await write(book, expiry.purge_refunded, NOW + 0.9) == 2
    assert await left(book) == sorted(["c", *kept])
    assert [await write(book, expiry.purge_refunded, NOW) for _ in range(2)] == [1, 0]
    assert await left(book) == kept


@pytest.mark.parametrize("stage", [Stage.SETTLED, Stage.CHARGED, Stage.REFUNDED])
async def test_what_no_job_has_goes_a_day_after_jobs_of_its_time(book: JobBook, stage: Stage) -> None:
    old, other = NOW - DAY - 1, Stage.CHARGED if stage is Stage.SETTLED else Stage.SETTLED
    await put(book, jobs, gone("has-a-job", created_at=NOW - DAY))
    await put(
        book, reservations, ended("old", stage, created_at=old), ended("has-a-job", stage, created_at=old),
        ended("young", stage, created_at=NOW - DAY), ended("other", other, created_at=old),
    )  # fmt: skip
    assert await write(book, expiry.purge_ended, stage, NOW) == 1
    assert await left(book) == ["has-a-job", "other", "young"]


async def test_who_purges_leaves_what_is_in_flight(book: JobBook) -> None:
    await book.reserved()
    for stage in Stage:
        assert await write(book, expiry.purge_ended, stage, 2 * NOW) == 0
    assert await write(book, expiry.purge_refunded, 2 * NOW) == 0
