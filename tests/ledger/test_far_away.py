"""A PostgreSQL that is far away: what a submit costs is round trips, and one account's many are a few of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text, update

from gateway.errors import LedgerUnavailable
from gateway.ledger import postgres_submits
from gateway.ledger import reservations as one_step
from gateway.ledger.deliveries import Planned
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.schema import Stage, accounts, deliveries, jobs, reservations
from gateway.ledger.steps import Accept, Admit, Cancel, Reserve, Steps
from gateway.limits.submit_decisions import Ask
from gateway.model.reasons import Reason
from tests.support.faraway import FarAway
from tests.support.ledgers import NOON, Postgres, assert_sound, beat, make_claim, make_profile, open_engine, rows_of
from tests.support.waiting import eventually

FAR: Final = 0.05
LEASE: Final = NOON + 60
PROFILE: Final = make_profile()


@pytest.fixture
async def distant(far: FarAway, postgres: Postgres, migrated: str) -> AsyncIterator[Engine]:
    """The engine of an empty ledger there."""
    made = open_engine(far.url_of(migrated), 2.0, 5.0)
    await made.write(lambda _: None)
    yield made
    await made.close()
    await asyncio.to_thread(postgres.empty, migrated)


async def submit(steps: Steps, name: str, account: str = "key:ci", **limits: Any) -> list[Reason]:
    """One submit from its head to its answer; why it was refused, if it was."""
    claim, profile = make_claim(name, account), make_profile(**limits)
    outcome = await steps.admit(Admit(claim, profile, NOON, LEASE))
    if outcome.denial is not None:
        return [outcome.denial.reason]
    outcome = await steps.reserve(Reserve(claim, profile, Ask(3, 2, "fast"), NOON, LEASE))
    if outcome.denial is not None:
        return [outcome.denial.reason]
    job = NewJob(f"job-{name}", "default", "/api/v1/marker", None)
    hook = Planned(f"hook-{name}", "container", job.request_id, account, "https://h.test/", "h.test:443", None)
    await steps.accept(Accept(claim, job, hook, "me", NOON, NOON + 3600))
    return []


async def test_many_reports_keep_nobody_else_waiting(distant: Engine) -> None:
    """Eight searches of the admin API took all connections that the gateway has for itself: it was not ready."""
    running, most = 0, 0

    def search(connection: Connection) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        connection.execute(text("SELECT pg_sleep(0.4)"))
        running -= 1

    searches = [asyncio.ensure_future(distant.report(search)) for _ in range(8)]
    await eventually(lambda: running == 2)
    for _ in range(2):
        await asyncio.gather(distant.read(lambda _: None), distant.write(lambda _: None, in_turn_of="key:ci"))
    assert not searches[-1].done()
    await asyncio.gather(*searches)
    assert most == 2


async def test_a_submit_is_at_most_six_round_trips_also_the_first_one_of_an_account(
    far: FarAway, distant: Engine
) -> None:
    steps = Steps(Ledger(distant))
    for name in ("first", "second"):
        before = far.trips
        assert await submit(steps, name) == []
        assert far.trips - before <= 6
    assert [row["stage"] for row in await distant.read(lambda c: rows_of(c, reservations))] == [Stage.ACCEPTED] * 2
    assert len(await distant.read(lambda c: rows_of(c, jobs))) == 2
    assert len(await distant.read(lambda c: rows_of(c, deliveries))) == 2
    (account,) = await distant.read(lambda c: rows_of(c, accounts))
    assert (account["concurrent"], account["pages_in_flight"]) == (0, 6)
    await distant.read(assert_sound)


async def test_to_look_is_one_round_trip(far: FarAway, distant: Engine) -> None:
    await distant.read(lambda c: rows_of(c, jobs))
    before = far.trips
    await distant.read(lambda c: rows_of(c, jobs))
    assert far.trips - before == 1


async def test_190_submits_of_one_account_at_once_are_a_few_round_trips_and_exact(
    far: FarAway, distant: Engine
) -> None:
    steps = Steps(Ledger(distant))
    before, began = far.trips, time.monotonic()
    told = await asyncio.gather(*(submit(steps, f"s{number}", pages_per_day=450) for number in range(190)))
    assert told.count([Reason.BUDGET_EXHAUSTED]) == 40
    assert told.count([]) == 150
    assert far.trips - before < 100
    assert time.monotonic() - began < 10  # 0.7 s on an idle machine; one by one it is a minute
    await distant.read(assert_sound)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_190_submits_that_the_container_did_not_take_are_a_few_round_trips(
    far: FarAway, distant: Engine, postgres: Postgres, migrated: str, is_lost: bool
) -> None:
    """It refuses them all, or is restarted while it has them; some had no pages yet."""
    near, steps = open_engine(postgres.url_of(migrated)), Steps(Ledger(distant))
    claims = [make_claim(f"s{number}") for number in range(190)]

    def work(connection: Connection) -> None:
        for number, claim in enumerate(claims):
            one_step.admit(connection, claim, PROFILE, NOON, LEASE)
            if number % 19 or is_lost:
                one_step.reserve(connection, claim, PROFILE, Ask(3, 2, ""), NOON, LEASE)

    await distant.read(lambda c: rows_of(c, jobs))  # else its first statement's deadline would have begun by now
    await near.write(work)
    before = far.trips
    if is_lost:
        lost = (steps.accept(Accept(claim, None, None, "me", NOON, NOON + 3600)) for claim in claims)
        await asyncio.gather(*lost)
    else:
        refunded = await asyncio.gather(*(steps.cancel(Cancel(claim, NOON)) for claim in claims))
        assert refunded == [3 if number % 19 else 0 for number in range(190)]
    assert far.trips - before < 30  # one by one they are 1,500
    await near.read(assert_sound)
    (account,) = await near.read(lambda c: rows_of(c, accounts))
    assert (account["concurrent"], account["pages_in_flight"]) == (0, 570 if is_lost else 0)
    rows = await near.read(lambda c: rows_of(c, reservations))
    assert [row["stage"] for row in rows] == [Stage.ACCEPTED] * 190 if is_lost else [Stage.REFUNDED] * 180
    assert await near.read(lambda c: rows_of(c, jobs)) == []
    await near.close()


async def test_two_gateways_at_one_account_oversell_nothing(far: FarAway, distant: Engine, migrated: str) -> None:
    other = open_engine(far.url_of(migrated), 5.0, 30.0)
    both = Steps(Ledger(distant)), Steps(Ledger(other))
    limits: dict[str, Any] = {"pages_per_day": 100, "concurrent_requests": 30}
    told = await asyncio.gather(*(submit(both[n % 2], f"s{n}", **limits) for n in range(80)))
    assert told.count([]) <= 33
    await distant.read(assert_sound)
    (account,) = await distant.read(lambda c: rows_of(c, accounts))
    assert account["pages_in_flight"] == 3 * told.count([])
    await other.close()


async def test_whom_others_outrun_takes_many_under_the_lock(
    far: FarAway, distant: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others change the account between each look and the write that follows it, but where it is locked."""
    steps, read_account = Steps(Ledger(distant)), postgres_submits.read_account
    await steps.admit(Admit(make_claim("first"), PROFILE, NOON, LEASE))

    def outrun(connection: Connection, account: str, now: float) -> Any:
        seen = read_account(connection, account, now)
        is_locked = connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT"
        return seen if is_locked else seen._replace(version="1")

    monkeypatch.setattr(postgres_submits, "read_account", outrun)
    before = far.trips
    claims = [make_claim(f"s{n}") for n in range(50)]
    outcomes = await asyncio.gather(*(steps.admit(Admit(claim, PROFILE, NOON, LEASE)) for claim in claims))
    assert [outcome.denial for outcome in outcomes] == [None] * 50
    assert outcomes[-1].after.concurrent == 51
    assert far.trips - before < 50
    await distant.read(assert_sound)


