"""Webhooks that go out, on both engines: planned, due, claimed by one at a time, and ended."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert
from sqlalchemy.exc import IntegrityError

from gateway.ledger import expiry, jobs
from gateway.ledger.audit import recorded
from gateway.ledger.deliveries import (
    DeliveryLease,
    DeliveryOutcome,
    Due,
    GivenUp,
    Late,
    Planned,
    drop,
    failing,
    find_late,
    first_due,
    give_up,
    make_due,
    mark_dead,
    mark_delivered,
    plan,
    purge,
    release,
    retry,
    schedule_retry,
    untried,
)
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.listings import counts, jobs_with_id, list_webhooks, shown
from gateway.ledger.schema import DeliveryState, deliveries
from gateway.ledger.statement import raw_of
from gateway.ledger.steps import Accept, Admit, Reserve, Steps
from gateway.limits.job_cost import Facts, FailedCosts, Known
from gateway.limits.served_owners import ServedOwners
from gateway.limits.submit_decisions import Ask
from gateway.model.jobs import JobRef
from tests.support.ledgers import NOON, Script, make_claim, make_profile, rows_of

OK, BAD = DeliveryOutcome(204, None), DeliveryOutcome(500, "status")
GREAT = 1000


def planned(name: str = "d1", **changes: Any) -> Planned:
    values = {
        "id": name, "upstream": "default", "request_id": f"job-{name}", "owner": "key:ci",
        "url": "https://hooks.example/h?token=canary", "destination": "hooks.example:443",
        "check_url": "https://gateway.example/api/v1/marker/r1",
    }  # fmt: skip
    return Planned(**{**values, **changes})


async def ids_listed(engine: Engine, state: DeliveryState | None = None, most: int = 9) -> list[str]:
    return [one["id"] for one in await engine.read(lambda c: list_webhooks(c, state, most))]


def plan_due(connection: Connection, name: str, at: float, **changes: Any) -> None:
    """One whose job has ended then."""
    wanted = planned(name, **changes)
    plan(connection, wanted, NOON)
    make_due(connection, wanted.upstream, wanted.request_id, "complete", at)


async def plan_and_end(engine: Engine, name: str = "d1", at: float = NOON, **changes: Any) -> None:
    wanted = planned(name, **changes)
    await engine.write(lambda c: plan(c, wanted, at))
    assert await engine.write(lambda c: make_due(c, wanted.upstream, wanted.request_id, "complete", at))


async def claim(
    engine: Engine, now: float = NOON, me: str = "me", most: int = GREAT, each: int = GREAT, **rooms: int
) -> list[Due]:
    lines = {(f"{name}:443", "key:ci"): room for name, room in rooms.items()}
    return await engine.write(lambda c: claim_due(c, me, now, now + 60, Bounds(most, each, lines)))


async def submit(steps: Steps, name: str, at: float = NOON, *, has_webhook: bool = True) -> Accept:
    """A submit whose job has the id that all have here, and a webhook of its own."""
    taker = make_claim(name)
    await steps.admit(Admit(taker, make_profile(), at, at + 60))
    await steps.reserve(Reserve(taker, make_profile(), Ask(1, 1, ""), at, at + 60))
    hook = planned(f"hook-{name}", upstream=taker.upstream, request_id="job") if has_webhook else None
    step = Accept(taker, NewJob("job", "default", "/", None), hook, "me", at, at + 60)
    await steps.accept(step)
    return step


async def record_facts(engine: Engine, job: JobRef, facts: Facts, at: float) -> None:
    await engine.write(lambda c: jobs.record_facts(c, job, facts, FailedCosts.NOTHING, at, 60))


async def states(engine: Engine) -> dict[str, tuple[DeliveryState, str | None]]:
    rows = await engine.read(lambda c: rows_of(c, deliveries))
    return {row["id"]: (DeliveryState(row["state"]), row["status"]) for row in rows}


async def row(engine: Engine, name: str = "d1") -> dict[str, Any]:
    found = await engine.read(lambda c: shown(c, name))
    assert found is not None
    return found


async def test_a_webhook_waits_for_its_job_then_it_is_due_once(engine: Engine) -> None:
    await engine.write(lambda c: plan(c, planned(), NOON))
    with pytest.raises(IntegrityError):
        await engine.write(lambda c: plan(c, planned("d2", request_id="job-d1"), NOON))
    assert await claim(engine, NOON + 10**6) == []
    assert await engine.read(first_due) is None
    told = [await engine.write(lambda c: make_due(c, "default", "job-d1", "failed", NOON + 5)) for _ in range(2)]
    assert told == [True, False]
    assert not await engine.write(lambda c: make_due(c, "other", "job-d1", "failed", NOON))
    assert await engine.read(first_due) == NOON + 5
    (due,) = await claim(engine, NOON + 6)
    assert due == Due(
        DeliveryLease("d1", "me", 1), "job-d1", "key:ci", planned().url, "hooks.example:443",
        planned().check_url, "failed", int(NOON + 5),
    )  # fmt: skip


@pytest.mark.parametrize("has_webhook", [True, False])
async def test_an_end_tells_whether_it_made_a_webhook_due(engine: Engine, *, has_webhook: bool) -> None:
    step = await submit(Steps(Ledger(engine)), "r1", has_webhook=has_webhook)
    job, told = JobRef(step.claim.upstream, "job", "r1"), list[bool]()
    for facts in (Facts(Known.TAKEN), Facts(Known.COMPLETE, 1), Facts(Known.FAILED)):
        done = partial(jobs.record_facts, job=job, facts=facts, failed_costs=FailedCosts.NOTHING, now=NOON, ttl=60)
        known = await engine.write(done)
        assert known is not None
        told.append(known.makes_due)
    assert told == [False, has_webhook, False]
    assert (await engine.read(first_due) is not None) == has_webhook


async def test_a_job_that_is_deleted_takes_along_the_webhook_that_waits(engine: Engine) -> None:
    await engine.write(lambda c: plan(c, planned(), NOON))
    await plan_and_end(engine, "d2")
    await engine.write(lambda c: drop(c, ("default", "job-d1"), ("default", "job-d2")))
    assert await ids_listed(engine) == ["d2"]


async def test_a_claim_is_a_lease(engine: Engine) -> None:
    await plan_and_end(engine)
    (due,) = await claim(engine)
    assert await claim(engine, NOON + 59, "other") == []
    (taken,) = await claim(engine, NOON + 60, "other")
    assert taken.lease == DeliveryLease("d1", "other", 2)
    for end in (mark_delivered, mark_dead):
        assert not await engine.write(lambda c, end=end: end(c, due.lease, OK, NOON))  # type: ignore[misc] # likewise
    assert not await engine.write(lambda c: schedule_retry(c, due.lease, BAD, NOON))
    await engine.write(lambda c: release(c, [due.lease], NOON))
    assert (await row(engine))["leased_by"] == "other"
    assert await engine.write(lambda c: mark_delivered(c, taken.lease, OK, NOON + 61))
    assert not await engine.write(lambda c: mark_delivered(c, taken.lease, OK, NOON + 61))
    kept = await row(engine)
    assert (kept["state"], kept["last_status"], kept["last_error"]) == (DeliveryState.DELIVERED, 204, None)
    assert (kept["next_at"], kept["leased_by"], kept["ended_at"]) == (None, None, int(NOON + 61))


async def test_no_lease_is_longer_than_those_that_are_looked_for(engine: Engine) -> None:
    """Else one that runs on would take no place of its destination's, and more would be sent there at once."""
    await plan_and_end(engine)
    await plan_and_end(engine, "d2")
    (first,) = await engine.write(lambda c: claim_due(c, "me", NOON, NOON + 86_400, Bounds(GREAT, 1)))
    assert await engine.write(lambda c: claim_due(c, "me", NOON, NOON + 86_400, Bounds(GREAT, 1))) == []
    assert (await row(engine, first.lease.id))["next_at"] == NOON + 600


