"""Any steps in any order, against a model that adds up what each reservation counts for.

GATEWAY_TEST_MACHINE is how many times as long it runs as by default.
"""

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from gateway.ledger import jobs
from gateway.ledger import reservations as steps
from gateway.ledger import usage as reports
from gateway.ledger.accounts import read_counts
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import Claim, ReservationLost
from gateway.ledger.schema import Stage, accounts, grants, usage, windows
from gateway.ledger.steps import Accept, Cancel, Steps
from gateway.limits.job_cost import Facts, FailedCosts, Known
from gateway.limits.quotas import Used
from gateway.limits.submit_decisions import Ask
from gateway.limits.windows import day_of, month_of
from gateway.model.identity import Profile
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from tests.support.ledgers import NOON, Postgres, assert_sound, empty, make_profile, open_engine
from tests.support.pure import examples as scaled

TIMES = int(os.environ.get("GATEWAY_TEST_MACHINE", "1"))
ACCOUNTS = ("key:a", "key:b")
HELD = {Stage.ADMITTED, Stage.RESERVED}
LIVE = {*HELD, Stage.ACCEPTED}
LEASE, TTL = 60, 3600
PROFILE = make_profile(
    concurrent_requests=3,
    pages_in_flight=40,
    pages_per_day=60,
    pages_per_month=90,
    requests_per_day=7,
    requests_per_month=12,
    spend_per_month=500,
)


FACTS = (Known.COMPLETE, Known.FAILED, Known.LOST, Known.GIVEN_UP, Known.TAKEN, Known.TAKEN | Known.COMPLETE)

SHARES: Any = st.sampled_from([None, 0.0, 0.3, 1.0, 1.2])
"""How many pages a job had of those that were reserved for it, if its container says."""


def costs_when_failed(claim: Claim) -> FailedCosts:
    """Each job has its rule, for good."""
    return tuple(FailedCosts)[int(claim.id[1:]) % 3]


def has_end(known: Known) -> bool:
    return bool(known & ~Known.TAKEN)


def is_free_by(known: Known, rule: FailedCosts) -> bool:
    """What docs/limits.md says: a job that failed or was lost is free, unless its shape has it cost what was read."""
    if known & (Known.COMPLETE | Known.DELETED) or rule is FailedCosts.RESERVED:
        return False
    if Known.FAILED in known:
        return rule is FailedCosts.NOTHING or Known.TAKEN not in known
    return Known.GIVEN_UP not in known and Known.TAKEN not in known


@dataclass
class Held:
    """A reservation of the model, and what it counts for, in its windows and for good."""

    claim: Claim
    stage: Stage
    day: int
    month: int
    expires: float | None
    pages: int = 0
    price: int = 0
    requests: int = 1
    reserved: int = 0
    failed: int = 0
    closed_at: int = 0
    kept: Used | None = None
    forgotten: frozenset[int] = frozenset()
    job: JobRef | None = None
    known: Known = Known.NOTHING
    has_ended: bool = False
    is_deleted: bool = False
    is_final: bool = False
    was: int = 0

    @property
    def used(self) -> Used:
        return self.kept or Used(self.requests, self.pages, self.pages * self.price)


