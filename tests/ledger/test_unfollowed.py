"""Jobs that nobody follows any more, on both engines: they end once, are charged once, and free what they hold."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from gateway.ledger.accounts import read_counts
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob, Recorded, begin, find, forget
from gateway.ledger.reservations import accept, admit, reserve
from gateway.ledger.schema import JobState
from gateway.ledger.unfollowed import give_up, running
from gateway.limits.job_cost import Known
from gateway.limits.submit_decisions import Ask
from gateway.model.jobs import JobRef
from tests.support.endings import end
from tests.support.ledgers import NOON, assert_sound, make_claim, make_profile

TTL, PAGES = 3600.0, 10
ANN, BOB = "key:ann", "key:bob"


def begun(connection: Connection, request_id: str, account: str, at: float = NOON) -> JobRef:
    """A job of ten pages that runs."""
    claim = replace(make_claim(f"of-{request_id}", account), upstream="container")
    admit(connection, claim, make_profile(), at, at + 60)
    reserve(connection, claim, make_profile(), Ask(PAGES, 1, ""), at, at + 60)
    accepted = accept(connection, claim, request_id, at + TTL)
    begin(connection, accepted, NewJob(request_id, "default", "/api/v1/marker", None), "me", at)
    return JobRef("container", request_id, claim.id)


@pytest.fixture
async def four(engine: Engine) -> list[JobRef]:
    """Two running jobs of Ann, one of Bob; the fourth, of Bob, has ended."""

    def work(connection: Connection) -> list[JobRef]:
        owners = {"one": ANN, "two": ANN, "three": BOB, "four": BOB}
        jobs = [begun(connection, name, owner, NOON + at) for at, (name, owner) in enumerate(owners.items())]
        end(connection, jobs[3].key, 4, NOON + 9, TTL, failed=False)
        return jobs

    return await engine.write(work)


async def given_up(engine: Engine, jobs: Collection[JobRef], now: float = NOON + 99) -> dict[str, Recorded]:
    found = await engine.write(lambda c: give_up(c, jobs, now, TTL))
    await engine.write(assert_sound)
    return {ref.request_id: recorded for ref, recorded in found}


async def pages_of(engine: Engine, account: str) -> tuple[int, int]:
    """In flight, and taken of the day's budget, which begins with what is reserved."""
    counts = await engine.read(lambda c: read_counts(c, account, NOON + 99))
    return counts.pages_in_flight, counts.day.pages


async def test_those_that_still_run_are_read_oldest_first(engine: Engine, four: list[JobRef]) -> None:
    rows = await engine.read(lambda c: running(c, [four[2], four[3], four[0]]))
    assert [row.request_id for row in rows] == ["one", "three"]
    assert await engine.read(lambda c: running(c, [])) == []
    other = JobRef("container", "one", "of-another")  # the same id, given to another job before
    assert await engine.read(lambda c: running(c, [other])) == []


async def test_what_is_given_up_has_ended_and_costs_what_was_reserved(engine: Engine, four: list[JobRef]) -> None:
    assert await pages_of(engine, ANN) == (2 * PAGES, 2 * PAGES)
    found = await given_up(engine, [four[0]])
    assert list(found) == ["one"]
    assert (found["one"].is_end, found["one"].known) == (True, Known.GIVEN_UP)
    assert found["one"].expires_at == NOON + 99 + TTL
    assert found["one"].settled is not None
    assert await pages_of(engine, ANN) == (PAGES, 2 * PAGES)  # it holds nothing any more, and gives nothing back
    row = await engine.read(lambda c: find(c, *four[0].key))
    assert row is not None
    assert row.state != JobState.RUNNING


async def test_jobs_of_several_accounts_are_given_up_together(engine: Engine, four: list[JobRef]) -> None:
    assert sorted(await given_up(engine, four)) == ["one", "three", "two"]
    assert await pages_of(engine, ANN) == (0, 2 * PAGES)
    assert await pages_of(engine, BOB) == (0, PAGES + 4)  # the fourth had ended, and stays as it was charged


async def test_none_is_charged_twice(engine: Engine, four: list[JobRef]) -> None:
    await given_up(engine, four)
    assert await given_up(engine, four, NOON + 200) == {}
    assert await pages_of(engine, ANN) == (0, 2 * PAGES)


async def test_one_that_its_owner_deleted_meanwhile_is_left_alone(engine: Engine, four: list[JobRef]) -> None:
    await engine.write(lambda c: forget(c, four[0], NOON + 50))
    before = await pages_of(engine, ANN)
    assert await given_up(engine, [four[0]]) == {}
    assert await pages_of(engine, ANN) == before


async def test_one_that_ends_well_after_all_costs_what_the_container_says(engine: Engine, four: list[JobRef]) -> None:
    await given_up(engine, [four[0]])
    recorded = await engine.write(lambda c: end(c, four[0].key, 3, NOON + 150, TTL, failed=False))
    assert recorded is not None
    assert not recorded.is_end
    assert await pages_of(engine, ANN) == (PAGES, PAGES + 3)
    await engine.write(assert_sound)