async def test_a_second_lease_of_the_same_replica_is_another_one(engine: Engine) -> None:
    await plan_and_end(engine)
    (first,) = await claim(engine)
    (second,) = await claim(engine, NOON + 60)
    assert not await engine.write(lambda c: schedule_retry(c, first.lease, BAD, NOON))
    assert await engine.write(lambda c: schedule_retry(c, second.lease, BAD, NOON + 70))


async def test_what_failed_is_due_again_and_what_is_dead_is_not(engine: Engine) -> None:
    await plan_and_end(engine)
    (due,) = await claim(engine)
    assert await engine.write(lambda c: schedule_retry(c, due.lease, BAD, NOON + 30.9))
    assert (await row(engine))["last_error"] == "status"
    assert await claim(engine, NOON + 29) == []
    (again,) = await claim(engine, NOON + 30)
    assert again.since == due.since
    assert await engine.write(lambda c: mark_dead(c, again.lease, DeliveryOutcome(410, "gone"), NOON + 31))
    assert await claim(engine, NOON + 10**6) == []
    assert (await row(engine))["state"] == DeliveryState.DEAD


async def test_an_attempt_that_was_broken_off_does_not_count(engine: Engine) -> None:
    await plan_and_end(engine)
    (due,) = await claim(engine)
    await engine.write(lambda c: release(c, [due.lease], NOON + 1))
    (again,) = await claim(engine, NOON + 1, "other")
    assert again.lease == DeliveryLease("d1", "other", 1)


