"""One account's submits go to the ledger a few at a time, and what was refused is not asked again at once."""

import asyncio
from typing import Any

import pytest

from gateway.admission.throttle import Throttle
from gateway.errors import LedgerUnavailable
from gateway.ledger.steps import MOST_OF_AN_ACCOUNT
from gateway.limits.quotas import AccountCounts, Used, refuse_submit
from gateway.limits.submit_decisions import StepOutcome
from gateway.model.identity import Profile
from gateway.model.reasons import Denial, Reason
from tests.support.pure import at_once

NOON = 1_795_435_200.0


class Clock:
    """The time of a test."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Asked:
    """A ledger that answers what it is told to, and counts."""

    def __init__(self, outcome: StepOutcome) -> None:
        self.outcome = outcome
        self.count = 0

    async def __call__(self) -> StepOutcome:
        self.count += 1
        return self.outcome


def profile(**limits: Any) -> Profile:
    return Profile(**{"name": "p", "body_limit": 1, "requests_per_minute": 60, **limits})


def denied(counts: AccountCounts, limits: Profile) -> StepOutcome:
    return StepOutcome(counts, counts, refuse_submit(limits, counts, NOON))


RATE = AccountCounts(tat=NOON + 62.5)  # a burst of 60 is used up, and two and a half more
FULL = AccountCounts(concurrent=1)


async def test_what_the_rate_refused_is_refused_without_asking_until_it_is_earned_back() -> None:
    clock, limits = Clock(), profile()
    throttle, ledger = Throttle(clock, 1), Asked(denied(AccountCounts(tat=NOON + 60), limits))
    first = await throttle.through("key:a", limits, ledger)
    assert first.denial is not None
    assert first.denial.retry_after == 1
    clock.now += 0.9
    again = await throttle.through("key:a", limits, ledger)
    assert (again.denial, ledger.count) == (first.denial, 1)
    clock.now += 0.2
    await throttle.through("key:a", limits, ledger)
    assert ledger.count == 2


async def test_other_limits_and_other_accounts_are_asked_anew() -> None:
    clock, limits = Clock(), profile()
    throttle, ledger = Throttle(clock, 1), Asked(denied(AccountCounts(tat=NOON + 60), limits))
    await throttle.through("key:a", limits, ledger)
    await throttle.through("key:b", limits, ledger)
    await throttle.through("key:a", profile(requests_per_minute=61), ledger)
    assert ledger.count == 3


async def test_what_others_may_give_back_is_remembered_for_a_moment_alone() -> None:
    clock, limits = Clock(), profile(concurrent_requests=1)
    throttle, ledger = Throttle(clock, 1), Asked(denied(FULL, limits))
    for _ in range(3):
        outcome = await throttle.through("key:a", limits, ledger)
        assert outcome.denial is not None
        assert outcome.denial.reason is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    assert ledger.count == 1
    throttle.drop_refusal("key:a")
    await throttle.through("key:a", limits, ledger)
    clock.now += 0.6
    await throttle.through("key:a", limits, ledger)
    assert ledger.count == 3


async def test_what_was_refused_for_its_pages_is_nothing_that_others_are_refused_for() -> None:
    """A smaller document may fit."""
    why = Denial(Reason.BUDGET_EXHAUSTED, "Too many.")
    full = StepOutcome(AccountCounts(), AccountCounts(tat=NOON + 1), why, has_spent_token=True)
    throttle, ledger = Throttle(Clock(), 1), Asked(full)
    for asked in (1, 2):
        assert await throttle.through("key:a", profile(), ledger) == full
        assert ledger.count == asked
    assert throttle.would_let_in("key:a", profile(), 0)


LET_IN = StepOutcome(AccountCounts(), AccountCounts(tat=NOON + 1, concurrent=1), has_spent_token=True)


async def test_what_would_be_let_in_follows_from_the_last_one_that_was() -> None:
    limits, clock = profile(concurrent_requests=3), Clock()
    throttle = Throttle(clock, 1)
    await throttle.through("key:a", limits, Asked(LET_IN))
    assert [throttle.would_let_in("key:a", limits, more) for more in (0, 1, 2)] == [True, True, False]
    assert [throttle.would_let_in("key:b", limits, more) for more in (0, 1)] == [True, False]  # it is new
    assert not throttle.would_let_in("key:a", profile(concurrent_requests=1), 0)
    await throttle.through("key:a", limits, Asked(LET_IN._replace(after=RATE)))
    assert not throttle.would_let_in("key:a", limits, 0)
    clock.now += 60
    assert throttle.would_let_in("key:a", limits, 0)


async def test_no_more_would_be_let_in_at_once_than_there_are_tokens() -> None:
    """A hundred were counted for the one token that was there; where the bucket is far in debt it is not believed."""
    limits = profile(requests_per_minute=5, concurrent_requests=400)
    throttle = Throttle(Clock(), 1)
    await throttle.through("key:a", limits, Asked(LET_IN._replace(after=AccountCounts(tat=NOON + 36))))
    let_in = [throttle.would_let_in("key:a", limits, others) for others in (0, 1, 2, 10, 100)]
    assert let_in == [True, True, False, False, False]


async def test_after_a_refusal_nothing_is_known_until_one_is_let_in() -> None:
    limits, clock = profile(concurrent_requests=1), Clock()
    throttle = Throttle(clock, 1)
    free = LET_IN._replace(after=AccountCounts(tat=NOON + 1))
    await throttle.through("key:a", limits, Asked(free))
    await throttle.through("key:a", limits, Asked(denied(FULL, limits)))
    assert not throttle.would_let_in("key:a", limits, 0)
    clock.now += 100
    await throttle.through("key:a", limits, Asked(denied(FULL, limits)))
    assert not throttle.would_let_in("key:a", limits, 0)
    clock.now += 100
    assert not throttle.would_let_in("key:a", limits, 0)
    await throttle.through("key:a", limits, Asked(free))
    assert throttle.would_let_in("key:a", limits, 0)


async def test_a_slot_that_is_free_again_is_one_that_would_be_let_in() -> None:
    limits = profile(concurrent_requests=1)
    throttle = Throttle(Clock(), 1)
    await throttle.through("key:a", limits, Asked(LET_IN))
    assert not throttle.would_let_in("key:a", limits, 0)
    for _ in range(2):
        throttle.free_slot("key:a")
        assert [throttle.would_let_in("key:a", limits, more) for more in (0, 1)] == [True, False]


async def test_an_account_of_which_something_is_free_again_may_try() -> None:
    limits = profile(concurrent_requests=1)
    throttle = Throttle(Clock(), 1)
    await throttle.through("key:a", limits, Asked(denied(FULL, limits)))
    throttle.drop_refusal("key:a")
    assert [throttle.would_let_in("key:a", limits, more) for more in (0, 1)] == [True, False]


async def test_an_account_whose_budget_is_used_up_is_asked_about_and_does_not_try() -> None:
    """Each job of its that began had one more worked on for nothing."""
    limits = profile(requests_per_day=1)
    throttle, ledger = Throttle(Clock(), 1), Asked(denied(AccountCounts(day=Used(1)), limits))
    await throttle.through("key:a", limits, ledger)
    throttle.free_slot("key:a")
    assert not throttle.would_let_in("key:a", limits, 0)
    await throttle.through("key:a", limits, ledger)
    assert ledger.count == 2


async def test_what_is_given_back_does_not_earn_a_rate() -> None:
    clock, limits = Clock(), profile()
    throttle, ledger = Throttle(clock, 1), Asked(denied(AccountCounts(tat=NOON + 60), limits))
    await throttle.through("key:a", limits, ledger)
    throttle.drop_refusal("key:a")
    throttle.drop_refusal("key:b")
    await throttle.through("key:a", limits, ledger)
    assert ledger.count == 1


async def test_a_clock_that_is_set_back_makes_no_refusal_longer() -> None:
    clock, limits = Clock(), profile()
    throttle, ledger = Throttle(clock, 1), Asked(denied(AccountCounts(tat=NOON + 60), limits))
    await throttle.through("key:a", limits, ledger)
    clock.now -= 3600
    await throttle.through("key:a", limits, ledger)
    assert ledger.count == 2


async def test_what_is_let_in_is_asked_each_time() -> None:
    throttle, ledger = Throttle(Clock(), 1), Asked(StepOutcome(AccountCounts(), AccountCounts()))
    for _ in range(3):
        assert (await throttle.through("key:a", profile(), ledger)).denial is None
    assert ledger.count == 3


async def test_one_account_has_some_turns_at_once_and_others_theirs() -> None:
    throttle, limits = Throttle(Clock(), 60), profile()
    opened, asked = asyncio.Event(), 0

    async def slow() -> StepOutcome:
        nonlocal asked
        asked += 1
        await opened.wait()
        return StepOutcome(AccountCounts(), AccountCounts())

    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(throttle.through("key:a", limits, slow)) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == MOST_OF_AN_ACCOUNT
    other = Asked(StepOutcome(AccountCounts(), AccountCounts()))
    await throttle.through("key:b", limits, other)
    opened.set()
    await asyncio.gather(*waiting)
    assert (asked, other.count) == (100, 1)


def test_a_turn_that_is_free_takes_no_turn_of_the_loop() -> None:
    ledger = Asked(StepOutcome(AccountCounts(), AccountCounts()))
    assert at_once(Throttle(Clock(), 1).through("key:a", profile(), ledger)) is ledger.outcome


async def test_a_turn_that_does_not_come_is_a_ledger_that_does_not_answer() -> None:
    throttle, limits = Throttle(Clock(), 0.05), profile()
    never = asyncio.Event()

    async def hangs() -> StepOutcome:
        await never.wait()
        raise AssertionError

    loop = asyncio.get_running_loop()
    hanging = [loop.create_task(throttle.through("key:a", limits, hangs)) for _ in range(MOST_OF_AN_ACCOUNT)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable, match="too many submits of one account"):
        await throttle.through("key:a", limits, hangs)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_ledger_that_fails_gives_the_turn_back() -> None:
    throttle, limits = Throttle(Clock(), 1), profile()

    async def fails() -> StepOutcome:
        raise LedgerUnavailable("gone")

    for _ in range(20):
        with pytest.raises(LedgerUnavailable, match="gone"):
            await throttle.through("key:a", limits, fails)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admission.throttle.MAX_REMEMBERED", 2)
    limits = profile(concurrent_requests=1)
    throttle, ledger = Throttle(Clock(), 1), Asked(denied(FULL, limits))
    for account in ("key:a", "key:b", "key:c", "key:a"):
        await throttle.through(account, limits, ledger)
    assert ledger.count == 4


def test_the_counts_of_these_tests_are_refused() -> None:
    assert isinstance(refuse_submit(profile(), RATE, NOON), Denial)
