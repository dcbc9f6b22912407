"""Submits of one account, decided one after the other."""

import pytest

from gateway.limits.quotas import AccountCounts, Uncounted, Used
from gateway.limits.submit_decisions import (
    Ask,
    StepOutcome,
    decide_in_turn,
    decide_pages,
    decide_submit,
    fits_beside,
)
from gateway.model.reasons import Reason
from tests.support.ledgers import NOON, make_profile

ASK = Ask(3, 5, "fast")


def test_an_admitted_submit_takes_a_slot_a_token_and_counts_in_day_and_month() -> None:
    before = AccountCounts()
    decided = decide_submit(make_profile(requests_per_minute=60), before, NOON)
    one = Used(requests=1)
    admitted = AccountCounts(tat=NOON + 1, concurrent=1, day=one, month=one)
    assert decided == StepOutcome(before, admitted, has_spent_token=True)


def test_a_token_is_spent_also_where_it_is_too_small_to_be_seen_in_the_bucket() -> None:
    """Sixty seconds divided by 10**12 are less than the smallest part of the seconds since the epoch."""
    counts = AccountCounts(tat=NOON)
    decided = decide_submit(make_profile(requests_per_minute=10**12), counts, NOON)
    assert (decided.denial, decided.after.tat, decided.has_spent_token) == (None, NOON, True)


def test_a_submit_that_is_refused_by_its_head_takes_nothing() -> None:
    before = AccountCounts(concurrent=2)
    decided = decide_submit(make_profile(concurrent_requests=2), before, NOON)
    assert decided.denial is not None
    assert decided.denial.reason is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    assert decided.after == decided.before == before


def test_a_submit_whose_pages_are_known_takes_all_at_once() -> None:
    before, profile = AccountCounts(), make_profile(requests_per_minute=60)
    decided = decide_submit(profile, before, NOON, ASK)
    apart = decide_pages(profile, ASK, decide_submit(profile, before, NOON).after, NOON)
    assert decided == StepOutcome(before, apart.after, has_spent_token=True)
    assert decided.after.day == Used(1, 3, 15)


def test_a_submit_that_is_refused_for_its_pages_has_spent_its_token() -> None:
    """As one whose form came behind its slot, which is given back."""
    before = AccountCounts(day=Used(pages=8))
    decided = decide_submit(make_profile(requests_per_minute=60, pages_per_day=10), before, NOON, ASK)
    assert decided.denial is not None
    assert decided.denial.reason is Reason.BUDGET_EXHAUSTED
    assert (decided.before, decided.after) == (before, before._replace(tat=NOON + 1))
    assert decided.has_spent_token


def test_a_submit_that_is_refused_by_its_head_has_spent_none_whatever_its_pages() -> None:
    before = AccountCounts(concurrent=2, day=Used(pages=8))
    decided = decide_submit(make_profile(concurrent_requests=2, pages_per_day=10), before, NOON, ASK)
    assert decided.denial is not None
    assert decided.denial.reason is Reason.TOO_MANY_REQUESTS_IN_FLIGHT
    assert not decided.has_spent_token


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 6},
        {"concurrent_requests": 6},
        {"pages_in_flight": 6},
        {"pages_per_day": 6},
        {"pages_per_month": 6},
        {"requests_per_day": 6},
        {"requests_per_month": 6},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_as_many_fit_beside_each_other_as_would_be_let_in_one_after_the_other(limits: dict[str, int]) -> None:
    profile, used = make_profile(**limits), Used(2, 2)
    tat = NOON + 2 * 60 / profile.requests_per_minute
    counts = AccountCounts(tat=tat, concurrent=2, pages_in_flight=2, day=used, month=used)
    assert [fits_beside(profile, counts, others, NOON) for others in (0, 3, 4, 400)] == [True, True, False, False]
    for _ in range(4):
        decided = decide_submit(profile, counts, NOON, Ask(1, 5, "fast"))
        assert decided.denial is None
        counts = decided.after
    assert decide_submit(profile, counts, NOON).denial is not None


def test_pages_count_in_flight_and_in_day_and_month() -> None:
    decided = decide_pages(make_profile(), ASK, AccountCounts(), NOON)
    used = Used(pages=3, spend=15)
    assert decided == StepOutcome(AccountCounts(), AccountCounts(pages_in_flight=3, day=used, month=used))


def test_a_submit_over_midnight_counts_in_the_new_day_with_its_pages() -> None:
    decided = decide_pages(make_profile(), ASK, AccountCounts(), NOON, Uncounted(day=1))
    assert (decided.after.day, decided.after.month) == (Used(1, 3, 15), Used(0, 3, 15))


def test_pages_that_are_refused_take_nothing() -> None:
    before = AccountCounts(day=Used(pages=8))
    decided = decide_pages(make_profile(pages_per_day=10), ASK, before, NOON)
    assert decided.denial is not None
    assert decided.denial.reason is Reason.BUDGET_EXHAUSTED
    assert decided.after == decided.before == before


def test_each_is_decided_on_what_the_ones_before_it_left() -> None:
    profile, asks = make_profile(pages_per_day=7), [ASK, ASK, Ask(2, 5, "fast"), Ask(1, 5, "fast")]
    outcomes = decide_in_turn(asks, AccountCounts(), lambda ask, counts: decide_pages(profile, ask, counts, NOON))
    assert [outcome.denial is None for outcome in outcomes] == [True, True, False, True]
    assert [outcome.after.day.pages for outcome in outcomes] == [3, 6, 6, 7]