async def test_the_longest_due_come_first_and_each_destination_has_its_room(engine: Engine) -> None:
    for number in range(6):
        await plan_and_end(engine, f"a{number}", NOON - number, destination="a:443")
    await plan_and_end(engine, "b0", NOON, destination="b:443")
    await plan_and_end(engine, "c0", NOON, destination="c:443")
    assert [due.lease.id for due in await claim(engine, most=1, each=2)] == ["a5"]
    assert sorted(due.lease.id for due in await claim(engine, each=2, c=0)) == ["a4", "b0"]
    assert [due.lease.id for due in await claim(engine, each=2, c=1, me="other")] == ["c0"]
    assert await claim(engine, each=2, a=1) == []
    assert [due.lease.id for due in await claim(engine, each=3, a=5)] == ["a3"]


async def test_a_destination_with_thousands_hides_no_other(engine: Engine) -> None:
    def many(connection: Any) -> None:
        for number in range(450):
            plan(connection, planned(f"a{number}", destination="a:443"), NOON)
            make_due(connection, "default", f"job-a{number}", "complete", NOON)

    await engine.write(many)
    await plan_and_end(engine, "b", NOON + 1, destination="b:443")
    found = await claim(engine, NOON + 1, each=4)
    assert Counter(due.destination for due in found) == {"a:443": 4, "b:443": 1}
    assert await claim(engine, NOON + 1, each=4) == []
    assert len(await claim(engine, NOON + 1, most=7, each=GREAT)) == 7
    assert (await engine.read(counts))[DeliveryState.DUE] == 451


async def test_operators_may_try_again(engine: Engine) -> None:
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON)) is None
    await engine.write(lambda c: plan(c, planned(), NOON))
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON)) is DeliveryState.WAITING
    assert (await row(engine))["state"] == DeliveryState.WAITING
    await engine.write(lambda c: make_due(c, "default", "job-d1", "complete", NOON))
    (due,) = await claim(engine)
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON)) is DeliveryState.DUE
    assert (await row(engine))["leased_by"] == "me"  # it is being sent: left alone
    await engine.write(lambda c: schedule_retry(c, due.lease, BAD, NOON + 3600))
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON + 1)) is DeliveryState.DUE
    (due,) = await claim(engine, NOON + 1)
    assert due.lease.attempt == 1
    await engine.write(lambda c: mark_dead(c, due.lease, BAD, NOON + 2))
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON + 90_000)) is DeliveryState.DEAD
    (due,) = await claim(engine, NOON + 90_000)
    assert due.since == int(NOON + 90_000)  # give_up_after counts from here
    await engine.write(lambda c: mark_delivered(c, due.lease, OK, NOON + 90_001))
    assert await engine.write(lambda c: retry(c, "d1", "cli:op", NOON + 90_002)) is DeliveryState.DELIVERED
    assert (await row(engine))["state"] == DeliveryState.DELIVERED
    entries = [found.entry for found in await engine.read(recorded)]
    assert {entry.subject for entry in entries} == {"d1"}
    assert [(entry.actor, entry.action, entry.detail) for entry in entries] == [
        ("cli:op", "webhook.retry", {"was": "dead"}),
        ("cli:op", "webhook.retry", {"was": "due"}),
    ]


