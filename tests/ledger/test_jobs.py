"""The jobs of the ledger, on both engines: whose an id is, who follows it, what became of it, once."""

import asyncio
from functools import partial
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update

from gateway.ledger import expiry, watchers
from gateway.ledger import jobs as steps
from gateway.ledger.accounts import read_counts
from gateway.ledger.closing import Settled
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import Recorded, record_facts
from gateway.ledger.reservations import RequestIdTaken, ReservationLost, accept, admit, find, reclaim, reserve
from gateway.ledger.schema import JobState, Stage, jobs, replicas, reservations
from gateway.ledger.usage import reset
from gateway.limits.job_cost import Facts, FailedCosts, Known
from gateway.limits.submit_decisions import Ask
from gateway.model.jobs import JobRef
from tests.ledger.test_plans import plans
from tests.support.endings import end, job_of, settle
from tests.support.jobbook import JOB, TTL, JobBook, adopt, new
from tests.support.ledgers import NOON, make_claim, make_profile, rows_of

MANY = 3000
COPIES = 1200


def add_copies(connection: Connection, count: int) -> None:
    """Adds jobs like the one that there is, each with an id and a reservation of its own."""
    (one,) = rows_of(connection, jobs)
    names = [{"request_id": f"job-{number}", "reservation": f"r1-{number}"} for number in range(count)]
    connection.execute(insert(jobs), [{**one, **its} for its in names])


@pytest.fixture
def book(engine: Engine) -> JobBook:
    return JobBook(engine)


async def test_a_job_is_its_owners_as_the_reservation_says(book: JobBook) -> None:
    await book.running(account="key:acme")
    row = await book.row()
    assert row._asdict() == {
        "upstream": "container", "request_id": "job", "reservation": "r1", "account": "key:acme", "owner": "key:acme",
        "shape": "default", "path": "/api/v1/marker", "check_url": "https://gateway.test/api/v1/marker/job",
        "state": JobState.RUNNING, "created_at": int(NOON), "ended_at": None, "expires_at": None, "changed_at": None,
        "watcher": "me", "read_at": None, "known": 0,
    }  # fmt: skip
    assert await book.row(("other", "job")) is None
    assert await book.row(("container", "job-")) is None


async def test_begun_twice_is_begun_once(book: JobBook) -> None:
    await book.running()
    book.now += 5
    await book.begin(watcher="other")
    row = await book.row()
    assert (row.created_at, row.watcher) == (int(NOON), "me")
    settled = Settled("key:ci", 4, 6)
    assert await book.end() == Recorded(JobState.COMPLETE, int(book.now + TTL), Known.COMPLETE, settled, is_end=True)
    await book.begin()
    assert (await book.row()).state == JobState.COMPLETE


async def test_without_its_reservation_a_job_is_not_begun(book: JobBook) -> None:
    book.claims["r1"] = make_claim("r1", "key:ci")
    with pytest.raises(ReservationLost):
        await book.begin()
    assert await book.row() is None


@pytest.mark.parametrize("state", ["running", "complete", "expired"])
async def test_an_id_is_nobody_elses_as_long_as_it_is_somebodys(book: JobBook, state: str) -> None:
    await book.running()
    if state != "running":
        await book.end()
    if state == "expired":
        book.now += TTL + 1
    await book.reserved("r2", "key:other")
    with pytest.raises(RequestIdTaken):
        await book.begin(name="r2")
    with pytest.raises(RequestIdTaken):
        await book.do(lambda c: steps.begin(c, find(c, "r2"), new(), "me", book.now))
    assert (await book.row()).reservation == "r1"


async def test_a_job_whose_id_the_upstream_gave_to_another_owner_s_ends(book: JobBook) -> None:
    """What is there under that id is the other's."""
    await book.running()
    assert not (await book.do(steps.end_another_owners, *JOB, "key:ci", book.now)).was_readable
    assert (await book.row()).state == JobState.RUNNING
    assert not (
        await book.do(steps.end_another_owners, *JOB, "key:other", book.now - 3600)
    ).was_readable  # it is newer
    ended = await book.do(steps.end_another_owners, *JOB, "key:other", book.now)
    assert (ended.was_readable, ended.settled) == (True, Settled("key:ci", 10, 0))
    assert (await book.row()).state == JobState.GONE
    assert not (await book.do(steps.end_another_owners, *JOB, "key:other", book.now)).was_readable
    assert not (await book.do(steps.end_another_owners, "container", "none", "key:other", book.now)).was_readable


