"""A lease on every path: what the ledger could not be told it is told again, and nothing is sold twice or lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, Table
from structlog.testing import capture_logs

import gateway.admission.admission
import gateway.admission.lease
from gateway.admission.admission import Admission
from gateway.admission.lease import Lease, PagesRefused
from gateway.admission.throttle import Throttle
from gateway.aio.background import Background
from gateway.errors import LedgerUnavailable, Refused, UpstreamBrokeOff
from gateway.ledger.accounts import read_counts
from gateway.ledger.closing import Settled
from gateway.ledger.deliveries import Planned
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.replica import Replica
from gateway.ledger.reservations import overdue, reclaim
from gateway.ledger.schema import JobState, Stage, deliveries, jobs, reservations
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Identity, Profile
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from tests.support.endings import settle
from tests.support.ledgers import NOON, Faulty, assert_sound, make_profile, rows_of
from tests.support.pure import make_permit
from tests.support.waiting import eventually

ACCOUNT = "key:ci"
TTL = 3600.0
PROFILE = make_profile(pages_per_day=100, concurrent_requests=3)
ASK = Ask(10, 5, "fast")
JOB = NewJob("job", "default", "/api/v1/marker", "https://gateway.test/api/v1/marker/job")
WEBHOOK = Planned("w1", "default", "job", ACCOUNT, "https://hook.test/", "hook.test:443", JOB.check_url)
UNKNOWN = ["before", "after"]


class Hooks:
    """What the metrics were told."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, int, int]] = []
        self.crossings: list[frozenset[str]] = []
        self.ratios: dict[str, float] = {}

    def pages(self, account: str, settled: int, refunded: int) -> None:
        self.settled.append((account, settled, refunded))

    def set_ratios(self, account: str, ratios: dict[str, float]) -> None:
        assert account == ACCOUNT
        self.ratios = ratios

    def count_crossed(self, account: str, limits: frozenset[str]) -> None:
        assert account == ACCOUNT
        self.crossings.append(limits)