async def given_up_of(engine: Engine, late: Late) -> list[GivenUp]:
    """What is found, and given up then."""
    found = await engine.report(lambda c: find_late(c, late))
    return await engine.write(lambda c: give_up(c, found, late, NOON))


async def test_what_waits_too_long_for_a_paused_destination_is_given_up(engine: Engine) -> None:
    await plan_and_end(engine, "old", NOON - 100)
    await plan_and_end(engine, "leased", NOON - 100)
    await plan_and_end(engine, "young", NOON)
    await plan_and_end(engine, "other", NOON - 100, destination="b:443")
    await plan_and_end(engine, "of another", NOON - 100, owner="key:other")
    claimed = {due.lease.id: due.lease for due in await claim(engine, NOON - 50)}
    for name in ("old", "other", "of another"):
        await engine.write(lambda c, name=name: schedule_retry(c, claimed[name], BAD, NOON))  # type: ignore[misc] # likewise
    await plan_and_end(engine, "never attempted", NOON - 100)
    line = "hooks.example:443", "key:ci"
    given_up = await given_up_of(engine, failing([line, ("nobody:1", "key:x")], NOON - 99, NOON))
    assert given_up == [("old", line[0])]
    assert (await row(engine, "old"))["state"] == DeliveryState.DEAD
    assert await engine.write(lambda c: mark_delivered(c, claimed["leased"], OK, NOON))
    assert (await engine.read(counts))[DeliveryState.DUE] == 4
    rest = await given_up_of(engine, failing([line], NOON - 99, NOON, least_attempts=0))
    assert rest == [("never attempted", line[0])]


async def test_behind_many_that_have_no_place_others_are_found(engine: Engine) -> None:
    """More than one batch of them: each goes on behind the one before it."""
    for number in range(5):
        await plan_and_end(engine, f"b{number}", NOON - 1, destination=f"b{number}:443", owner="key:other")
    await engine.write(lambda c: _many(c, 450))
    found = await engine.write(lambda c: claim_due(c, "me", NOON, NOON + 60, Bounds(GREAT, 2, None, GREAT)))
    assert [due.lease.id for due in found] == ["m000", "b0", "m001", "b1", "b2", "b3", "b4"]


def _many(connection: Connection, count: int) -> None:
    """So many of one destination, all due before the others."""
    for number in range(count):
        name = f"m{number:03}"
        plan(connection, planned(name), NOON - 99)
        make_due(connection, "default", f"job-{name}", "complete", NOON - 99)


async def test_what_nobody_attempted_in_a_long_time_is_given_up_wherever_it_is_to_go(engine: Engine) -> None:
    """An owner may have more failing destinations than anybody remembers."""
    for name, at in (("tried", NOON - 100), ("leased", NOON - 90)):
        await plan_and_end(engine, name, at)
    tried, _ = await claim(engine, NOON - 50)
    await engine.write(lambda c: schedule_retry(c, tried.lease, BAD, NOON - 40))
    for name, at in (("old", NOON - 11), ("young", NOON - 10)):
        await plan_and_end(engine, name, at, destination=f"{name}:443")
    assert await given_up_of(engine, untried(NOON - 10)) == [("old", "old:443")]
    assert (await row(engine, "old"))["state"] == DeliveryState.DEAD
    assert await given_up_of(engine, untried(NOON - 10)) == []


async def test_what_was_found_is_not_given_up_if_it_was_tried_meanwhile(engine: Engine) -> None:
    for name in ("sent", "again", "old"):
        await plan_and_end(engine, name, NOON - 100)
    leases = {due.lease.id: due.lease for due in await claim(engine, NOON - 90)}
    for lease in leases.values():
        await engine.write(lambda c, lease=lease: schedule_retry(c, lease, BAD, NOON - 80))  # type: ignore[misc]
    late = failing([("hooks.example:443", "key:ci")], NOON - 99, NOON)
    found = await engine.report(lambda c: find_late(c, late))
    assert sorted(found) == ["again", "old", "sent"]
    assert await engine.write(lambda c: retry(c, "again", "admin", NOON)) is DeliveryState.DUE
    (sent,) = await claim(engine, NOON, most=1)
    given_up = await engine.write(lambda c: give_up(c, found, late, NOON))
    left = {"sent", "old"} - {sent.lease.id}
    assert [one.id for one in given_up] == [*left]