async def test_the_upstream_deletes_no_job_that_has_the_id_of_one_that_was(book: JobBook) -> None:
    """A sweep asks seconds after it looked."""
    await book.running()
    await book.forget()
    assert await book.claim() == ["job"]
    gone = await book.row()
    book.now += 61
    await book.running(name="r2", account="key:other")
    assert await book.claim() == []
    before = await book.row()
    await book.do(expiry.mark_deleted, [gone], book.now)
    assert await book.row() == before


async def test_an_id_that_is_gone_may_be_given_again_and_replicas_hear_of_it(book: JobBook) -> None:
    await book.running()
    await book.end()
    assert await book.forget()
    book.now += 20
    await book.running(name="r2", account="key:other")
    row = await book.row()
    assert (row.owner, row.state, row.reservation, row.ended_at) == ("key:other", JobState.RUNNING, "r2", None)
    assert await book.heard(book.now - 1) == ["job"]
    assert (await book.end(7)).settled == Settled("key:other", 7, 3)


async def test_one_id_of_two_upstreams_is_two_jobs(book: JobBook) -> None:
    await book.running()
    await book.reserved("r2", "key:other", "staging")
    await book.begin(name="r2")
    owners = [(await book.row((name, "job"))).owner for name in ("container", "staging")]
    assert owners == ["key:ci", "key:other"]
    assert (await book.end(job=("staging", "job"))).settled.account == "key:other"
    assert (await book.row()).state == JobState.RUNNING


@pytest.mark.parametrize(
    ("pages", "failed", "state", "settled"),
    [
        (4, False, JobState.COMPLETE, (4, 6)),
        (None, False, JobState.COMPLETE, (10, 0)),
        (12, False, JobState.COMPLETE, (12, 0)),
        (4, True, JobState.FAILED, (0, 10)),
        (None, True, JobState.FAILED, (0, 10)),
    ],
)
async def test_an_end_settles_and_starts_the_time(
    book: JobBook, pages: int | None, failed: bool, state: JobState, settled: tuple[int, int]
) -> None:
    await book.running()
    book.now += 30.702  # divided by 0.001 it is the millisecond before
    known = Known.FAILED if failed else Known.COMPLETE
    expected = Recorded(state, int(book.now + TTL), known, Settled("key:ci", *settled), is_end=True)
    assert await book.end(pages, failed=failed) == expected
    row = await book.row()
    assert (row.state, row.ended_at, row.expires_at) == (state, int(book.now), int(book.now + TTL))
    assert row.changed_at == int(book.now * 1000)
    assert await book.used() == [(*settled, int(failed))]


async def test_a_second_end_changes_nothing(book: JobBook) -> None:
    await book.running()
    first = await book.end()
    before = await book.row()
    book.now += 10
    assert first is not None
    again = await book.end(9)
    assert again == first._replace(settled=None, is_end=False)
    assert await book.row() == before
    assert (await book.end(9, failed=True)).settled is None
    assert await book.used() == [(4, 6, 0)]
    assert await book.end(job=("container", "nobody's")) is None


async def test_fifty_ends_at_once_settle_once(book: JobBook) -> None:
    await book.running()
    ends = await asyncio.gather(*(book.end(number % 11, failed=number % 2 == 1) for number in range(50)))
    assert sum(one.is_end for one in ends) == 1
    settled = [one.settled for one in ends if one.settled is not None]
    assert len(settled) <= 2  # once it may have counted as failed, before one said that it went well
    ((pages, refunded, failed),) = await book.used()
    assert (pages, refunded, failed) == (settled[-1].pages, 10 - pages, 0)
    assert (await book.row()).state == JobState.COMPLETE


async def test_a_job_that_was_charged_is_mended_by_its_end(book: JobBook) -> None:
    await book.running()
    book.now += TTL + 1
    assert await book.do(reclaim, "key:ci", book.now) == 10
    assert (await book.end(4)).settled == Settled("key:ci", -6, 6)
    assert await book.used() == [(4, 6, 0)]