class Gated:
    """An engine whose writes wait while the gate is shut."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.turns: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.report = engine.report
        self.close = engine.close

    async def write(self, work: Any, *, durable: bool = False, in_turn_of: str = "") -> Any:
        self.turns.add(in_turn_of)
        await self.gate.wait()
        return await self._engine.write(work, durable=durable, in_turn_of=in_turn_of)

    async def read(self, work: Any, *, in_turn_of: str = "") -> Any:
        self.turns.add(in_turn_of)
        return await self._engine.read(work, in_turn_of=in_turn_of)

    async def guarded(self, work: Any, *, in_turn_of: str = "") -> Any:
        self.turns.add(in_turn_of)
        await self.gate.wait()
        return await self._engine.guarded(work, in_turn_of=in_turn_of)


class Desk:
    """Admission on a ledger that fails as it is told, at a moment that tests set."""

    def __init__(self, engine: Engine) -> None:
        self.now = NOON
        self.gated = Gated(engine)
        self.faulty = Faulty(self.gated)
        self.ledger = Ledger(self.faulty)
        self.hooks = Hooks()
        names = (f"r{number}" for number in count(1))
        self.background = Background()
        replica = Replica("us", self.ledger, lambda: self.now, self.background)
        throttle = Throttle(replica.wall, 10.0)
        self.admission = Admission(replica, throttle, self.hooks, lambda: next(names))
        self.engine = engine

    def permit(self, profile: Profile = PROFILE) -> Permit:
        identity = Identity("ci", ACCOUNT, profile, account=ACCOUNT)
        return make_permit(identity=identity)

    def lease(self, profile: Profile = PROFILE) -> Lease:
        return self.admission.lease(self.permit(profile), profile, TTL)

    async def admit(self, profile: Profile = PROFILE, ask: Ask | None = None) -> Lease:
        """A slot; with `ask` the pages, too, at once."""
        lease = self.lease(profile)
        try:
            await (lease.admit() if ask is None else lease.reserve(ask))
        except BaseException:
            lease.close()
            raise
        return lease

    async def reserved(self) -> Lease:
        lease = await self.admit()
        await lease.reserve(ASK)
        return lease

    def has_written(self, more_than: int) -> bool:
        return self.faulty.writes > more_than

    @property
    def is_quiet(self) -> bool:
        return "running=0" in repr(self.background)

    async def quiet(self) -> None:
        """Waits until nothing is left to be told."""
        await eventually(lambda: self.is_quiet)
        await self.engine.write(assert_sound)

    async def rows(self, table: Table = reservations) -> list[dict[str, Any]]:
        return await self.engine.read(lambda c: rows_of(c, table))

    async def stage(self) -> Stage | None:
        rows = await self.rows()
        return Stage(rows[0]["stage"]) if rows else None

    async def counts(self) -> AccountCounts:
        found: AccountCounts = await self.engine.read(lambda c: read_counts(c, ACCOUNT, self.now))
        return found._replace(tat=0.0)

    async def settled(self, pages: int | None) -> Settled | None:
        found = [row["id"] for row in await self.rows() if row["request_id"] == "job"]
        of = found[0] if found else "nothing"
        return await self.engine.write(lambda c: settle(c, ACCOUNT, of, pages, self.now, failed=False))


@pytest.fixture
async def desk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(gateway.admission.lease, "RETRY_DELAYS", (0.0,) * 4)
    made = Desk(engine)
    yield made
    await made.background.close(5.0)


def pages(count: int, requests: int = 1, **more: Any) -> AccountCounts:
    used = Used(requests, count, count * 5)
    return AccountCounts(day=used, month=used, **more)


async def refusal(work: Any) -> Reason:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value.denial.reason


async def test_all_keys_of_an_owner_have_its_turns_at_the_ledger(desk: Desk) -> None:
    """A key whose owner has another name had all connections: half as an account, half as an owner."""
    permit = make_permit(identity=Identity("ci", "key:team", PROFILE, account=ACCOUNT))
    for ends in (True, False):
        lease = desk.admission.lease(permit, PROFILE, TTL)
        await lease.admit()
        await lease.reserve(ASK)
        if ends:
            await lease.accept(None, None)
        lease.close()
    await desk.admission.read_counts(permit)
    await desk.quiet()
    assert desk.gated.turns == {"key:team"}


async def test_a_submit_from_its_head_to_its_end(desk: Desk) -> None:
    lease = await desk.reserved()
    assert await desk.counts() == pages(10, concurrent=1, pages_in_flight=10)
    assert lease.lines[0].startswith(b'RateLimit-Policy: "requests_per_minute";q=10000;w=60')
    assert b'"pages_per_day";r=90;t=43200' in lease.lines[1]
    assert desk.hooks.ratios["pages_per_day"] == 0.1
    lease.mark_released()
    await lease.accept(JOB)
    writes = desk.faulty.writes
    lease.close()
    lease.close()
    await desk.quiet()
    assert desk.faulty.writes == writes
    assert "held=0" in repr(desk.admission)
    assert await desk.counts() == pages(10, pages_in_flight=10)
    assert await desk.settled(4) == Settled(ACCOUNT, 4, 6)


async def test_slot_and_pages_at_once_are_one_transaction(desk: Desk) -> None:
    """And the rest of the way is that of any other."""
    lease = await desk.admit(ask=ASK)
    assert desk.faulty.writes == 1
    assert await desk.stage() is Stage.RESERVED
    assert await desk.counts() == pages(10, concurrent=1, pages_in_flight=10)
    assert b'"pages_per_day";r=90;t=43200' in lease.lines[1]
    lease.mark_released()
    await lease.accept(JOB)
    await desk.quiet()
    assert await desk.settled(4) == Settled(ACCOUNT, 4, 6)


async def test_slot_and_pages_at_once_are_given_back_together(desk: Desk) -> None:
    lease = await desk.admit(ask=ASK)
    assert repr(lease) == "<Lease reserving account=key:ci>"
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)
    assert desk.hooks.settled == [(ACCOUNT, 0, 10)]


async def test_who_is_refused_the_pages_alone_is_told_so_and_a_smaller_one_is_asked_about(desk: Desk) -> None:
    with pytest.raises(PagesRefused) as caught:
        await desk.admit(ask=Ask(101, 5, "fast"))
    assert caught.value.denial.reason is Reason.BUDGET_EXHAUSTED
    assert caught.value.denial.lines
    assert "held=0" in repr(desk.admission)
    assert desk.faulty.writes == 1
    assert desk.admission.may_go_ahead(ACCOUNT, PROFILE)
    assert await desk.counts() == pages(0, requests=0)
    counts = await desk.engine.read(lambda c: read_counts(c, ACCOUNT, NOON))
    assert counts.tat > NOON  # its token is spent
    await desk.admit(ask=ASK)
    await desk.quiet()


async def test_who_is_refused_by_the_head_is_not_told_of_pages(desk: Desk) -> None:
    for _ in range(3):
        await desk.admit()
    with pytest.raises(Refused) as caught:
        await desk.admit(ask=ASK)
    assert not isinstance(caught.value, PagesRefused)
    assert caught.value.denial.reason is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    assert not desk.admission.may_go_ahead(ACCOUNT, PROFILE)


@pytest.mark.parametrize("asked", [10, 101, None], ids=["let in", "too many pages", "nothing"])
async def test_who_no_longer_waits_for_the_ledger_may_wait_for_what_it_says(desk: Desk, asked: int | None) -> None:
    """Whoever asked for nothing asks for the slot; pages that are too many are no matter of the head."""
    lease = desk.lease()
    if asked is not None:
        desk.gated.gate.clear()
        asking = asyncio.ensure_future(lease.reserve(Ask(asked, 5, "fast")))
        await eventually(lambda: bool(desk.gated.turns))
        asking.cancel()
        await asyncio.wait([asking])
        desk.gated.gate.set()
    assert not lease.lines
    for _ in range(2):
        await lease.until_known()
        assert b'"pages_per_day";r=%d' % (90 if asked == 10 else 100) in lease.lines[1]
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


async def test_who_no_longer_waits_for_the_ledger_is_refused_by_what_it_says(desk: Desk) -> None:
    limits = make_profile(concurrent_requests=1)
    await desk.admit(limits)
    for waits in (True, False):
        lease = desk.lease(limits)
        if waits:
            desk.gated.gate.clear()
            asking = asyncio.ensure_future(lease.reserve(ASK))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            desk.gated.gate.set()
        assert await refusal(lease.until_known()) is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
        lease.close()
    assert desk.admission.running == 1
    desk.faulty.faults = ["before"]
    desk.now += 1
    lease = desk.lease(limits)
    assert await refusal(lease.until_known()) is Reason.LEDGER_UNAVAILABLE
    lease.close()
    await desk.quiet()


@pytest.mark.parametrize("ask", [None, ASK], ids=["slot", "both"])
async def test_who_leaves_before_he_is_refused_is_remembered_as_refused(desk: Desk, ask: Ask | None) -> None:
    """Nothing was taken that could be given back: its next one went ahead, and was worked on for nothing."""
    limits = make_profile(requests_per_day=1)
    await (await desk.admit(limits, ASK)).accept(JOB)
    desk.gated.gate.clear()
    asking = asyncio.ensure_future(desk.admit(limits, ask))
    await asyncio.sleep(0)
    writes = desk.faulty.writes
    asking.cancel()
    await asyncio.wait([asking])
    desk.gated.gate.set()
    await desk.quiet()
    assert not desk.admission.may_go_ahead(ACCOUNT, limits)
    assert desk.faulty.writes == writes + 1


async def test_who_leaves_before_a_slot_was_asked_for_has_spent_a_token(desk: Desk) -> None:
    """Or a key could have us work for it, as often as it likes, by leaving in time."""
    lease = desk.lease()
    assert (repr(lease), lease.is_new) == (f"<Lease new account={ACCOUNT}>", True)
    lease.close()
    lease.close()
    await desk.quiet()
    assert await desk.rows() == []
    assert await desk.counts() == pages(0, requests=0)
    counts = await desk.engine.read(lambda c: read_counts(c, ACCOUNT, NOON))
    assert counts.tat > NOON
    assert desk.hooks.settled == [(ACCOUNT, 0, 0)]


async def test_who_leaves_before_that_while_the_ledger_is_away_leaves_nothing_to_be_told(desk: Desk) -> None:
    desk.faulty.faults = ["before"]
    desk.lease().close()
    await desk.quiet()
    assert desk.faulty.writes == 1
    assert await desk.counts() == pages(0, requests=0)


async def test_as_many_go_ahead_as_would_be_let_in(desk: Desk) -> None:
    """By the counts of the last one that was: before it, and after one was refused, the ledger alone can tell."""
    may = partial(desk.admission.may_go_ahead, ACCOUNT, PROFILE)
    await desk.ledger.write(lambda _: None)
    assert may()  # one of an account that is new
    new = desk.lease()
    assert not may()
    new.close()
    await desk.quiet()
    first = await desk.admit()
    assert may()
    second = desk.lease()
    assert may()
    third = desk.lease()
    assert not may()
    third.close()
    await desk.quiet()
    assert may()
    await second.admit()
    assert may()
    await desk.admit()
    assert not may()
    assert await refusal(desk.admit()) is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    first.close()
    await desk.quiet()
    assert may()  # a slot is free
    await desk.admit()
    assert not may()


async def test_who_has_asked_counts_until_it_is_known_what_the_ledger_said(desk: Desk) -> None:
    """Where it is far away, all who came meanwhile went ahead for the places of those who had asked."""
    may = partial(desk.admission.may_go_ahead, ACCOUNT, PROFILE)
    (await desk.admit()).close()
    await desk.quiet()
    assert may()
    desk.gated.gate.clear()
    asking = asyncio.ensure_future(desk.admit(ask=ASK))
    left = desk.lease()
    leaving = desk.lease()
    admitted = asyncio.ensure_future(leaving.admit())
    await asyncio.sleep(0)
    assert not may()
    left.close()
    admitted.cancel()
    await asyncio.wait([admitted])
    leaving.close()
    assert not may()
    desk.gated.gate.set()
    (await asking).close()
    await desk.quiet()
    new = [desk.lease(), desk.lease()]
    assert may()
    for lease in new:
        lease.close()
    await desk.quiet()
    assert desk.admission.running == 0


@pytest.mark.parametrize("is_known", [True, False])
async def test_none_goes_ahead_while_the_ledger_is_away(desk: Desk, is_known: bool) -> None:
    await desk.admit()
    assert desk.admission.may_go_ahead(ACCOUNT, PROFILE)
    if is_known:
        desk.faulty.faults = ["before"]
        assert await refusal(desk.admit()) is Reason.LEDGER_UNAVAILABLE
    else:
        desk.ledger.is_in_doubt = True
    assert not desk.admission.may_go_ahead(ACCOUNT, PROFILE)


@pytest.mark.parametrize("fault", UNKNOWN)
@pytest.mark.parametrize("retry", UNKNOWN)
async def test_slot_and_pages_of_unknown_outcome_are_ended(desk: Desk, fault: str, retry: str) -> None:
    desk.faulty.faults = [fault, retry, retry]
    assert await refusal(desk.admit(ask=ASK)) is Reason.LEDGER_UNAVAILABLE
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


@pytest.mark.parametrize("is_reserved", [True, False])
async def test_what_was_not_released_is_given_back(desk: Desk, is_reserved: bool) -> None:
    lease = await (desk.reserved() if is_reserved else desk.admit())
    lease.close()
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)
    assert desk.hooks.settled == [(ACCOUNT, 0, 10 if is_reserved else 0)]


async def test_what_was_released_and_never_answered_is_charged_when_its_time_is_over(desk: Desk) -> None:
    lease = await desk.reserved()
    lease.mark_released()
    lease.close()
    await desk.quiet()
    assert await desk.stage() is Stage.ACCEPTED
    assert await desk.counts() == pages(10, pages_in_flight=10)
    desk.now += TTL
    (account,) = await desk.engine.read(lambda c: overdue(c, desk.now))
    assert await desk.engine.write(lambda c: reclaim(c, account, desk.now)) == 10


async def test_what_the_upstream_refused_is_given_back(desk: Desk) -> None:
    lease = await desk.reserved()
    lease.mark_released()
    lease.mark_refused()
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


async def test_whose_job_it_is_is_in_the_ledger_before_its_client_knows(desk: Desk) -> None:
    lease = await desk.reserved()
    assert (lease.owner, lease.upstream) == (ACCOUNT, "default")
    lease.mark_released()
    await lease.accept(JOB, WEBHOOK)
    (row,) = await desk.rows(jobs)
    assert row == {
        **JOB._asdict(), "upstream": "default", "reservation": "r1", "account": ACCOUNT, "owner": ACCOUNT,
        "state": JobState.RUNNING, "created_at": NOON, "watcher": "us", "ended_at": None, "expires_at": None,
        "changed_at": row["changed_at"], "read_at": None, "known": 0,
    }  # fmt: skip
    (row,) = await desk.rows(deliveries)
    assert (row["id"], row["request_id"], row["url"]) == ("w1", "job", WEBHOOK.url)


async def test_an_answer_without_an_id_is_charged_and_nobodys_job(desk: Desk) -> None:
    lease = await desk.reserved()
    lease.mark_released()
    await lease.accept(None)
    lease.close()
    await desk.quiet()
    assert await desk.stage() is Stage.ACCEPTED
    assert await desk.counts() == pages(10, pages_in_flight=10)
    assert await desk.rows(jobs) == await desk.rows(deliveries) == []


async def test_a_refused_submit_costs_one_transaction(desk: Desk) -> None:
    for _ in range(3):
        await desk.admit()
    writes = desk.faulty.writes
    assert await refusal(desk.admit()) is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    await desk.quiet()
    assert desk.faulty.writes == writes + 1
    assert "held=3" in repr(desk.admission)


async def test_a_refusal_of_pages_gives_the_place_back(desk: Desk) -> None:
    lease = await desk.admit()
    with pytest.raises(Refused) as caught:
        await lease.reserve(Ask(101, 5, "fast"))
    assert caught.value.denial.reason is Reason.BUDGET_EXHAUSTED
    assert caught.value.denial.lines == lease.lines != ()
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_an_admission_of_unknown_outcome_is_ended(desk: Desk, fault: str) -> None:
    desk.faulty.faults = [fault, "before", fault]
    assert await refusal(desk.admit()) is Reason.LEDGER_UNAVAILABLE
    await desk.quiet()
    assert await desk.rows() == []
    assert await desk.counts() == pages(0, requests=0)


@pytest.mark.parametrize("fault", UNKNOWN)
@pytest.mark.parametrize("retry", UNKNOWN)
async def test_a_reservation_of_unknown_outcome_is_ended(desk: Desk, fault: str, retry: str) -> None:
    lease = await desk.admit()
    desk.faulty.faults = [fault, retry, retry]
    assert await refusal(lease.reserve(ASK)) is Reason.LEDGER_UNAVAILABLE
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_an_acceptance_of_unknown_outcome_is_charged_unless_it_is_settled(desk: Desk, fault: str) -> None:
    lease = await desk.reserved()
    lease.mark_released()
    desk.faulty.faults = [fault, fault]
    assert await refusal(lease.accept(JOB, WEBHOOK)) is Reason.LEDGER_UNAVAILABLE
    lease.close()
    await desk.quiet()
    assert await desk.stage() is Stage.ACCEPTED
    assert await desk.counts() == pages(10, pages_in_flight=10)
    assert len(await desk.rows(jobs)) == len(await desk.rows(deliveries)) == (1 if fault == "after" else 0)
    known = await desk.settled(4)
    assert known == (Settled(ACCOUNT, 4, 6) if fault == "after" else None)


async def test_pages_are_given_back_however_long_the_ledger_is_away(desk: Desk) -> None:
    lease = await desk.reserved()
    desk.faulty.is_away = True
    lease.close()
    await eventually(lambda: desk.faulty.writes > 20)  # many more than RETRY_DELAYS
    desk.now += 120
    desk.faulty.is_away = False
    await desk.engine.write(lambda c: reclaim(c, ACCOUNT, desk.now))  # another process thought it dead
    await desk.quiet()
    assert (await desk.counts()).day.pages == 0


async def test_pages_are_given_back_whatever_an_attempt_to_do_so_raises(desk: Desk) -> None:
    """They expired, and were charged."""
    lease = await desk.reserved()
    desk.faulty.faults = ["odd", "odd"]
    with capture_logs() as logs:
        lease.close()
        await desk.quiet()
    assert [log["event"] for log in logs] == ["a place could not be given back yet"] * 2
    assert (await desk.counts()).day.pages == 0


async def test_a_fault_that_stays_ends_the_attempts(desk: Desk) -> None:
    lease = await desk.reserved()
    desk.faulty.faults = ["odd"] * 40
    with capture_logs() as logs:
        lease.close()
        await eventually(lambda: desk.is_quiet)
    assert logs[-1]["event"] == "a place could not be given back; it will expire"


async def test_a_mere_place_is_left_to_its_expiry_when_the_ledger_stays_away(desk: Desk) -> None:
    await desk.admit()
    desk.faulty.is_away = True
    assert await refusal(desk.admit()) is Reason.LEDGER_UNAVAILABLE
    await desk.quiet()
    assert desk.ledger.problem == "as it was told"
    assert "held=1" in repr(desk.admission)
    desk.faulty.is_away = False
    desk.now += 30
    await desk.admission.renew_held()
    assert [(row["id"], row["expires_at"]) for row in await desk.rows()] == [("r1", desk.now + 60)]


async def test_one_id_for_two_jobs_is_the_fault_of_the_upstream(desk: Desk) -> None:
    first, second = await desk.reserved(), await desk.reserved()
    for lease in (first, second):
        lease.mark_released()
    await first.accept(JOB)
    with pytest.raises(UpstreamBrokeOff):
        await second.accept(JOB, WEBHOOK)
    second.close()
    await desk.quiet()
    assert [row["reservation"] for row in await desk.rows(jobs)] == ["r1"]
    assert await desk.rows(deliveries) == []  # what a job tells its end to is not for another to say
    assert await desk.counts() == pages(20, requests=2, pages_in_flight=20)  # both may run
    assert await desk.settled(3) == Settled(ACCOUNT, 3, 7)


async def test_a_lease_that_was_reclaimed_while_its_body_came_says_try_again(desk: Desk) -> None:
    lease = await desk.admit()
    desk.now += 61
    await desk.engine.write(lambda c: reclaim(c, ACCOUNT, desk.now))
    assert await refusal(lease.reserve(ASK)) is Reason.LEDGER_UNAVAILABLE
    lease.close()
    await desk.quiet()
    assert await desk.counts() == pages(0, requests=0)


async def test_a_job_whose_place_the_ledger_has_lost_is_nobodys(desk: Desk) -> None:
    """The file was replaced by an older one, say: nobody is told of a job that nobody would own."""
    lease = await desk.admit()
    lease.mark_released()
    desk.now += 61
    await desk.engine.write(lambda c: reclaim(c, ACCOUNT, desk.now))
    assert await refusal(lease.accept(JOB)) is Reason.LEDGER_UNAVAILABLE
    lease.close()
    await desk.quiet()
    assert await desk.rows(jobs) == await desk.rows() == []


async def take(step: str, desk: Desk, lease: Lease | None) -> None:
    if lease is None:
        await desk.admit(ask=ASK if step == "admit with pages" else None)
    elif step == "reserve":
        await lease.reserve(ASK)
    else:
        await lease.accept(JOB)


@pytest.mark.parametrize("step", ["admit", "admit with pages", "reserve", "accept"])
async def test_a_submit_interrupted_within_a_step_is_ended_in_the_background(desk: Desk, step: str) -> None:
    """The step goes on; what ends it waits for it, so that it never comes first."""
    lease = None if step.startswith("admit") else await (desk.reserved() if step == "accept" else desk.admit())
    if lease is not None and step == "accept":
        lease.mark_released()
    desk.gated.gate.clear()
    before = desk.faulty.writes
    task = asyncio.ensure_future(take(step, desk, lease))
    await eventually(lambda: desk.faulty.writes > before)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if lease is not None:
        lease.close()
    desk.gated.gate.set()
    await desk.quiet()
    if step == "accept":
        assert await desk.settled(4) == Settled(ACCOUNT, 4, 6)  # the id that was written stays known
    else:
        assert await desk.counts() == pages(0, requests=0)


async def test_what_is_held_is_renewed_through_a_ledger_that_is_away_now_and_then(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.admission.admission, "RENEW_EVERY", 0.0)
    await desk.reserved()
    await (await desk.reserved()).accept(JOB)
    running = asyncio.ensure_future(desk.admission.run())
    for fault in ("before", "after", ""):
        desk.faulty.faults = [fault]
        desk.now += 30
        before = desk.faulty.writes
        await eventually(partial(desk.has_written, before + 2))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    ends = {row["id"]: row["expires_at"] - NOON for row in await desk.rows()}
    assert ends == {"r1": 90 + 60, "r2": TTL}


async def test_a_fault_of_ours_does_not_end_the_renewal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.admission.admission, "RENEW_EVERY", 0.0)
    turns = count()

    def fails(*_: Any) -> None:
        if next(turns) < 2:
            raise KeyError("ours")

    monkeypatch.setattr(gateway.admission.admission, "_renew", fails)
    await desk.admit()  # which is renewed
    running = asyncio.ensure_future(desk.admission.run())
    await eventually(lambda: next(turns) > 5)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_soft_limit_is_told_once_when_it_is_crossed(desk: Desk) -> None:
    profile = make_profile(pages_per_day=100, soft_limit=0.5)
    for expected in (frozenset(), frozenset({"pages_per_day"}), frozenset()):
        lease = await desk.admit(profile)
        await lease.reserve(Ask(30, 1, ""))
        assert desk.hooks.crossings[-1] == expected
    assert lease.lines[-1] == b"X-Gateway-Soft-Limit: pages_per_day"


async def test_read_counts_gives_the_counts_or_says_that_the_ledger_is_away(desk: Desk) -> None:
    await desk.reserved()
    assert (await desk.admission.read_counts(desk.permit())).day == Used(1, 10, 50)
    desk.faulty.is_away = True
    assert await refusal(desk.admission.read_counts(desk.permit())) is Reason.LEDGER_UNAVAILABLE


async def test_the_end_waits_for_what_is_still_to_be_told_but_not_for_ever(desk: Desk) -> None:
    lease = await desk.reserved()
    lease.close()
    await desk.background.close(5.0)
    assert await desk.counts() == pages(0, requests=0)
    other = await desk.reserved()
    desk.faulty.is_away = True
    other.close()
    await desk.background.close(0.05)
    await eventually(lambda: desk.is_quiet)
    stages = {Stage(row["stage"]) for row in await desk.rows()}
    assert stages == {Stage.REFUNDED, Stage.RESERVED}  # the other one expires


async def test_ledger_tells_of_a_problem_until_it_is_over(desk: Desk) -> None:
    ledger = desk.ledger

    def nothing(connection: Connection) -> str | None:
        del connection
        return None

    async def problem_after(work: Any, *, fails: bool = False) -> str | None:
        desk.faulty.is_away = fails
        with suppress(LedgerUnavailable):
            await work(nothing)
        return ledger.problem

    assert ledger.problem == "not asked yet"
    assert await problem_after(ledger.write) is None
    assert await problem_after(ledger.read, fails=True) == "as it was told"
    assert await problem_after(ledger.read) is None
    assert await problem_after(ledger.write, fails=True) == "as it was told"
    assert await problem_after(ledger.read) == "as it was told"  # to read is not to write
    assert await problem_after(ledger.write) is None


async def test_a_lease_says_how_it_stands(desk: Desk) -> None:
    lease = await desk.admit()
    seen = [repr(lease)]
    await lease.reserve(ASK)
    seen.append(repr(lease))
    lease.mark_released()
    seen.append(repr(lease))
    lease.close()
    seen.append(repr(lease))
    states = ("held", "reserving", "released", "over")
    assert seen == [f"<Lease {state} account={ACCOUNT}>" for state in states]
    await desk.quiet()