async def test_an_owner_has_its_share_of_places_and_what_is_paused_for_one_is_open_for_others(engine: Engine) -> None:
    for number in range(6):
        await plan_and_end(engine, f"a{number}", NOON - 9, destination=f"a{number}:443", owner="key:many")
    await plan_and_end(engine, "b", NOON, destination="a0:443")

    async def some(me: str, rooms: dict[tuple[str, str], int]) -> list[str]:
        found = await engine.write(lambda c: claim_due(c, me, NOON, NOON + 60, Bounds(GREAT, GREAT, rooms, 2)))
        return [due.lease.id for due in found]

    assert await some("me", {("a0:443", "key:many"): 0}) == ["a1", "b", "a2"]
    assert await some("me", {}) == []
    assert await some("other", {("a0:443", "key:many"): 1}) == ["a0", "a3"]


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_postgresql_looks_a_paused_line_up_and_does_not_go_through_all_of_them(engine: Engine) -> None:
    """Beside 300,000 due at a thousand paused lines a claim took 4 s, twice ledger.timeout: no webhook went out."""
    rooms = {(f"d{number}:443", "key:ci"): 0 for number in range(1000)}

    def work(connection: Connection) -> list[str]:
        asked: list[tuple[str, Any]] = []

        def note(*call: Any) -> None:
            asked.append((call[2], call[3]))

        event.listen(connection, "before_cursor_execute", note)
        claim_due(connection, "me", NOON, NOON + 60, Bounds(GREAT, GREAT, rooms, 2))
        find_late(connection, failing(list(rooms)[:100], NOON - 10, NOON))
        event.remove(connection, "before_cursor_execute", note)
        queries = [(text, values) for text, values in asked if "SKIP LOCKED" in text or "ended_at <" in text]
        return [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {text}", values).scalars()) for text, values in queries
        ]

    plan_of_claim, plan_of_end = await engine.write(work)
    assert "(hashed SubPlan" in plan_of_claim, plan_of_claim
    assert "= 'd9:443'" not in plan_of_end, plan_of_end


async def test_they_are_listed_counted_and_forgotten(engine: Engine) -> None:
    for number, name in enumerate(("waiting", "due", "delivered", "dead")):
        await engine.write(lambda c, n=name, i=number: plan(c, planned(n), NOON + i))  # type: ignore[misc] # likewise
    for name in ("delivered", "dead", "due"):
        await engine.write(lambda c, n=name: make_due(c, "default", f"job-{n}", "complete", NOON + 9))  # type: ignore[misc] # likewise
        if name != "due":
            (due,) = await claim(engine, NOON + 9)
            end = mark_delivered if name == "delivered" else mark_dead
            await engine.write(lambda c, d=due, end=end: end(c, d.lease, OK, NOON + 9))  # type: ignore[misc] # likewise
    assert await ids_listed(engine) == ["dead", "delivered", "due", "waiting"]
    assert await ids_listed(engine, DeliveryState.DEAD) == ["dead"]
    assert await ids_listed(engine, most=1) == ["dead"]
    assert await engine.read(counts) == dict.fromkeys(DeliveryState, 1)
    assert await engine.read(lambda c: shown(c, "nobody")) is None
    assert await engine.write(lambda c: purge(c, NOON + 3)) == 1
    assert await engine.write(lambda c: purge(c, NOON + 100)) == 1
    assert await ids_listed(engine) == ["due", "waiting"]


CLAIMERS = """
import asyncio, json, sys
from gateway.ledger.deliveries import DeliveryOutcome, mark_delivered
from gateway.ledger.delivery_claims import Bounds, claim_due
from tests.support.ledgers import open_engine

url, name, claimers, now = json.loads(sys.argv[1])

async def claimer(engine, number):
    got, most, idle = [], 0, 0
    while idle < 3:
        me = f"{name}-{number}"
        found = await engine.write(lambda c: claim_due(c, me, now, now + 60, Bounds(3, 4)))
        idle = 0 if found else idle + 1
        for due in found:
            got.append(due.lease.id)
            assert await engine.write(lambda c: mark_delivered(c, due.lease, DeliveryOutcome(200, None), now))
    return got

async def main():
    engine = open_engine(url, 60.0)
    await engine.read(lambda c: None)
    print("ready")
    sys.stdin.readline()
    got = await asyncio.gather(*(claimer(engine, number) for number in range(claimers)))
    await engine.close()
    print(json.dumps(sum(got, [])))

asyncio.run(main())
"""


