"""The life of a reservation, step by step: what is counted, what is given back, what may be done twice."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, event

from gateway.ledger import jobs
from gateway.ledger import reservations as steps
from gateway.ledger.accounts import read_counts
from gateway.ledger.closing import Settled
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import Claim, RequestIdTaken, ReservationLost
from gateway.ledger.schema import reservations
from gateway.ledger.steps import Reserve, Steps
from gateway.ledger.usage import UsedOnDay, grant, reset, used_since
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Profile
from gateway.model.reasons import Reason
from tests.support.endings import end, settle
from tests.support.ledgers import NOON, assert_sound, make_claim, make_profile, rows_of

ACCOUNT = "key:ci"
CLAIM = make_claim()
PROFILE = make_profile(pages_per_day=100)
TTL = 3600


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _counting(connection: Connection, work: Callable[[Connection], Any]) -> int:
    """How many statements it takes."""
    said: list[str] = []

    def note(*arguments: Any) -> None:
        said.append(arguments[2])

    event.listen(connection, "before_cursor_execute", note)
    work(connection)
    event.remove(connection, "before_cursor_execute", note)
    return len(said)


class Book:
    """The steps on one ledger, at a moment that tests set."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = NOON

    async def do(self, step: Any, *arguments: Any, **named: Any) -> Any:
        found = await self.engine.write(lambda c: step(c, *arguments, **named))
        await self.engine.write(assert_sound)
        return found

    async def admit(self, claim: Claim = CLAIM, profile: Profile = PROFILE) -> Any:
        return await self.do(steps.admit, claim, profile, self.now, self.now + 60)

    async def reserve(self, pages: int = 10, claim: Claim = CLAIM, profile: Profile = PROFILE, price: int = 5) -> Any:
        return await self.do(steps.reserve, claim, profile, Ask(pages, price, "fast"), self.now, self.now + 60)

    async def accept(self, request_id: str | None = "job", claim: Claim = CLAIM) -> None:
        await self.do(steps.accept, claim, request_id, self.now + TTL)

    async def settle(self, pages: int | None, claim: Claim = CLAIM, *, failed: bool = False) -> Any:
        return await self.do(settle, claim.account, claim.id, pages, self.now, failed=failed)

    async def cancel(self, claim: Claim = CLAIM) -> Any:
        return await self.do(steps.cancel, claim, self.now)

    async def expire(self) -> int | None:
        """Reclaims the account's; how many pages that charges."""
        pages: int | None = await self.do(steps.reclaim, ACCOUNT, self.now)
        return pages

    async def running(self, pages: int = 10) -> None:
        """A job that the upstream runs."""
        await self.admit()
        await self.reserve(pages)
        await self.accept()

    async def charged(self, pages: int = 10) -> None:
        """A job that was charged because nobody settled it."""
        await self.running(pages)
        self.now += TTL
        assert await self.expire() == pages

    async def counts(self) -> AccountCounts:
        found: AccountCounts = await self.engine.read(lambda c: read_counts(c, ACCOUNT, self.now))
        return found._replace(tat=0.0)

    async def usage(self) -> list[UsedOnDay]:
        return await self.engine.read(lambda c: used_since(c, 0))


@pytest.fixture
def book(engine: Engine) -> Book:
    return Book(engine)


def counts(pages: int, *, requests: int = 1, price: int = 5, **more: Any) -> AccountCounts:
    used = Used(requests, pages, pages * price)
    return AccountCounts(day=used, month=used, **more)


def day(pages: int, refunded: int = 0, **more: Any) -> UsedOnDay:
    return UsedOnDay(**{
        "account": ACCOUNT, "day": 20261123, "requests": 1, "failed": 0, "pages": pages, "refunded": refunded,
        "spend": pages * 5, **more,
    })  # fmt: skip


async def test_a_job_is_reserved_at_most_and_charged_what_it_cost(book: Book) -> None:
    await book.admit()
    assert await book.counts() == counts(0, concurrent=1)
    await book.reserve()
    assert await book.counts() == counts(10, concurrent=1, pages_in_flight=10)
    await book.accept()
    assert await book.counts() == counts(10, pages_in_flight=10)
    assert await book.settle(4) == Settled(ACCOUNT, 4, 6)
    assert await book.counts() == counts(4)
    assert await book.usage() == [day(4, 6)]


async def test_what_a_step_tells_is_how_it_stands(book: Book) -> None:
    for step in (book.admit, book.reserve):
        outcome = await step()
        assert outcome.after._replace(tat=0.0) == await book.counts()