async def test_forgotten_is_forgotten_once_and_nobodys(book: JobBook) -> None:
    await book.running()
    await book.end()
    book.now += 10
    assert await book.forget()
    row = await book.row()
    assert (row.state, row.expires_at, row.changed_at) == (JobState.GONE, int(book.now), int(book.now * 1000))
    assert row.ended_at == int(book.now - 10)  # its end stays what it was
    book.now += 10
    assert not await book.forget()
    assert await book.row() == row
    assert not await book.forget(("container", "nobody's"))
    assert (await book.end()).settled is None
    found = await book.engine.read(lambda c: rows_of(c, reservations))
    assert [one["request_id"] for one in found] == [None]
    assert await book.used() == [(4, 6, 0)]


async def test_a_job_forgotten_while_it_runs_stays_charged_as_reserved_unless_it_was_complete(book: JobBook) -> None:
    """Another replica may have asked about it before, and tell of that behind its deletion."""
    await book.running()
    assert await book.forget()
    assert await book.used() == [(10, 0, 0)]
    await book.do(record_facts, JobRef(*JOB, "r1"), Facts(Known.LOST), FailedCosts.NOTHING, book.now, TTL)
    assert await book.used() == [(10, 0, 0)]  # whoever deletes it brings that about
    assert (await book.end(failed=True)).settled is None
    assert await book.used() == [(10, 0, 0)]
    assert (await book.end(4)).settled == Settled("key:ci", -6, 6)
    assert await book.used() == [(4, 6, 0)]
    assert (await book.row()).state == JobState.GONE


@pytest.mark.parametrize("state", [JobState.COMPLETE, JobState.FAILED])
async def test_an_end_that_a_version_without_facts_wrote_is_known(book: JobBook, state: JobState) -> None:
    """In a rolling update: it leaves `known` as this one wrote it, when it knew only that something was read."""
    await book.running()
    await book.do(record_facts, JobRef(*JOB, "r1"), Facts(Known.TAKEN), FailedCosts.IF_TAKEN, book.now, TTL)
    failed = state is JobState.FAILED
    await book.do(settle, "key:ci", "r1", 4, book.now, failed=failed)
    ended = {"state": state, "ended_at": int(book.now), "expires_at": int(book.now + TTL)}
    await book.engine.write(lambda c: c.execute(update(jobs).values(**ended)))
    found = steps.known_of(await book.row())
    assert found == Known.TAKEN | (Known.LOST if failed else Known.COMPLETE)
    await book.do(record_facts, JobRef(*JOB, "r1"), Facts(Known.TAKEN), FailedCosts.IF_TAKEN, book.now, TTL)
    assert await book.used() == [(10, 0, 0) if failed else (4, 6, 0)]


async def test_a_charge_that_a_reset_forgot_stays_forgotten_whatever_is_recorded(book: JobBook) -> None:
    await book.running()
    facts = [Known.GIVEN_UP, Known.FAILED, Known.TAKEN]
    for number, known in enumerate(facts):
        await book.do(record_facts, JobRef(*JOB, "r1"), Facts(known), FailedCosts.IF_TAKEN, book.now, TTL)
        if not number:
            book.now += 5
            await book.do(reset, "key:ci", book.now)
        book.now += 5
    counts = await book.engine.read(lambda c: read_counts(c, "key:ci", book.now))
    assert counts.day.pages == 0


async def test_many_forget_and_end_at_once(book: JobBook) -> None:
    await book.running()
    steps_at_once = [book.end(4) if number % 2 else book.forget() for number in range(20)]
    found = await asyncio.gather(*steps_at_once)
    assert sum(one is True for one in found) == 1
    assert (await book.row()).state == JobState.GONE
    assert await book.used() in ([(4, 6, 0)], [(10, 0, 0)])


async def test_replicas_hear_of_ends_and_deletions_andadoptions(book: JobBook) -> None:
    for number in range(4):
        await book.running(f"job-{number}", f"r{number}")
    assert await book.heard(0) == []
    book.now += 1
    await book.end(job=("container", "job-2"))
    book.now += 1
    await book.forget(("container", "job-1"))
    book.now += 1
    await book.do(adopt, ("container", "job-0"), "other", book.now)
    assert await book.heard(0) == ["job-2", "job-1", "job-0"]
    assert await book.heard(NOON + 1) == ["job-1", "job-0"]
    assert await book.heard(NOON + 3) == []


