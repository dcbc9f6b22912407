"""Submits decided (page budget, reservation) on their account's counts, and the counts after each admitted one: pure.

The ledger takes what is decided here in the transaction that has read the counts: for one submit under its account's
lock (ledger/reservations.py), or for several of an account, one after the other (ledger/steps.py).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from gateway.limits.quotas import (
    ALL_COUNTED,
    AccountCounts,
    Uncounted,
    Used,
    refuse_pages,
    refuse_submit,
    take_submit,
    wait_for_submit,
)
from gateway.model.identity import Profile
from gateway.model.reasons import Denial

_Step = TypeVar("_Step")


class Ask(NamedTuple):
    """The most pages that a job may cost, the price of a page in millionths, and its mode (empty: unknown)."""

    pages: int
    price: int
    mode: str

    @property
    def spend(self) -> int:
        """The most that the job may cost, in millionths."""
        return self.pages * self.price


class StepOutcome(NamedTuple):
    """The result of a step: the account's counts before and after it, and the denial, if it was refused.

    `has_spent_token`: one of the bucket is taken; also by a submit that its head let in, and its pages kept out.
    """

    before: AccountCounts
    after: AccountCounts
    denial: Denial | None = None
    has_spent_token: bool = False


def decide_submit(profile: Profile, counts: AccountCounts, now: float, ask: Ask | None = None) -> StepOutcome:
    """Decides a submit by its head; one that is admitted takes a slot, and a token of the token bucket.

    One whose pages are known by then (`ask`) takes these, too; refused for them, it has spent its token all the same,
    as one that is refused after its body has.
    """
    denial = refuse_submit(profile, counts, now)
    if denial is not None:
        return StepOutcome(counts, counts, denial)
    tat, one = take_submit(profile, counts.tat, now), Used(requests=1)
    admitted = _plus(counts._replace(tat=tat, concurrent=counts.concurrent + 1), one, one)
    if ask is None:
        return StepOutcome(counts, admitted, has_spent_token=True)
    pages = decide_pages(profile, ask, admitted, now)
    after = pages.after if pages.denial is None else counts._replace(tat=tat)
    return StepOutcome(counts, after, pages.denial, has_spent_token=True)


def fits_beside(profile: Profile, counts: AccountCounts, others: int, now: float) -> bool:
    """Whether a submit would be let in by its head after so many others, each of which takes a page at least."""
    if wait_for_submit(profile, counts, now, others + 1):
        return False
    more = Used(requests=others, pages=others)
    taken = counts._replace(concurrent=counts.concurrent + others, pages_in_flight=counts.pages_in_flight + others)
    return refuse_submit(profile, _plus(taken, more, more), now) is None


def decide_pages(
    profile: Profile, ask: Ask, counts: AccountCounts, now: float, uncounted: Uncounted = ALL_COUNTED
) -> StepOutcome:
    """Decides a submit by the most pages that it may cost; one that is not refused takes them."""
    denial = refuse_pages(profile, counts, ask.pages, ask.spend, now, uncounted)
    if denial is not None:
        return StepOutcome(counts, counts, denial)
    day, month = (Used(requests, ask.pages, ask.spend) for requests in uncounted)
    return StepOutcome(counts, _plus(counts._replace(pages_in_flight=counts.pages_in_flight + ask.pages), day, month))


def decide_in_turn(
    steps: Iterable[_Step], counts: AccountCounts, decide: Callable[[_Step, AccountCounts], StepOutcome]
) -> list[StepOutcome]:
    """Decides steps of one account, each on the counts that the one before it left."""
    outcomes = []
    for step in steps:
        outcome = decide(step, counts)
        counts = outcome.after
        outcomes.append(outcome)
    return outcomes


def _plus(counts: AccountCounts, day: Used, month: Used) -> AccountCounts:
    return counts._replace(day=_sum(counts.day, day), month=_sum(counts.month, month))


def _sum(one: Used, other: Used) -> Used:
    return Used(one.requests + other.requests, one.pages + other.pages, one.spend + other.spend)