@pytest.mark.parametrize(
    ("pages", "failed", "charged", "refunded"),
    [(None, False, 10, 0), (0, False, 0, 10), (None, True, 0, 10), (7, True, 0, 10), (12, False, 12, 0)],
)
async def test_what_the_upstream_says_is_what_it_costs(
    book: Book, pages: int | None, failed: bool, charged: int, refunded: int
) -> None:
    await book.running()
    assert await book.settle(pages, failed=failed) == Settled(ACCOUNT, charged, refunded)
    assert await book.counts() == counts(charged)
    assert await book.usage() == [day(charged, refunded, failed=int(failed))]


async def test_to_settle_twice_changes_nothing(book: Book) -> None:
    await book.running()
    await book.settle(4)
    for pages, failed in ((4, False), (9, False), (None, True)):
        assert await book.settle(pages, failed=failed) is None
    assert await book.expire() is None
    assert await book.cancel() == 0
    assert await book.usage() == [day(4, 6)]


async def test_what_nobody_reserved_is_given_back_and_leaves_nothing(book: Book) -> None:
    await book.admit()
    assert await book.cancel() == 0
    assert await book.counts() == counts(0, requests=0)
    assert await book.engine.read(lambda c: rows_of(c, reservations)) == []
    assert await book.cancel() == 0


async def test_what_was_reserved_and_not_released_is_given_back(book: Book) -> None:
    await book.admit()
    await book.reserve()
    assert await book.cancel() == 10
    assert await book.cancel() == 0
    assert await book.counts() == counts(0, requests=0)
    assert await book.usage() == [day(0, 10, requests=0)]
    with pytest.raises(ReservationLost):
        await book.reserve()


async def test_a_job_that_runs_is_not_cancelled(book: Book) -> None:
    await book.running()
    assert await book.cancel() == 0
    assert await book.counts() == counts(10, pages_in_flight=10)


async def test_a_place_whose_process_is_dead_is_given_back(book: Book) -> None:
    await book.admit()
    book.now += 59
    assert await book.expire() is None
    assert (await book.counts()).concurrent == 1
    book.now += 1
    assert await book.expire() == 0
    assert await book.counts() == counts(0, requests=0)
    with pytest.raises(ReservationLost):
        await book.reserve()
    await book.accept()  # nothing is there that could be noted
    assert await book.counts() == counts(0, requests=0)


async def test_what_may_have_been_released_is_charged_when_its_process_is_dead(book: Book) -> None:
    await book.admit()
    await book.reserve()
    book.now += 60
    assert await book.expire() == 10
    assert await book.expire() is None
    assert await book.counts() == counts(10)
    await book.accept()  # its submit still ran
    assert await book.counts() == counts(10)
    assert await book.settle(4) == Settled(ACCOUNT, -6, 6)
    assert await book.counts() == counts(4)
    assert await book.usage() == [day(4, 6)]
    assert await book.settle(4) is None


async def test_what_was_reclaimed_too_early_is_given_back_when_it_was_never_released(book: Book) -> None:
    await book.admit()
    await book.reserve()
    book.now += 60
    await book.expire()
    assert await book.cancel() == 10
    assert await book.counts() == counts(0, requests=0)
    assert await book.usage() == [day(0, 10, requests=0)]
    assert await book.cancel() == 0


async def test_a_charge_is_mended_by_what_is_learnt_later(book: Book) -> None:
    await book.charged()
    assert await book.settle(None, failed=True) == Settled(ACCOUNT, -10, 10)
    assert await book.counts() == counts(0)
    assert await book.usage() == [day(0, 10, failed=1)]


async def test_an_answer_that_was_lost_is_charged_unless_its_id_is_known_already(book: Book) -> None:
    await book.admit()
    await book.reserve()
    await book.accept("job")
    await book.accept(None)  # the step before was done, but nobody was told so
    assert await book.settle(3) == Settled(ACCOUNT, 3, 7)


async def test_one_id_is_one_job(book: Book) -> None:
    await book.running()
    other = make_claim("r2", "key:other")
    await book.admit(other)
    await book.reserve(5, other)
    with pytest.raises(RequestIdTaken):
        await book.accept("job", other)
    await book.engine.write(assert_sound)
    await book.accept(None, other)
    assert await book.settle(3) == Settled(ACCOUNT, 3, 7)
    elsewhere = Claim("r3", ACCOUNT, ACCOUNT, "another-upstream")
    await book.admit(elsewhere)
    await book.accept("job", elsewhere)


async def test_nobody_settles_what_is_not_known(book: Book) -> None:
    assert await book.settle(3, make_claim("nothing")) is None
    assert await book.do(steps.reclaim, "nobody", NOON) is None
    await book.do(steps.accept, make_claim("nothing"), "job", NOON)