async def test_what_changed_between_look_and_write_is_looked_at_again(
    distant: Engine, postgres: Postgres, migrated: str
) -> None:
    near = open_engine(postgres.url_of(migrated))
    steps = Steps(Ledger(distant))
    assert await submit(steps, "first") == []

    seen = await distant.guarded(lambda c: postgres_submits.read_account(c, "key:ci", NOON))
    await near.write(lambda c: c.execute(update(accounts).values(pages_in_flight=accounts.c.pages_in_flight)))
    args = seen, NOON + 1, [(make_claim("late"), None)], NOON, LEASE
    assert not await distant.guarded(lambda c: postgres_submits.admit(c, *args))
    assert len(await distant.read(lambda c: rows_of(c, reservations))) == 1
    await near.close()


async def test_no_account_holds_more_than_half_of_the_connections(distant: Engine) -> None:
    """A quiet account's look waits for none of those of a loud one that wait, too."""

    def slow(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.5)"))

    loud = [asyncio.ensure_future(distant.write(slow, in_turn_of="loud")) for _ in range(12)]
    await asyncio.sleep(0)
    began = time.monotonic()
    await distant.write(beat, in_turn_of="quiet")
    took = time.monotonic() - began
    assert sum(task.done() for task in loud) <= 4, took
    assert [error for error in await asyncio.gather(*loud, return_exceptions=True) if error] == []


async def test_to_wait_for_a_connection_has_a_deadline_of_its_own(far: FarAway, migrated: str) -> None:
    """The transactions are as long as their own deadline allows, and the last one waits for longer than that."""
    engine = open_engine(far.url_of(migrated), 4.0, 30.0)
    hasty = open_engine(far.url_of(migrated), 30.0, 1.5)

    def slow(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(2.5)"))

    waiting = [engine.write(slow, in_turn_of="a") for _ in range(12)]  # four at once: the last four wait for 5 s
    assert [error for error in await asyncio.gather(*waiting, return_exceptions=True) if error] == []
    told = await asyncio.gather(*(hasty.write(slow, in_turn_of="a") for _ in range(12)), return_exceptions=True)
    words = {str(error) for error in told if isinstance(error, LedgerUnavailable)}
    assert words == {"no connection within ledger.turn_timeout"}
    for opened in (engine, hasty):
        await opened.close()
