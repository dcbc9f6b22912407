"""Decisions on counts: what fits, what is told of what is left. That they are taken at once is the ledger's part."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.quotas import (
    AccountCounts,
    Limit,
    Used,
    budgets_of,
    limits_of,
    rate_limit_lines,
    ratios_of,
    refuse_pages,
    refuse_submit,
    soft_limits,
    take_submit,
    windows_at,
)
from gateway.limits.report import limits_report
from gateway.model.identity import Profile
from gateway.model.reasons import Reason
from tests.support.pure import PROPERTY

NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
MIDNIGHT = NOON + 43_200
DECEMBER = NOON + 43_200 + 7 * 86_400
BUDGETS = ("pages_per_day", "pages_per_month", "requests_per_day", "requests_per_month", "spend_per_month")


def make(**limits: Any) -> Profile:
    return Profile(**{"name": "p", "body_limit": 1000, **limits})


amounts = st.integers(0, 50)
used = st.builds(Used, amounts, amounts, amounts)
accounts_counts = st.builds(
    AccountCounts,
    tat=st.floats(NOON - 100, NOON + 200),
    concurrent=amounts,
    pages_in_flight=amounts,
    day=used,
    month=used,
    granted=amounts,
)
profiles = st.builds(
    make,
    requests_per_minute=st.integers(1, 100),
    concurrent_requests=amounts,
    pages_in_flight=amounts,
    soft_limit=st.floats(0.1, 1.0),
    **{name: st.none() | amounts for name in BUDGETS},
)


@PROPERTY
@given(profiles, accounts_counts, st.integers(1, 40), st.integers(0, 60))
def test_pages_are_let_in_when_every_budget_holds_them(
    profile: Profile, counts: AccountCounts, pages: int, spend: int
) -> None:
    rows = [
        (profile.pages_in_flight, counts.pages_in_flight, pages),
        (
            None if profile.pages_per_day is None else profile.pages_per_day + counts.granted,
            counts.day.pages,
            pages,
        ),
        (
            None if profile.pages_per_month is None else profile.pages_per_month + counts.granted,
            counts.month.pages,
            pages,
        ),
        (profile.spend_per_month, counts.month.spend, spend),
    ]
    fits = all(limit is None or not more or count + more <= limit for limit, count, more in rows)
    assert (refuse_pages(profile, counts, pages, spend, NOON) is None) == fits


@PROPERTY
@given(profiles, accounts_counts)
def test_what_is_told_agrees_with_what_is_decided(profile: Profile, counts: AccountCounts) -> None:
    told = {limit.name: limit for limit in limits_of(profile, counts, NOON)}
    denial = refuse_submit(profile, counts, NOON)
    if denial is None:
        for name in ("concurrent_requests", *BUDGETS):
            if name in told and name != "spend_per_month":
                assert told[name].remaining >= 1, name
    elif denial.reason is Reason.RATE_LIMITED:
        assert told["requests_per_minute"].remaining == 0
        assert denial.retry_after is not None
        later = counts._replace(tat=counts.tat - denial.retry_after)  # as it is so much later
        assert refuse_submit(profile, later, NOON) != denial
    assert ratios_of(profile, counts, NOON).keys() == told.keys()
    assert soft_limits(profile, counts, NOON) <= set(BUDGETS)


@PROPERTY
@given(profiles, accounts_counts)
def test_each_budget_of_a_profile_is_told_and_no_other(profile: Profile, counts: AccountCounts) -> None:
    given_ones = {name for name in BUDGETS if getattr(profile, name) is not None}
    assert {limit.name for limit in budgets_of(profile, counts, NOON)} == given_ones
    assert profile.has_budgets == bool(given_ones)


def test_no_calendar_is_asked_for_a_profile_without_budgets() -> None:
    assert budgets_of(make(), AccountCounts(), math.nan) == []  # no moment: no window has it


@pytest.mark.parametrize("name", BUDGETS)
def test_one_budget_alone_is_one(name: str) -> None:
    assert [limit.name for limit in budgets_of(make(**{name: 0}), AccountCounts(), NOON)] == [name]


@PROPERTY
@given(profiles, accounts_counts)
def test_lines_are_structured_fields_in_ascii(profile: Profile, counts: AccountCounts) -> None:
    for line in rate_limit_lines(profile, limits_of(profile, counts, NOON), NOON):
        assert re.fullmatch(rb"[A-Za-z-]+: [\x20-\x7e]+", line)
    policy, limits, *_ = rate_limit_lines(profile, limits_of(profile, counts, NOON), NOON)
    assert re.fullmatch(rb'RateLimit-Policy: ("\w+";q=\d+;w=\d+)(, "\w+";q=\d+;w=\d+)*', policy)
    assert re.fullmatch(rb'RateLimit: ("\w+";r=\d+;t=\d+)(, "\w+";r=\d+;t=\d+)*', limits)


@pytest.mark.parametrize(
    ("used_up", "limit", "is_near"),
    [(0, 0, True), (0, 1, False), (7, 9, False), (4, 5, True), (80, 100, True), (9, 5, True)],
)
def test_an_account_is_near_a_limit_once_four_fifths_are_used(used_up: int, limit: int, *, is_near: bool) -> None:
    assert Limit("pages_per_day", limit, used_up).is_near is is_near


def test_money_is_no_header() -> None:
    profile = make(spend_per_month=10**6)
    lines = b"\n".join(rate_limit_lines(profile, limits_of(profile, AccountCounts(), NOON), NOON))
    assert b"spend" not in lines


def test_what_resets_when() -> None:
    profile = make(**dict.fromkeys(BUDGETS, 10))
    assert [(limit.name, limit.resets_at, limit.window) for limit in budgets_of(profile, AccountCounts(), NOON)] == [
        ("pages_per_day", MIDNIGHT, 86_400),
        ("pages_per_month", DECEMBER, 30 * 86_400),
        ("requests_per_day", MIDNIGHT, 86_400),
        ("requests_per_month", DECEMBER, 30 * 86_400),
        ("spend_per_month", DECEMBER, 30 * 86_400),
    ]


@pytest.mark.parametrize(
    ("limits", "counts", "title", "detail"),
    [
        (
            {"pages_per_day": 10},
            AccountCounts(day=Used(pages=10)),
            "Page budget used up until 2026-11-24",
            "10 of 10 are used or reserved and this needs 6 (pages_per_day); it resets on 2026-11-24.",
        ),
        (
            {"pages_per_month": 10},
            AccountCounts(month=Used(pages=5)),
            "Page budget too small for this until 2026-12-01",
            "5 of 10 are used or reserved and this needs 6 (pages_per_month); it resets on 2026-12-01.",
        ),
        (
            {"spend_per_month": 5_000_000},
            AccountCounts(month=Used(spend=1_500_000)),
            "Spend budget too small for this until 2026-12-01",
            "1.5 of 5 are used or reserved and this needs 3.6 (spend_per_month); it resets on 2026-12-01.",
        ),
    ],
)
def test_a_refusal_says_what_is_used_what_was_asked_and_until_when(
    limits: dict[str, int], counts: AccountCounts, title: str, detail: str
) -> None:
    denial = refuse_pages(make(**limits), counts, 6, 3_600_000, NOON)
    assert denial is not None
    assert (denial.reason, denial.title, denial.detail) == (Reason.BUDGET_EXHAUSTED, title, detail)


def test_requests_are_refused_by_their_own_budget() -> None:
    denial = refuse_submit(make(requests_per_day=3), AccountCounts(day=Used(requests=3)), NOON)
    assert denial is not None
    assert denial.title == "Request budget used up until 2026-11-24"
    assert refuse_submit(make(requests_per_day=3), AccountCounts(day=Used(requests=2)), NOON) is None


def test_a_submit_has_room_for_one_page_at_least() -> None:
    profile = make(pages_in_flight=5)
    assert refuse_submit(profile, AccountCounts(pages_in_flight=4), NOON) is None
    denial = refuse_submit(profile, AccountCounts(pages_in_flight=5), NOON)
    assert denial is not None
    assert denial.reason is Reason.TOO_MANY_PAGES_IN_FLIGHT


@pytest.mark.parametrize("limit", [1, 7, 23, 200, 599, 1499])
@pytest.mark.parametrize("now", [NOON, NOON + 0.123_456_7])
def test_a_burst_is_whole_though_its_tat_is_kept_in_microseconds(limit: int, now: float) -> None:
    profile, tat = make(requests_per_minute=limit), 0.0
    for _ in range(limit):
        assert refuse_submit(profile, AccountCounts(tat=tat), now) is None
        tat = math.floor(take_submit(profile, tat, now) * 1e6) / 1e6
    denial = refuse_submit(profile, AccountCounts(tat=tat), now)
    assert denial is not None
    assert denial.reason is Reason.RATE_LIMITED


@pytest.mark.parametrize("ahead", [0, 30, 60, 119])
def test_a_debt_that_may_be_is_to_be_paid(ahead: float) -> None:
    profile = make(requests_per_minute=60)
    assert take_submit(profile, NOON + ahead, NOON) == NOON + ahead + 1


@pytest.mark.parametrize("rate", [1, 200, 1000, 10_000, 1_000_000])
def test_each_submit_is_shown_as_one_of_the_rate(rate: int) -> None:
    """Sums of seconds since the epoch are exact to a quarter of a microsecond: of 10,000, the first took two."""
    profile = make(requests_per_minute=rate)
    for now in (NOON + part / 7 for part in range(100)):
        tat = take_submit(profile, 0.0, now)
        assert limits_of(profile, AccountCounts(tat=tat), now)[0].used == 1


@pytest.mark.parametrize("ahead", [121, 3600, 86_400 * 40])
def test_a_debt_that_can_only_come_of_a_clock_that_was_set_back_is_forgotten(ahead: float) -> None:
    profile = make(requests_per_minute=60)
    counts = AccountCounts(tat=NOON + ahead)
    assert refuse_submit(profile, counts, NOON) is None
    assert take_submit(profile, counts.tat, NOON) == NOON + 1
    assert limits_of(profile, counts, NOON)[0].used == 0


def test_the_rate_is_told_within_its_bounds() -> None:
    profile = make(requests_per_minute=60)
    for ahead, spent in ((-5, 0), (0, 0), (0.5, 1), (59.5, 60), (60, 60), (100, 60)):
        found = limits_of(profile, AccountCounts(tat=NOON + ahead), NOON)[0]
        assert (found.used, found.remaining) == (spent, 60 - spent)


def test_a_limit_of_nothing_is_used_up() -> None:
    assert Limit("pages_per_day", 0, 0).ratio == 1.0
    assert Limit("pages_per_day", 10, 15).remaining == 0


def test_the_report_has_every_limit_and_money_in_whole_units() -> None:
    profile = make(pages_per_day=10, spend_per_month=2_500_000, requests_per_minute=60)
    counts = AccountCounts(NOON + 2, 3, 4, Used(1, 9, 0), Used(1, 9, 500_000), granted=1)
    report = limits_report(profile, counts, NOON)
    assert report == {
        "requests_per_minute": {"limit": 60, "used": 2, "remaining": 58, "resets_at": "2026-11-23T12:00:02Z"},
        "concurrent_requests": {"limit": 400, "used": 3, "remaining": 397},
        "pages_in_flight": {"limit": 20000, "used": 4, "remaining": 19996},
        "pages_per_day": {
            "limit": 11, "used": 9, "remaining": 2, "resets_at": "2026-11-24T00:00:00Z", "soft_limit_crossed": True,
        },
        "spend_per_month": {"limit": 2.5, "used": 0.5, "remaining": 2.0, "resets_at": "2026-12-01T00:00:00Z"},
        "polls_per_minute": {"limit": 6000},
        "concurrent_downloads": {"limit": 100},
        "pages_per_request": {"limit": 5000},
        "body_limit": {"limit": 1000},
    }  # fmt: skip


def test_limits_have_the_windows_that_they_are_given() -> None:
    counts, profile = AccountCounts(), make(pages_per_month=10)
    assert limits_of(profile, counts, NOON) == limits_of(profile, counts, NOON, windows_at(NOON))
    *_, month = limits_of(profile, counts, NOON, windows_at(DECEMBER))
    assert (month.name, month.resets_at) == ("pages_per_month", DECEMBER + 31 * 86_400)