async def test_renewal_puts_off_the_end_of_what_runs_and_of_nothing_else(book: Book) -> None:
    for name in ("r1", "r2", "r3"):
        await book.admit(make_claim(name))
    await book.reserve(3, make_claim("r2"))
    await book.reserve(3, make_claim("r3"))
    await book.accept("job", make_claim("r3"))
    await book.do(steps.renew, ["r1", "r2", "r3", "r4"], book.now + 500)
    ends = {row["id"]: row["expires_at"] - NOON for row in await book.engine.read(lambda c: rows_of(c, reservations))}
    assert ends == {"r1": 500, "r2": 500, "r3": TTL}
    book.now += 60
    assert await book.do(steps.overdue, book.now) == []
    book.now += TTL
    assert await book.do(steps.overdue, book.now) == [ACCOUNT]
    assert await book.do(steps.count_overdue, book.now, ACCOUNT) == 3


async def test_many_that_expire_together_are_reclaimed_in_few_statements(book: Book) -> None:
    """The ledger may be far away: 200 of them took a minute in transactions of their own."""
    for number in range(30):
        claim = make_claim(f"r{number}")
        await book.admit(claim)
        if number % 3:
            await book.reserve(2, claim)
        if number % 3 == 2:
            await book.accept(f"job-{number}", claim)
        if number == 14:
            book.now += 86_400  # some are yesterday's
    book.now += TTL
    statements = await book.do(_counting, lambda c: steps.reclaim(c, ACCOUNT, book.now))
    assert statements <= 12
    assert [(used.requests, used.pages) for used in await book.usage()] == [(10, 20), (10, 20)]
    assert (await book.counts()).concurrent == (await book.counts()).pages_in_flight == 0
    assert await book.expire() is None


@pytest.mark.parametrize(
    ("limits", "reason", "retry"),
    [
        ({"requests_per_minute": 1}, Reason.RATE_LIMITED, 60),
        ({"concurrent_requests": 1}, Reason.TOO_MANY_REQUESTS_IN_FLIGHT, 5),
        ({"requests_per_day": 1}, Reason.BUDGET_EXHAUSTED, None),
        ({"requests_per_month": 1}, Reason.BUDGET_EXHAUSTED, None),
        ({"pages_per_day": 10}, Reason.BUDGET_EXHAUSTED, None),
        ({"pages_per_month": 10}, Reason.BUDGET_EXHAUSTED, None),
        ({"pages_per_month": 10, "concurrent_requests": 1}, Reason.TOO_MANY_REQUESTS_IN_FLIGHT, 5),
    ],
)
async def test_a_submit_over_its_limits_is_refused_and_takes_nothing(
    book: Book, limits: dict[str, int], reason: Reason, retry: int | None
) -> None:
    profile = make_profile(**limits)
    await book.admit(profile=profile)
    await book.reserve(profile=profile)
    before = await book.counts()
    outcome = await book.admit(make_claim("r2"), profile)
    assert (outcome.denial.reason, outcome.denial.retry_after) == (reason, retry)
    assert await book.counts() == before
    assert await book.cancel(make_claim("r2")) == 0
    assert await book.counts() == before


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"pages_in_flight": 9}, Reason.TOO_MANY_PAGES_IN_FLIGHT),
        ({"pages_per_day": 9}, Reason.BUDGET_EXHAUSTED),
        ({"pages_per_month": 9}, Reason.BUDGET_EXHAUSTED),
        ({"spend_per_month": 49}, Reason.BUDGET_EXHAUSTED),
    ],
)
async def test_pages_over_their_limits_are_refused_and_take_nothing(
    book: Book, limits: dict[str, int], reason: Reason
) -> None:
    profile = make_profile(**limits)
    await book.admit(profile=profile)
    outcome = await book.reserve(profile=profile)
    assert outcome.denial.reason is reason
    assert await book.counts() == counts(0, concurrent=1)
    assert (await book.reserve(9, profile=profile)).denial is None
    assert await book.counts() == counts(9, concurrent=1, pages_in_flight=9)


@pytest.mark.parametrize("name", ["pages_per_day", "pages_per_month", "requests_per_day", "requests_per_month"])
async def test_a_budget_of_nothing_lets_nothing_in(book: Book, name: str) -> None:
    outcome = await book.admit(profile=make_profile(**{name: 0}))
    assert outcome.denial.reason is Reason.BUDGET_EXHAUSTED
    assert await book.counts() == AccountCounts()