@pytest.mark.parametrize("most", [4, 64])
async def test_owners_take_turns_at_a_destination(engine: Engine, most: int) -> None:
    """The longest due went first: beside 60 of a slow receiver another owner's waited for six minutes."""

    def fill(connection: Connection) -> None:
        for number in range(250):
            plan_due(connection, f"a{number:03}", NOON, owner="key:many")

    await engine.write(fill)
    slow = await claim(engine, NOON + 1, each=4)
    assert {due.owner for due in slow} == {"key:many"}
    for name in ("b1", "b2"):
        await plan_and_end(engine, name, NOON + 2, owner="key:few")
    assert await claim(engine, NOON + 3, each=4) == []
    for due in slow[:2]:
        assert await engine.write(lambda c, due=due: mark_delivered(c, due.lease, OK, NOON + 4))  # type: ignore[misc]
    claimed = await claim(engine, NOON + 5, me="another", most=most, each=4)
    assert [due.lease.id for due in claimed] == ["b1", "b2"]


@pytest.mark.parametrize("after", ["key:", "key:2", "key:9"])
async def test_the_thousands_of_a_few_owners_hide_nobody_s_first(engine: Engine, after: str) -> None:
    """Beside six owners with 250 older ones each, a seventh owner's waited until these were sent."""

    def fill(connection: Connection) -> None:
        for number in range(1500):
            plan_due(connection, f"a{number:04}", NOON, owner=f"key:{number // 250}")

    await engine.write(fill)
    await plan_and_end(engine, "z", NOON + 1, owner="key:quiet")
    served = ServedOwners()
    served.looked_up_to = after
    bounds = Bounds(8, GREAT, served=served)
    claimed = await engine.write(lambda c: claim_due(c, "me", NOON + 2, NOON + 60, bounds))
    assert len(claimed) == 8
    assert {due.owner for due in claimed} == {*(f"key:{number}" for number in range(6)), "key:quiet"}
    assert [due.lease.id for due in claimed if due.owner == "key:3"] == ["a0750"]


async def test_owners_whose_webhooks_wait_for_later_hide_nobody_s_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim looked at a thousand owners behind the one served last: whoever came behind them had no turn."""
    monkeypatch.setattr("gateway.ledger.delivery_claims.OWNERS", 10)

    def fill(connection: Connection) -> None:
        for number in range(400):
            plan_due(connection, f"c{number:03}", NOON, owner="key:c")
        for number in range(40):
            owner = f"key:{'ad'[number % 2]}{number:02}"
            plan_due(connection, f"i{number:02}", NOON + 3600, owner=owner)

    await engine.write(fill)
    await plan_and_end(engine, "z", NOON + 1, owner="key:quiet")
    served, sent = ServedOwners(), list[str]()
    bounds = Bounds(8, 2, served=served)
    while "key:quiet" not in sent and len(sent) < 20:
        claimed = await engine.write(lambda c: claim_due(c, "me", NOON + 2, NOON + 60, bounds))
        for due in claimed:
            assert await engine.write(partial(mark_delivered, lease=due.lease, outcome=OK, now=NOON + 3))
            served.note(due.owner)
        sent += [due.owner for due in claimed]
    assert sent.count("key:c") == 9


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_what_a_claim_looks_at_does_not_grow_with_all_that_is_due(engine: Engine) -> None:
    """Beside 100,000 due in one second, and 300 paused lines, it kept the only writer for fifteen seconds."""
    owners = [f"key:{number:03}" for number in range(200)]
    rooms = {(f"h{number}:443", owners[number % 200]): 0 for number in range(300)}

    def work(connection: Connection) -> int:
        some = [
            {**asdict(planned(f"a{number:05}", owner=owners[number // 50])), "state": DeliveryState.DUE,
             "attempts": 0, "next_at": int(NOON), "created_at": int(NOON), "ended_at": int(NOON)}
            for number in range(10_000)
        ]  # fmt: skip
        connection.execute(insert(deliveries), some)
        steps = list[int]()
        raw = raw_of(connection)
        raw.set_progress_handler(lambda: steps.append(1000), 1000)
        try:
            assert len(claim_due(connection, "me", NOON, NOON + 60, Bounds(8, GREAT, rooms, 2))) == 8
        finally:
            raw.set_progress_handler(None, 0)
        return sum(steps)

    assert await engine.write(work) < 100_000


async def test_many_owners_take_turns_whosever_are_the_oldest(engine: Engine) -> None:
    """Where each has older ones and places are few, they went by age: a newcomer's came after all of those."""

    def fill(connection: Connection) -> None:
        for number in range(90):
            plan_due(connection, f"a{number:02}", NOON + number, owner=f"key:{number % 30:02}")

    await engine.write(fill)
    await plan_and_end(engine, "z", NOON + 100, owner="key:zoe")
    served, sent = ServedOwners(), list[str]()
    bounds = Bounds(8, GREAT, served=served)
    for turn in range(4):
        claimed = await engine.write(lambda c: claim_due(c, "me", NOON + 200, NOON + 260, bounds))
        for due in claimed:
            done = partial(mark_delivered, lease=due.lease, outcome=OK, now=NOON + 200 + turn)
            assert await engine.write(done)
            served.note(due.owner)
        sent += [due.owner for due in claimed]
    assert sent[:31] == [*(f"key:{number:02}" for number in range(30)), "key:zoe"]