@dataclass
class Model:
    """What the ledger must come to."""

    held: dict[str, Held] = field(default_factory=dict)
    grants: list[tuple[str, int, int]] = field(default_factory=list)
    resets: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def of(self, account: str) -> list[Held]:
        return [found for found in self.held.values() if found.claim.account == account]

    def window(self, account: str, period: int) -> Used:
        counted = [h.used for h in self.of(account) if period in (h.day, h.month) and period not in h.forgotten]
        return Used(*map(sum, zip(*counted, strict=True))) if counted else Used()

    def fits(self, account: str, more: Used, now: float, *, is_new: bool) -> bool:
        day, month = (self.window(account, period(now).period) for period in (day_of, month_of))
        granted = sum(pages for of, pages, until in self.grants if of == account and until > int(now))
        open_ = self.of(account)
        within = {
            PROFILE.concurrent_requests: is_new + sum(h.stage in HELD for h in open_),
            PROFILE.pages_in_flight: more.pages + sum(h.pages for h in open_ if h.stage in LIVE),
        }
        budgets = [
            (PROFILE.pages_per_day or 0, granted, day.pages, more.pages),
            (PROFILE.pages_per_month or 0, granted, month.pages, more.pages),
            (PROFILE.requests_per_day or 0, 0, day.requests, more.requests),
            (PROFILE.requests_per_month or 0, 0, month.requests, more.requests),
            (PROFILE.spend_per_month or 0, 0, month.spend, more.spend),
        ]
        return all(count <= most for most, count in within.items()) and all(
            not cost or used + cost <= limit + extra for limit, extra, used, cost in budgets
        )

    def reclaim(self, account: str, now: float) -> None:
        for found in self.of(account):
            self.expire(found, now)

    def expire(self, found: Held, now: float) -> None:
        if found.expires is None or found.expires > int(now):
            return
        if found.stage is Stage.ADMITTED:
            del self.held[found.claim.id]
        else:
            self.close(found, Stage.CHARGED, found.pages, now)

    def close(self, found: Held, stage: Stage, cost: int, now: float, *, failed: bool = False) -> None:
        """A charge from before a reset is in no window any more: to mend it changes none."""
        if found.stage is Stage.CHARGED and found.closed_at <= self.resets[found.claim.account]:
            found.kept = found.used
        found.stage, found.pages, found.failed = stage, cost, found.failed + failed
        found.expires = None
        if found.kept is None:  # or what is charged again would count behind the reset
            found.closed_at = int(now)

    def copy(self) -> "Model":
        held = {name: replace(found) for name, found in self.held.items()}
        return Model(held, list(self.grants), defaultdict(int, self.resets))