async def test_what_is_heard_at_once_is_bounded(book: JobBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_HEARD_ROWS", 2)
    for number in range(4):
        await book.running(f"job-{number}", f"r{number}")
        await book.end(job=("container", f"job-{number}"))
        book.now += 1
    assert await book.heard(0) == ["job-0", "job-1"]


async def test_a_replica_lives_until_it_says_so_no_more(book: JobBook) -> None:
    await book.beat("me", NOON + 30)
    await book.beat("other", NOON + 30)
    book.now += 20
    await book.beat("me", book.now + 30)
    names = select(replicas.c.name, replicas.c.alive_until).order_by(replicas.c.name)
    assert [*map(tuple, await book.engine.read(lambda c: c.execute(names).all()))] == [
        ("me", int(NOON + 50)), ("other", int(NOON + 30)),
    ]  # fmt: skip
    book.now += 3700
    await book.beat("me", book.now + 30)
    assert [row.name for row in await book.engine.read(lambda c: c.execute(names).all())] == ["me"]
    await book.do(watchers.leave, "me")
    await book.do(watchers.leave, "me")
    assert await book.engine.read(lambda c: c.execute(names).all()) == []


async def test_only_what_nobody_follows_is_taken_over(book: JobBook) -> None:
    for name, watcher in (("a", "living"), ("b", "dead"), ("c", "never-heard-of"), ("d", "me"), ("e", "dead")):
        await book.running(name, f"r-{name}", watcher)
    await book.end(job=("container", "e"))
    await book.beat("dead", NOON + 30)
    book.now += 31
    await book.beat("living", book.now + 30)
    await book.beat("me", book.now + 30)
    assert await book.take_over("me") == {"b", "c"}
    assert await book.take_over("me") == set()
    assert await book.watchers() == {"a": "living", "b": "me", "c": "me", "d": "me", "e": "dead"}
    assert set(await book.heard(book.now - 1)) == {"b", "c"}  # so that a watcher that was only away lets go
    mine = await book.engine.read(lambda c: watchers.followed_by(c, "me"))
    assert sorted(job.key for job in mine) == [("container", "b"), ("container", "c"), ("container", "d")]


async def test_a_replica_that_left_is_succeeded_at_once(book: JobBook) -> None:
    await book.beat("gone", NOON + 30)
    await book.running(watcher="gone")
    assert await book.take_over("me") == set()
    await book.do(watchers.leave, "gone")
    assert await book.take_over("me") == {"job"}


async def test_at_once_some_are_taken_the_oldest_first(book: JobBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MAX_TAKEN", 2)
    for number in range(5):
        await book.running(f"job-{number}", f"r{number}", "dead")
        book.now += 1
    taken = [await book.take_over("me") for _ in range(4)]
    assert taken == [{"job-0", "job-1"}, {"job-2", "job-3"}, {"job-4"}, set()]


async def test_of_several_that_succeed_each_job_has_one(book: JobBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MAX_TAKEN", 5)
    names = [f"job-{number}" for number in range(40)]
    for number, name in enumerate(names):
        await book.running(name, f"r{number}", "dead")
    heirs = [f"heir-{number}" for number in range(6)]
    for heir in heirs:
        await book.beat(heir, NOON + 30)

    async def inherit(heir: str) -> list[str]:
        taken: list[str] = []
        while found := await book.take_over(heir):
            taken += found
        return taken

    taken = await asyncio.gather(*map(inherit, heirs))
    assert sorted(chain.from_iterable(taken)) == sorted(names)
    left: list[str] = []
    while found := await book.take_over("heir-0"):
        left += found
    assert left == []
    watched = await book.watchers()
    assert watched == {name: heir for heir, mine in zip(heirs, taken, strict=True) for name in mine}


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_none_of_many_is_taken_twice(book: JobBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "MAX_TAKEN", 5)
    await book.running("job", "r1", "dead")
    await book.engine.write(partial(add_copies, count=COPIES))  # so many that to look for some takes a moment
    heirs = [f"heir-{number}" for number in range(8)]
    for heir in heirs:
        await book.beat(heir, NOON + 30)

    async def inherit(heir: str) -> list[str]:
        taken: list[str] = []
        while found := await book.engine.write(lambda c: watchers.take_over(c, heir, book.now)):
            taken += [row.request_id for row in found]
        return taken

    taken = list(chain.from_iterable(await asyncio.gather(*map(inherit, heirs))))
    assert len(taken) == len(set(taken)) == COPIES + 1


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_what_another_is_taking_over_is_not_waited_for(book: JobBook, ledger_url: str) -> None:
    await book.running("a", "r1", "dead")
    await book.running("b", "r2", "dead")
    raw = await _connect(ledger_url)
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute("SELECT 1 FROM jobs WHERE request_id = 'a' FOR UPDATE")
    assert await book.take_over("me") == {"b"}
    await transaction.rollback()
    await raw.close()
    assert await book.take_over("me") == {"a"}


async def _connect(url: str) -> Any:
    import asyncpg  # noqa: PLC0415 -- for this engine alone

    return await asyncpg.connect(url)


async def test_anadopted_job_is_anothers(book: JobBook) -> None:
    await book.running()
    await book.do(adopt, JOB, "other", NOON + 5)
    row = await book.row()
    assert (row.watcher, row.changed_at) == ("other", int(NOON + 5) * 1000)
    await book.end()
    before = await book.row()
    await book.do(adopt, JOB, "third", NOON + 9)
    assert await book.row() == before


async def test_jobs_are_counted_by_state(book: JobBook) -> None:
    assert await book.engine.read(steps.count) == {"running": 0, "complete": 0, "failed": 0}
    for number in range(6):
        await book.running(f"job-{number}", f"r{number}")
    await book.end(job=("container", "job-0"))
    await book.end(job=("container", "job-1"), failed=True)
    await book.end(job=("container", "job-2"))
    await book.forget(("container", "job-2"))
    assert await book.engine.read(steps.count) == {"running": 3, "complete": 1, "failed": 1}


def fill(connection: Connection) -> None:
    """Jobs that are over: complete ones that can still be read, and many more that are gone."""
    old = [
        {
            "upstream": "container", "request_id": f"old-{n}", "reservation": f"old-{n}", "account": f"key:{n % 50}",
            "owner": f"key:{n % 50}", "shape": "default", "path": "/p", "check_url": None,
            "state": JobState.GONE if n % 10 else JobState.COMPLETE, "created_at": n, "ended_at": n,
            "expires_at": None if n % 10 else int(NOON) + n, "changed_at": n, "watcher": "dead",
        }
        for n in range(MANY)
    ]  # fmt: skip
    connection.execute(insert(jobs), old)
    settled = [
        {
            "id": f"old-{n}", "account": f"key:{n % 50}", "owner": "o", "stage": Stage.SETTLED, "mode": "",
            "pages": 3, "price": 0, "day": 20261101, "month": 202611, "upstream": "container",
            "request_id": f"old-{n}", "created_at": 1, "expires_at": None, "settled_at": 2,
        }
        for n in range(MANY)
    ]  # fmt: skip
    connection.execute(insert(reservations), settled)


def live(connection: Connection) -> None:
    """All that is done about jobs."""
    claim = make_claim("a", "key:7")
    admit(connection, claim, make_profile(), NOON, NOON + 60)
    reserve(connection, claim, make_profile(), Ask(3, 2, ""), NOON, NOON + 60)
    steps.begin(connection, accept(connection, claim, "job", NOON + 60), new(), "me", NOON)
    watchers.beat(connection, "me", NOON, NOON + 30)
    adopt(connection, JOB, "other", NOON)
    watchers.take_over(connection, "me", NOON)
    watchers.followed_by(connection, "me")
    steps.changed_since(connection, int(NOON) * 1000 - 10_000)
    over = expiry.expired(connection, 2 * NOON)
    assert over
    expiry.forget_expired(connection, over[:99], 2 * NOON)
    due = expiry.due_gone(connection, {"container": 9, "other": 9}, 2 * NOON)
    assert len(due) == 9
    assert expiry.claim_gone(connection, due, 2 * NOON)
    assert expiry.stray_gone(connection, ["other"], 2 * NOON)
    steps.count(connection)
    end(connection, JOB, 2, NOON, TTL, failed=False)
    steps.forget(connection, job_of(connection, JOB), NOON)
    gone = steps.find(connection, *JOB)
    assert gone is not None
    expiry.mark_deleted(connection, [gone], 10)
    expiry.purge(connection, 20)
    expiry.purge_refunded(connection, 20)
    for stage in (Stage.SETTLED, Stage.CHARGED, Stage.REFUNDED):
        expiry.purge_ended(connection, stage, 20)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_sqlite_goes_through_no_jobs_but_those_it_looks_for(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        with plans(connection) as found:
            live(connection)
        return found

    # To count is to go through the index of those that can be read: it is as small as they are few.
    found = await engine.write(work)
    assert [table for table in found if table in {"jobs", "reservations", "accounts", "deliveries"}] in ([], ["jobs"])


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_sqlite_finds_what_is_due_at_an_upstream_however_much_is_due_at_others(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        raw: Any = connection.connection.driver_connection
        asked: list[str] = []
        raw.set_trace_callback(asked.append)
        expiry.due_gone(connection, {"container": 9}, NOON)
        expiry.expired(connection, NOON)
        raw.set_trace_callback(None)
        return [row[3] for query in asked for row in raw.execute(f"EXPLAIN QUERY PLAN {query}") if " jobs " in row[3]]

    assert await engine.write(work) == [
        "SEARCH jobs USING INDEX ix_jobs_gone_first (upstream=? AND expires_at<?)",
        "SEARCH jobs USING INDEX ix_jobs_gone_again (upstream=? AND expires_at<?)",
        "SEARCH jobs USING INDEX ix_jobs_readable (expires_at<?)",
    ]


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_sqlite_counts_along_the_index_of_those_that_live(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        raw: Any = connection.connection.driver_connection
        query = "EXPLAIN QUERY PLAN SELECT state, count(*) FROM jobs WHERE state != 3 GROUP BY state"
        return [row[3] for row in raw.execute(query)]

    assert "ix_jobs_living" in " ".join(await engine.write(work))


QUERIES = [
    """SELECT * FROM jobs WHERE state != 3 AND state = 0 AND watcher != 'me' AND NOT EXISTS
    (SELECT 1 FROM replicas WHERE name = jobs.watcher AND alive_until > 5) ORDER BY created_at LIMIT 500""",
    "SELECT upstream, request_id FROM jobs WHERE state != 3 AND state = 0 AND watcher = 'me'",
    "SELECT * FROM jobs WHERE changed_at > 1795435190000 ORDER BY changed_at, request_id LIMIT 5000",
    "SELECT * FROM jobs WHERE expires_at <= 1795435200 AND state != 3 ORDER BY expires_at LIMIT 200",
    """SELECT * FROM jobs WHERE state = 3 AND expires_at - changed_at / 1000 < 60 AND upstream = 'container'
    AND expires_at <= 1795435200 ORDER BY expires_at LIMIT 32""",
    "SELECT * FROM jobs WHERE state = 3 AND expires_at <= 1795435200 AND upstream NOT IN ('container') LIMIT 200",
    "SELECT state, count(*) FROM jobs WHERE state != 3 GROUP BY state",
    "SELECT * FROM jobs WHERE state = 3 AND expires_at IS NULL AND created_at < 20 ORDER BY created_at LIMIT 200",
    "SELECT * FROM jobs WHERE upstream = 'container' AND request_id = 'old-5'",
]


def goes_through(plan: Any, table: str) -> bool:
    """Whether a plan of PostgreSQL's reads a table from one end to the other."""
    if isinstance(plan, list):
        return any(goes_through(part, table) for part in plan)
    if not isinstance(plan, dict):
        return False
    here = plan.get("Node Type") == "Seq Scan" and plan.get("Relation Name") == table
    return here or any(goes_through(part, table) for part in plan.values())


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_postgresql_goes_through_no_jobs_but_those_it_looks_for(engine: Engine) -> None:
    def work(connection: Connection) -> list[str]:
        fill(connection)
        for table in ("jobs", "reservations"):
            connection.execute(text(f"ANALYZE {table}"))
        live(connection)
        # As for a disk without a head. By default a tenth of the jobs is about where either way costs the same, and
        # what ANALYZE samples decides.
        connection.execute(text("SET LOCAL random_page_cost = 1.1"))
        plans = {query: connection.execute(text(f"EXPLAIN (FORMAT JSON) {query}")).scalar() for query in QUERIES}
        return [query for query, plan in plans.items() if goes_through(plan, "jobs")]

    assert await engine.write(work) == []