async def test_of_owners_with_as_much_the_one_served_longest_ago_is_next(engine: Engine) -> None:
    for name in ("a1", "a2", "b1", "b2", "c1", "c2"):
        await plan_and_end(engine, name, owner=f"key:{name[0]}")
    served = ServedOwners()
    for owner in ("key:b", "key:a"):
        served.note(owner)
    bounds = Bounds(4, GREAT, served=served)
    claimed = await engine.write(lambda c: claim_due(c, "me", NOON + 1, NOON + 60, bounds))
    assert [due.lease.id for due in claimed] == ["c1", "b1", "a1", "c2"]


async def test_a_turn_of_an_owner_is_a_row_that_has_room(engine: Engine) -> None:
    for name in ("a1", "a2", "a3"):
        await plan_and_end(engine, name)
    await plan_and_end(engine, "a4", destination="another.example:443")
    await plan_and_end(engine, "b1", owner="key:few")
    claimed = await claim(engine, NOON + 1, each=2, most=4)
    assert [due.lease.id for due in claimed] == ["a1", "b1", "a4"]


async def test_of_fifty_claimers_in_three_processes_one_gets_each(engine: Engine, ledger_url: str) -> None:
    def many(connection: Any) -> None:
        for number in range(300):
            plan(connection, planned(f"d{number}", destination=f"h{number % 7}:443"), NOON)
            make_due(connection, "default", f"job-d{number}", "complete", NOON)

    await engine.write(many)
    scripts = [
        Script(CLAIMERS, json.dumps([ledger_url, f"p{number}", claimers, NOON]))
        for number, claimers in enumerate((17, 17, 16))
    ]
    for script in scripts:
        assert script.line() == "ready"
    for script in scripts:
        script.tell()
    got: Counter[str] = Counter()
    for script in scripts:
        (line,) = await asyncio.to_thread(script.rest)
        got.update(json.loads(line))
        script.__exit__(None, None, None)
    assert max(got.values()) == 1
    left = await claim(engine)  # those whose destinations were full whenever anybody looked
    assert len(got) + len(left) == 300


@pytest.mark.parametrize("claimers", [50])
async def test_the_room_of_a_destination_is_one_for_all(engine: Engine, claimers: int) -> None:
    for number in range(30):
        await plan_and_end(engine, f"d{number}")
    found = await asyncio.gather(*(claim(engine, me=f"me{number}", each=4) for number in range(claimers)))
    assert sum(map(len, found)) == 4


async def test_an_id_that_comes_again_has_a_webhook_of_its_own(engine: Engine) -> None:
    """Though the old job's is still there: webhooks may be kept for longer than records of jobs."""
    steps = Steps(Ledger(engine))
    await submit(steps, "first")
    job = JobRef("container", "job", "first")
    await engine.write(lambda c: make_due(c, *job.key, "complete", NOON))
    await engine.write(lambda c: jobs.forget(c, job, NOON))
    gone: Any = await engine.read(lambda c: jobs.find(c, *job.key))
    await engine.write(lambda c: expiry.mark_deleted(c, [gone], NOON))
    assert await engine.write(lambda c: expiry.purge(c, NOON + 1)) == 1
    await submit(steps, "second")
    assert await states(engine) == {
        "hook-first": (DeliveryState.DUE, "complete"),
        "hook-second": (DeliveryState.WAITING, None),
    }