async def test_without_money_only_what_is_free_is_done(book: Book) -> None:
    profile = make_profile(spend_per_month=0)
    await book.admit(profile=profile)
    assert (await book.reserve(profile=profile, price=1)).denial.reason is Reason.BUDGET_EXHAUSTED
    assert (await book.reserve(profile=profile, price=0)).denial is None


async def test_what_is_over_is_reclaimed_before_anybody_is_refused(book: Book) -> None:
    profile = make_profile(concurrent_requests=1)
    await book.admit(profile=profile)
    book.now += 60
    assert (await book.admit(make_claim("r2"), profile)).denial is None
    assert (await book.counts()).concurrent == 1


@pytest.mark.parametrize(
    ("before", "after", "of_day", "of_month"),
    [
        ("2026-11-23T23:59:59", "2026-11-24T00:00:00", 0, 10),
        ("2026-11-30T23:59:59", "2026-12-01T00:00:00", 0, 0),
        ("2026-12-31T23:59:59", "2027-01-01T00:00:00", 0, 0),
        ("2028-02-28T23:59:59", "2028-02-29T00:00:00", 0, 10),
        ("2026-03-29T00:59:59", "2026-03-29T03:00:00", 10, 10),  # clocks of Europe go forward in between
        ("2026-10-25T00:30:00", "2026-10-25T02:30:00", 10, 10),  # and back
    ],
)
async def test_windows_are_those_of_utc(book: Book, before: str, after: str, of_day: int, of_month: int) -> None:
    book.now = at(before)
    await book.running()
    book.now = at(after)
    found = await book.counts()
    assert (found.day.pages, found.month.pages, found.pages_in_flight) == (of_day, of_month, 10)
    await book.settle(4)
    found = await book.counts()
    assert (found.day.pages, found.month.pages) == (min(of_day, 4), min(of_month, 4))
    book.now = at(before)
    assert (await book.counts()).day == Used(1, 4, 20)


async def test_an_upload_over_midnight_counts_where_its_pages_are(book: Book) -> None:
    book.now = at("2026-11-30T23:59:50")
    await book.admit()
    book.now += 20
    await book.reserve()
    assert await book.counts() == counts(10, concurrent=1, pages_in_flight=10)
    book.now -= 20
    assert (await book.counts()).day == Used()
    assert (await book.counts()).month == Used()
    book.now += 20
    await book.cancel()
    assert await book.counts() == counts(0, requests=0)


@pytest.mark.parametrize(
    ("before", "limits", "fit"),
    [
        ("2026-11-29T23:59:50", {"requests_per_day": 2}, 0),
        ("2026-11-29T23:59:50", {"requests_per_day": 3, "requests_per_month": 4}, 1),
        ("2026-11-29T23:59:50", {"requests_per_month": 4}, 2),  # it is counted in that month already
        ("2026-11-30T23:59:50", {"requests_per_month": 2}, 0),
        ("2026-11-30T23:59:50", {"requests_per_day": 3, "requests_per_month": 3}, 1),
    ],
)
async def test_uploads_over_midnight_pass_no_limit_of_requests(
    book: Book, ledger: Ledger, before: str, limits: dict[str, int], fit: int
) -> None:
    """They moved into the new day unchecked: twice as many could be submitted in it as it allows."""
    steps_of, profile = Steps(ledger), make_profile(**limits)
    book.now = at(before)
    held = [make_claim(f"held-{number}") for number in range(2)]
    for claim in held:
        assert (await book.admit(claim, profile)).denial is None
    book.now += 20
    for number in range(2):
        claim = make_claim(f"new-{number}")
        assert (await book.admit(claim, profile)).denial is None
        assert (await book.reserve(1, claim, profile)).denial is None
    asks = [Reserve(claim, profile, Ask(1, 5, ""), book.now, book.now + 60) for claim in held]
    outcomes = await asyncio.gather(*map(steps_of.reserve, asks))
    assert [outcome.denial and outcome.denial.reason for outcome in outcomes] == [
        *[None] * fit, *[Reason.BUDGET_EXHAUSTED] * (2 - fit)
    ]  # fmt: skip
    assert (await book.counts()).day.requests == outcomes[-1].after.day.requests == 2 + fit
    for claim in held:
        await book.cancel(claim)
    assert (await book.counts()).day == (await book.counts()).month == Used(2, 2, 10)


