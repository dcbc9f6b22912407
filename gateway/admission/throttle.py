"""The throttle before the ledger: some submits of one account at a time, and none that it has just refused.

All accounts share one queue to the ledger. An account that submits more than it may would fill it with requests whose
answer is known, and delay all other submits. So a refusal is cached: for as long as it must hold (a rate), or for
half a second (slots, pages or budgets, which may be given back at any time).
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from gateway.errors import LedgerUnavailable
from gateway.ledger.steps import MOST_OF_AN_ACCOUNT
from gateway.limits.quotas import AccountCounts, wait_for_submit
from gateway.limits.submit_decisions import StepOutcome, fits_beside
from gateway.model.identity import Profile
from gateway.model.reasons import Reason

MAX_REMEMBERED: Final = 10_000
_MOMENT: Final = 0.5  # seconds


class Remembered(NamedTuple):
    """A refusal, the limits under which it was given, and until when it holds, in seconds since the epoch."""

    profile: Profile
    outcome: StepOutcome
    until: float


class Throttle:
    """Lets submits through to the ledger. `wall` is in seconds since the epoch, `within` bounds a wait in seconds."""

    def __init__(self, wall: Callable[[], float], within: float) -> None:
        self._wall = wall
        self._within = within
        self._gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._refused: OrderedDict[str, Remembered] = OrderedDict()
        self._let_in: OrderedDict[str, AccountCounts] = OrderedDict()

    async def through(self, account: str, profile: Profile, ask: Callable[[], Awaitable[StepOutcome]]) -> StepOutcome:
        """Asks the ledger in the account's turn, or returns its cached refusal; in a task of its own.

        Raises:
            LedgerUnavailable: the turn did not come in time, or as `ask` does.
        """
        known = self._remembered(account, profile)
        if known is not None:
            return known
        gate = self._gates.get(account)
        if gate is None:
            gate = self._gates[account] = asyncio.Semaphore(MOST_OF_AN_ACCOUNT)
        await self._enter(gate)
        try:
            return self._remembered(account, profile) or self._noted(account, profile, await ask())
        finally:
            gate.release()

    async def _enter(self, gate: asyncio.Semaphore) -> None:
        if not gate.locked():
            await gate.acquire()  # at once, for nobody waits: so it needs no timer and no task
            return
        try:
            await asyncio.wait_for(gate.acquire(), self._within)
        except TimeoutError:
            raise LedgerUnavailable("too many submits of one account wait for it") from None

    def would_let_in(self, account: str, profile: Profile, others: int) -> bool:
        """Whether a submit would be let in after so many others, by the counts of the account's last one that was.

        After a refusal only the ledger can tell, until it lets one in; of an account that is new here one may try.
        """
        counts = self._let_in.get(account)
        if account in self._refused:
            return False
        if counts is None:
            return others == 0
        return fits_beside(profile, counts, others, self._wall())

    def free_slot(self, account: str) -> None:
        """Notes that one of its slots is free again."""
        counts = self._let_in.get(account)
        if counts is not None:
            self._let_in[account] = counts._replace(concurrent=max(0, counts.concurrent - 1))
        self.drop_refusal(account)

    def drop_refusal(self, account: str) -> None:
        """Drops a cached refusal, unless it was for the rate: something of this account is free again.

        A budget is seldom what is free: so its refusal stays, and the ledger is asked.
        """
        known = self._refused.get(account)
        denial = known.outcome.denial if known is not None else None
        if known is None or denial is None or denial.reason is Reason.RATE_LIMITED:
            return
        if denial.reason is Reason.BUDGET_EXHAUSTED:
            self._refused[account] = known._replace(until=0.0)
        else:
            del self._refused[account]

    def _remembered(self, account: str, profile: Profile) -> StepOutcome | None:
        known = self._refused.get(account)
        if known is None:
            return None
        left = known.until - self._wall()
        denial = known.outcome.denial
        if denial is None or known.profile != profile or not 0 < left <= _longest(profile):
            return None  # it stays, until one is let in: the ledger has to be asked
        if denial.reason is not Reason.RATE_LIMITED:
            return known.outcome
        return known.outcome._replace(denial=replace(denial, retry_after=math.ceil(left)))

    def _noted(self, account: str, profile: Profile, outcome: StepOutcome) -> StepOutcome:
        if outcome.denial is not None and not outcome.has_spent_token:  # its pages may be too many, another's not
            now = self._wall()
            is_rate = outcome.denial.reason is Reason.RATE_LIMITED
            wait = wait_for_submit(profile, outcome.after, now) if is_rate else _MOMENT
            self._refused[account] = Remembered(profile, outcome, now + wait)
            _keep(self._refused, account)
            self._let_in.pop(account, None)
        elif outcome.has_spent_token:
            self._refused.pop(account, None)
            self._let_in[account] = outcome.after
            _keep(self._let_in, account)
        return outcome


def _keep(remembered: OrderedDict[str, Any], account: str) -> None:
    remembered.move_to_end(account)
    if len(remembered) > MAX_REMEMBERED:
        remembered.popitem(last=False)


def _longest(profile: Profile) -> float:
    """The longest that a refusal can hold: a clock that was set back must not make it longer."""
    return max(_MOMENT, 60 / profile.requests_per_minute)