@pytest.mark.parametrize("has_webhook", [False, True])
async def test_what_is_due_is_sent_though_another_job_has_its_id_by_now(engine: Engine, *, has_webhook: bool) -> None:
    """Its receiver was away for some seconds; the job was deleted meanwhile, and the container gave its id again."""
    steps, first, second = Steps(Ledger(engine)), *(JobRef("container", "job", name) for name in ("first", "second"))
    await submit(steps, "first")
    await record_facts(engine, first, Facts(Known.COMPLETE, 1), NOON + 1)
    (due,) = await claim(engine, NOON + 1)
    await engine.write(lambda c: schedule_retry(c, due.lease, BAD, NOON + 30))
    await engine.write(lambda c: jobs.forget(c, first, NOON + 2))
    await submit(steps, "second", NOON + 9, has_webhook=has_webhook)
    await record_facts(engine, first, Facts(Known.FAILED), NOON + 10)  # of a job that is gone: nobody's end
    waiting = {"hook-second": (DeliveryState.WAITING, None)} if has_webhook else {}
    assert await states(engine) == {"hook-first": (DeliveryState.DUE, "complete"), **waiting}
    (job,) = await engine.read(lambda c: jobs_with_id(c, "job"))
    assert (job.reservation, job.webhook) == ("second", "hook-second" if has_webhook else None)
    await record_facts(engine, second, Facts(Known.FAILED), NOON + 11)
    sent = {due.lease.id: (due.lease.attempt, due.status) for due in await claim(engine, NOON + 30)}
    assert sent.pop("hook-first") == (2, "complete")
    assert sent == ({"hook-second": (1, "failed")} if has_webhook else {})


async def test_ended_ones_stay_when_their_id_comes_again_and_when_its_new_job_is_deleted(engine: Engine) -> None:
    steps = Steps(Ledger(engine))
    for number, end in enumerate((mark_delivered, mark_dead)):
        at, job = NOON + 10 * number, JobRef("container", "job", f"r{number}")
        await submit(steps, job.reservation, at)
        await record_facts(engine, job, Facts(Known.COMPLETE, 1), at + 1)
        (due,) = await claim(engine, at + 1)
        await engine.write(lambda c, end=end, lease=due.lease, at=at: end(c, lease, OK, at + 1))  # type: ignore[misc] # likewise
        await engine.write(lambda c, job=job, at=at: jobs.forget(c, job, at + 2))  # type: ignore[misc] # likewise
    await submit(steps, "r2", NOON + 20)
    await engine.write(lambda c: jobs.forget(c, JobRef("container", "job", "r2"), NOON + 21))
    ended = {"hook-r0": (DeliveryState.DELIVERED, "complete"), "hook-r1": (DeliveryState.DEAD, "complete")}
    assert await states(engine) == ended
    assert await engine.write(lambda c: retry(c, "hook-r1", "cli:op", NOON + 22)) is DeliveryState.DEAD
    assert [due.lease.id for due in await claim(engine, NOON + 22)] == ["hook-r1"]


async def test_an_accept_whose_answer_was_lost_plans_no_second_one(engine: Engine) -> None:
    steps = Steps(Ledger(engine))
    step = await submit(steps, "first")
    await steps.accept(step)
    await record_facts(engine, JobRef("container", "job", "first"), Facts(Known.COMPLETE, 1), NOON + 1)
    await steps.accept(step)
    assert await states(engine) == {"hook-first": (DeliveryState.DUE, "complete")}


async def test_what_waits_for_an_end_that_can_not_come_is_told_no_other_one(engine: Engine) -> None:
    """Nothing leaves such a row; should there be one, the next job of its id takes its place."""
    await engine.write(lambda c: plan(c, planned("left", upstream="container", request_id="job"), NOON - 9))
    await submit(Steps(Ledger(engine)), "first")
    assert await states(engine) == {"hook-first": (DeliveryState.WAITING, None)}