class Machine(RuleBasedStateMachine):
    """Both, side by side. `url` is set by who runs it."""

    url = ""
    claims: Any = Bundle("claims")
    running: Any = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(debug=False)
        self.engine = self.runner.run(self._opened())
        self.steps = Steps(Ledger(self.engine))
        self.do(empty)
        self.model = Model()
        self.now = NOON
        self.count = 0
        self.was_set_back = False

    async def _opened(self) -> Any:
        return open_engine(self.url)

    def teardown(self) -> None:
        self.runner.run(self.engine.close())
        self.runner.close()

    def do(self, work: Callable[[Connection], Any]) -> Any:
        return self.runner.run(self.engine.write(work))

    def found(self, claim: Claim) -> Held | None:
        return self.model.held.get(claim.id)

    @rule(
        target=claims,
        account=st.sampled_from(ACCOUNTS),
        ask=st.none() | st.builds(Ask, st.integers(1, 30), st.integers(0, 12), st.just("fast")),
    )
    def admit(self, account: str, ask: Ask | None = None) -> Claim:
        """With its pages, if they are known by then."""
        self.count += 1
        claim = Claim(f"r{self.count}", account, account, "container")
        outcome = self.do(lambda c: steps.admit(c, claim, PROFILE, self.now, self.now + LEASE, ask))
        if outcome.denial is not None and outcome.denial.reason is Reason.RATE_LIMITED:
            assert self.was_set_back  # by less than makes a debt unbelievable: it is paid by waiting
            self.model.reclaim(account, self.now)
            self.now += outcome.denial.retry_after
            outcome = self.do(lambda c: steps.admit(c, claim, PROFILE, self.now, self.now + LEASE, ask))
        if not self.fits_whole(account, ask):
            self.model.reclaim(account, self.now)
        fits = self.fits_whole(account, ask)
        assert (outcome.denial is None) == fits
        assert outcome.has_spent_token == self.fits_whole(account, None)
        if fits:
            day, month = day_of(self.now).period, month_of(self.now).period
            made = Held(claim, Stage.ADMITTED, day, month, int(self.now) + LEASE)
            if ask is not None:
                made.stage, made.pages, made.price, made.reserved = Stage.RESERVED, ask.pages, ask.price, ask.pages
            self.model.held[claim.id] = made
            assert outcome.after.concurrent == outcome.before.concurrent + 1
        return claim

    def fits_whole(self, account: str, ask: Ask | None) -> bool:
        """Whether a submit is let in by its head, and its pages, too, if it names them."""
        if not self.model.fits(account, Used(1, 1, 0), self.now, is_new=True):
            return False
        return ask is None or self.model.fits(account, Used(1, ask.pages, ask.spend), self.now, is_new=True)

    @rule(
        claim=claims, pages=st.integers(1, 30), price=st.integers(0, 12), mode=st.sampled_from(["fast", "accurate"])
    )
    def reserve(self, claim: Claim, pages: int, price: int, mode: str = "fast") -> None:
        ask, more = Ask(pages, price, mode), Used(0, pages, pages * price)
        model = self.model.copy()
        if not model.fits(claim.account, more, self.now, is_new=False):
            model.reclaim(claim.account, self.now)
        found = model.held.get(claim.id)
        if found is None or found.stage is not Stage.ADMITTED:
            with pytest.raises(ReservationLost):
                self.do(lambda c: steps.reserve(c, claim, PROFILE, ask, self.now, self.now + LEASE))
            return
        outcome = self.do(lambda c: steps.reserve(c, claim, PROFILE, ask, self.now, self.now + LEASE))
        self.model = model
        fits = model.fits(claim.account, more, self.now, is_new=False)
        assert (outcome.denial is None) == fits
        if fits:
            found.stage, found.pages, found.price, found.reserved = Stage.RESERVED, pages, price, pages
            found.day, found.month = day_of(self.now).period, month_of(self.now).period
            found.forgotten = frozenset()
            found.expires = int(self.now) + LEASE

    @rule(claim=claims, is_lost=st.booleans())
    def accept(self, claim: Claim, is_lost: bool) -> None:
        request_id = None if is_lost else f"job-{claim.id}"
        if is_lost:
            self.runner.run(self._lose(claim))
        else:
            accepted = self.do(lambda c: steps.accept(c, claim, request_id, self.now + TTL))
        found = self.found(claim)
        if found is None:
            return
        if request_id is not None and found.job is None:
            new = NewJob(request_id, "default", "/convert", None)
            self.do(lambda c: jobs.begin(c, accepted, new, "me", self.now))
            found.job = JobRef("container", request_id, claim.id)
        if found.stage in HELD:
            found.stage, found.expires = Stage.ACCEPTED, int(self.now) + TTL

    async def _lose(self, claim: Claim) -> None:
        await self.steps.accept(Accept(claim, None, None, "me", self.now, self.now + TTL))

    @rule(target=running, account=st.sampled_from(ACCOUNTS), pages=st.integers(1, 10), price=st.integers(0, 12))
    def take(self, account: str, pages: int, price: int) -> Any:
        """The whole way to a job that runs, which single steps go seldom."""
        claim = self.admit(account)
        if self.found(claim) is not None:
            self.reserve(claim, pages, price)
            self.accept(claim, is_lost=False)
        found = self.found(claim)
        return multiple(*[claim] * (found is not None and found.job is not None))

    @rule(claim=running, told=st.lists(st.tuples(st.sampled_from(FACTS), SHARES), min_size=1, max_size=4))
    def record(self, claim: Claim, told: list[tuple[Known, float | None]]) -> None:
        """Replicas record what they have learnt, in any order."""
        for known, share in told:
            self.record_one(claim, known, share)

    @rule(claim=claims, known=st.sampled_from(FACTS), share=SHARES)
    def record_one(self, claim: Claim, known: Known, share: float | None) -> None:
        facts, rule = Facts(known, self._pages(claim, known, share)), costs_when_failed(claim)
        recorded = self.do(lambda c: jobs.record_facts(c, self._job_of(claim), facts, rule, self.now, TTL))
        self._check_recorded(claim, facts, recorded)

    def _job_of(self, claim: Claim) -> JobRef:
        found = self.found(claim)
        return found.job if found and found.job else JobRef("container", f"job-{claim.id}", claim.id)

    def _pages(self, claim: Claim, known: Known, share: float | None) -> int | None:
        found = self.found(claim)
        is_counted = found is not None and share is not None and Known.COMPLETE in known
        return int(found.reserved * share) if is_counted else None  # type: ignore[union-attr, operator]

    def _check_recorded(self, claim: Claim, facts: Facts, recorded: Any) -> None:
        found, known, rule = self.found(claim), facts.known, costs_when_failed(claim)
        if found is None or found.job is None:
            assert recorded is None
            return
        is_new = (found.known | known) != found.known
        found.known |= known
        settled = self._settlement(found, facts.pages, rule) if is_new and has_end(found.known) else None
        assert recorded.settled == settled
        assert recorded.known == found.known
        assert recorded.is_end == (has_end(found.known) and not found.has_ended and not found.is_deleted)
        found.has_ended |= has_end(found.known)

    @rule(
        told=st.lists(
            st.tuples(running, st.sampled_from(FACTS), SHARES), min_size=2, max_size=6, unique_by=lambda t: t[0]
        )
    )
    def record_together(self, told: list[tuple[Claim, Known, float | None]]) -> None:
        """A replica tells of many at once: it comes to what it comes to one by one."""
        facts = [Facts(known, self._pages(claim, known, share)) for claim, known, share in told]
        asked = [
            jobs.NewFacts(self._job_of(claim), fact, costs_when_failed(claim))
            for (claim, _, _), fact in zip(told, facts, strict=True)
        ]
        recorded = self.do(lambda c: jobs.record_unlocked(c, asked, self.now, TTL))
        for (claim, _, _), fact, one in zip(told, facts, recorded, strict=True):
            self._check_recorded(claim, fact, one)

    def _settlement(self, found: Held, pages: int | None, rule: FailedCosts) -> tuple[str, int, int] | None:
        """Lets the model cost what follows from what is known; what the ledger is to tell of it."""
        is_free, is_said = is_free_by(found.known, rule), Known.COMPLETE in found.known
        if found.stage is Stage.SETTLED:
            return None if found.is_final or is_free else self._charged_again(found, pages if is_said else None)
        if found.stage not in {Stage.RESERVED, Stage.ACCEPTED, Stage.CHARGED}:
            return None
        if not is_free and not is_said:
            if found.stage is Stage.CHARGED:
                return None
            self.model.close(found, Stage.CHARGED, found.pages, self.now)
            return found.claim.account, found.pages, 0
        cost = 0 if is_free else found.pages if pages is None else pages
        before, given_back = found.pages if found.stage is Stage.CHARGED else 0, max(0, found.pages - cost)
        found.is_final, found.was = is_said, found.pages
        self.model.close(found, Stage.SETTLED, cost, self.now, failed=is_free)
        return found.claim.account, cost - before, given_back

    def _charged_again(self, found: Held, pages: int | None) -> tuple[str, int, int]:
        """What was given back is charged after all, in its own day: unless a reset forgot that day meanwhile."""
        is_said = Known.COMPLETE in found.known
        if found.closed_at <= self.model.resets[found.claim.account] and found.kept is None:
            found.kept = found.used
        found.pages = found.was if pages is None else pages
        found.failed -= 1
        found.stage, found.is_final = Stage.SETTLED if is_said else Stage.CHARGED, is_said
        if is_said:
            found.closed_at = int(self.now)
        return found.claim.account, found.pages, 0

    @rule(claim=running)
    def delete(self, claim: Claim) -> None:
        """Its owner deletes it: what runs is charged as reserved, unless it turns out to be complete."""
        found = self.found(claim)
        job = found.job if found and found.job else JobRef("container", f"job-{claim.id}", claim.id)
        settled = self.do(lambda c: jobs.delete_for_owner(c, job, self.now)).settled
        if found is None or found.job is None or found.is_deleted:
            assert settled is None
            return
        found.is_deleted = True
        if not has_end(found.known):
            found.known |= Known.GIVEN_UP | Known.DELETED
        if found.stage not in {Stage.RESERVED, Stage.ACCEPTED}:
            assert settled is None
            return
        assert settled == (claim.account, found.pages, 0)
        self.model.close(found, Stage.CHARGED, found.pages, self.now)

    @rule(claim=claims)
    def cancel(self, claim: Claim) -> None:
        self._was_cancelled(claim, self.do(lambda c: steps.cancel(c, claim, self.now)))

    @rule(told=st.lists(claims, min_size=2, max_size=5, unique=True))
    def cancel_together(self, told: list[Claim]) -> None:
        """Many of both accounts at once: it comes to what it comes to one by one."""

        async def together() -> list[int]:
            return await asyncio.gather(*(self.steps.cancel(Cancel(claim, self.now)) for claim in told))

        for claim, refunded in zip(told, self.runner.run(together()), strict=True):
            self._was_cancelled(claim, refunded)

    def _was_cancelled(self, claim: Claim, refunded: int) -> None:
        found = self.found(claim)
        if found is None or found.stage not in {*HELD, Stage.CHARGED}:
            assert refunded == 0
            return
        assert refunded == found.pages
        if found.stage is Stage.ADMITTED:
            del self.model.held[claim.id]
        else:
            self.model.close(found, Stage.REFUNDED, 0, self.now)
            found.requests = 0

    @rule(claim=consumes(claims))
    def drop(self, claim: Claim) -> None:
        """Its process is dead: nobody speaks of it again."""

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        self.do(lambda c: steps.renew(c, [claim.id, "nobody"], self.now + LEASE))
        found = self.found(claim)
        if found is not None and found.stage in HELD:
            found.expires = int(self.now) + LEASE

    @rule()
    def expire(self) -> None:
        for account in self.do(lambda c: steps.overdue(c, self.now)):
            self.do(partial(steps.reclaim, account=account, now=self.now))
        for account in ACCOUNTS:
            self.model.reclaim(account, self.now)

    @rule(seconds=st.sampled_from([1, 30, 61, 3601, 6 * 3600, 86_400, 9 * 86_400, -30, -3601, -86_400]))
    def passes(self, seconds: int) -> None:
        self.now += seconds
        self.was_set_back |= seconds < 0

    @rule(account=st.sampled_from(ACCOUNTS), pages=st.integers(1, 40), lasts=st.sampled_from([10, 90_000]))
    def grant(self, account: str, pages: int, lasts: int) -> None:
        until = int(self.now) + lasts
        self.do(lambda c: reports.grant(c, account, pages, until, self.now))
        self.model.grants.append((account, pages, until))

    @rule(account=st.sampled_from(ACCOUNTS))
    def reset(self, account: str) -> None:
        day, month = day_of(self.now).period, month_of(self.now).period
        before = self.model.window(account, month)
        forgotten = self.do(lambda c: reports.reset(c, account, self.now))
        if self.do(lambda c: c.execute(select(accounts).where(accounts.c.account == account)).first()) is not None:
            self.model.resets[account] = int(self.now)
            for found in self.model.of(account):
                if found.stage is Stage.CHARGED or found.failed:  # perhaps later, by a clock that was set back since
                    found.closed_at = min(found.closed_at, int(self.now))
        for found in self.model.of(account):
            if found.stage not in LIVE:
                found.forgotten |= {day, month}
        after = self.model.window(account, month)
        assert forgotten == Used(*(b - a for b, a in zip(before, after, strict=True)))

    @invariant()
    def agrees(self) -> None:
        self.do(assert_sound)
        self.do(self._counts)
        self.do(self._usage)

    def _counts(self, connection: Connection) -> None:
        for row in connection.execute(select(windows)):
            assert Used(row.requests, row.pages, row.spend) == self.model.window(row.account, row.period), row
        for account in ACCOUNTS:
            counts = read_counts(connection, account, self.now)
            assert counts.day == self.model.window(account, day_of(self.now).period)
            assert counts.month == self.model.window(account, month_of(self.now).period)
            assert counts.concurrent == sum(found.stage in HELD for found in self.model.of(account))
            assert counts.pages_in_flight == sum(h.pages for h in self.model.of(account) if h.stage in LIVE)

    def _usage(self, connection: Connection) -> None:
        expected: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0] * 5)
        for found in self.model.held.values():
            if found.stage not in LIVE:
                cost, refunded = found.pages, max(0, found.reserved - found.pages)
                counts = (found.requests, found.failed, cost, refunded, cost * found.price)
                total = expected[found.claim.account, found.day]
                expected[found.claim.account, found.day] = [a + b for a, b in zip(total, counts, strict=True)]
        rows = connection.execute(select(usage))
        actual = {(r.account, r.day): [r.requests, r.failed, r.pages, r.refunded, r.spend] for r in rows}
        assert actual == expected
        assert connection.execute(select(grants)).all() is not None


def run(url: str, examples: int, step_count: int) -> None:
    machine = type("Machine", (Machine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=scaled(examples) * TIMES,
            stateful_step_count=step_count,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where there is one: a thousand transactions cost no disk anything."""
    shared = Path("/dev/shm")  # noqa: S108 -- a directory of our own is made in it
    directory = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.timeout(60 + 120 * TIMES)
def test_sqlite_agrees_with_the_model(memory: Path) -> None:
    run(f"sqlite:///{memory}/ledger.db", 25, 40)


@pytest.mark.timeout(60 + 120 * TIMES)
def test_postgresql_agrees_with_the_model(postgres: Postgres, migrated: str) -> None:
    run(postgres.url_of(migrated), 5, 30)
    postgres.empty(migrated)


def test_the_profile_of_the_model_has_all_budgets() -> None:
    names = [name for name in Profile.__slots__ if name.endswith(("_per_day", "_per_month"))]
    assert all(getattr(PROFILE, name) is not None for name in names)
