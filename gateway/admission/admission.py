"""Admits submits: makes their leases, renews those that run, and says whose submits may go ahead of their slots."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from gateway.admission.lease import LEASE_SECONDS, Counts, Lease, LeaseParts, ledger_away
from gateway.admission.throttle import Throttle
from gateway.errors import LedgerUnavailable, whereabouts
from gateway.ledger.accounts import read_counts
from gateway.ledger.closing import Settled
from gateway.ledger.replica import Replica
from gateway.ledger.reservations import Claim, renew
from gateway.ledger.steps import Steps
from gateway.limits.quotas import AccountCounts
from gateway.model.identity import Profile
from gateway.model.request import Permit

RENEW_EVERY: Final = 15.0  # seconds
log = structlog.get_logger()


class Admission:
    """Admits submits. `new_id` names their reservations."""

    def __init__(
        self,
        replica: Replica,
        throttle: Throttle,
        counts: Counts,
        new_id: Callable[[], str],
    ) -> None:
        self._replica = replica
        self._throttle = throttle
        self._counts = counts
        self._held: set[str] = set()
        self._new: Counter[str] = Counter()
        self._parts = LeaseParts(replica, Steps(replica.ledger), throttle, counts, self._held, self._new)
        self._new_id = new_id

    def __repr__(self) -> str:
        return f"<Admission held={len(self._held)}>"

    @property
    def running(self) -> int:
        """How many submits have no answer yet."""
        return len(self._held)

    def lease(self, permit: Permit, profile: Profile, reservation_ttl: float) -> "Lease":
        """A submit's lease, which has nothing yet; whoever takes it closes it."""
        claim = Claim(self._new_id(), permit.account, permit.owner, permit.route.upstream)
        return Lease(self._parts, claim, profile, reservation_ttl)

    def may_go_ahead(self, account: str, profile: Profile) -> bool:
        """Whether a submit may be worked on before it has a slot, for it would be let in by all that is known here.

        As many of an account as it has slots, tokens and budgets left; none while the ledger is away, or where its
        last submit was refused: then what is done for it would be done for nothing.
        """
        ledger = self._replica.ledger
        if ledger.problem is not None or ledger.is_in_doubt:
            return False
        return self._throttle.would_let_in(account, profile, self._new[account])

    async def read_counts(self, permit: Permit) -> AccountCounts:
        """Returns an account's counts.

        Raises:
            Refused: ledger_unavailable.
        """
        ledger, wall = self._replica.ledger, self._replica.wall
        try:
            return await ledger.read(lambda c: read_counts(c, permit.account, wall()), in_turn_of=permit.owner)
        except LedgerUnavailable:
            raise ledger_away() from None

    def settled(self, settled: Settled) -> None:
        """Counts a settlement, and lets submits of its account that wait for pages try again."""
        self._counts.pages(*settled)
        self._throttle.drop_refusal(settled.account)

    async def run(self) -> None:
        """Renews the held reservations, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self.renew_held()
            except LedgerUnavailable:
                continue  # the ledger has logged it; there is time for three more tries
            except Exception as error:  # noqa: BLE001 -- after any error, the rest must still be renewed
                log.error("reservations could not be renewed", error=whereabouts(error))

    async def renew_held(self) -> None:
        """Extends all reservations held here.

        Raises:
            LedgerUnavailable: it may have been done.
        """
        if self._held:
            until = self._replica.wall() + LEASE_SECONDS
            await self._replica.ledger.write(partial(_renew, sorted(self._held), until))


def _renew(ids: list[str], until: float, connection: Connection) -> None:
    renew(connection, ids, until)