@pytest.mark.parametrize("seconds", [1, 59, 86_400, -1, -59, -61, -3600, -86_400, 40 * 86_400, -40 * 86_400])
async def test_a_clock_that_jumps_shuts_nobody_out_for_long(book: Book, seconds: int) -> None:
    profile = make_profile(requests_per_minute=2)
    await book.admit(profile=profile)
    await book.admit(make_claim("r2"), profile)
    book.now += seconds
    denial = (await book.admit(make_claim("r3"), profile)).denial
    if denial is not None:
        assert denial.retry_after <= 120
        book.now += denial.retry_after
        assert (await book.admit(make_claim("r3"), profile)).denial is None


async def test_clocks_of_replicas_that_differ_forgive_no_debt(book: Book) -> None:
    profile = make_profile(requests_per_minute=2)
    await book.admit(profile=profile)
    await book.admit(make_claim("r2"), profile)
    book.now -= 5
    assert (await book.admit(make_claim("r3"), profile)).denial.retry_after == 35


@pytest.mark.parametrize("limit", [1, 7, 23, 59, 97])
async def test_a_whole_burst_is_there_to_the_last_submit(book: Book, limit: int) -> None:
    profile = make_profile(requests_per_minute=limit, concurrent_requests=1000)

    def burst(connection: Connection) -> int:
        told = [
            steps.admit(connection, make_claim(f"r{n}"), profile, NOON + 0.123_456_7, NOON + 60)
            for n in range(limit + 3)
        ]
        return sum(outcome.denial is None for outcome in told)

    assert await book.do(burst) == limit


async def test_a_grant_adds_pages_until_it_ends(book: Book) -> None:
    profile = make_profile(pages_per_day=5, pages_per_month=5)
    await book.do(grant, ACCOUNT, 5, int(NOON) + 30, NOON)
    await book.do(grant, "key:other", 50, int(NOON) + 300, NOON)
    assert (await book.counts()).granted == 5 if await book.admit(profile=profile) else False
    assert (await book.reserve(11, profile=profile)).denial is not None
    assert (await book.reserve(10, profile=profile)).denial is None
    book.now += 30
    assert (await book.counts()).granted == 0
    assert (await book.admit(make_claim("r2"), profile)).denial.reason is Reason.BUDGET_EXHAUSTED
    await book.accept()
    await book.settle(4)
    assert (await book.admit(make_claim("r2"), profile)).denial is None


@pytest.mark.parametrize("failed", [True, False])
async def test_a_charge_that_a_reset_forgot_is_not_given_back_again(book: Book, failed: bool) -> None:
    await book.charged()
    await book.do(reset, ACCOUNT, book.now)
    assert await book.settle(4, failed=failed) is not None
    assert await book.counts() == counts(0, requests=0)
    assert await book.usage() == [day(0 if failed else 4, 10 if failed else 6, failed=int(failed))]


async def test_a_reset_forgets_all_charges_before_it_also_by_a_clock_that_was_set_back(book: Book) -> None:
    """A charge that seemed later than the reset was given back though the windows had nothing of it: -6 pages."""
    await book.charged()
    book.now -= 30
    await book.do(reset, ACCOUNT, book.now)
    assert await book.settle(4) is not None
    assert await book.counts() == counts(0, requests=0)


async def test_such_a_reset_also_forgets_jobs_that_were_free_and_are_charged_after_all(book: Book) -> None:
    """The page of a job that was said to have failed, then to be complete, was in a day whose request was not."""
    await book.running()
    accepted = await book.do(steps.accept, CLAIM, "job", book.now + TTL)
    await book.do(jobs.begin, accepted, NewJob("job", "default", "/convert", None), "me", book.now)
    await book.do(end, ("container", "job"), None, book.now, TTL, failed=True)
    book.now -= 30
    await book.do(reset, ACCOUNT, book.now)
    charged = await book.do(end, ("container", "job"), None, book.now, TTL, failed=False)
    assert charged.settled == Settled(ACCOUNT, 10, 0)
    assert await book.counts() == counts(0, requests=0)


async def test_after_such_a_reset_a_charge_is_corrected_as_ever(book: Book) -> None:
    await book.charged()
    book.now -= TTL + 30
    await book.do(reset, ACCOUNT, book.now)
    other = make_claim("r2")
    await book.admit(other)
    await book.reserve(10, claim=other)
    await book.accept("another", other)
    book.now += TTL
    await book.expire()
    await book.do(settle, ACCOUNT, "r2", 4, book.now, failed=False)
    assert await book.counts() == counts(4)


async def test_a_charge_after_a_reset_is_mended(book: Book) -> None:
    await book.running()
    await book.do(reset, ACCOUNT, book.now)
    book.now += TTL
    await book.expire()
    await book.settle(4)
    assert await book.counts() == counts(4)
