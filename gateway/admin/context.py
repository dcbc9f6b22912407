"""Where the requests of the admin API are dealt with: what all operations work on, and what one of them is told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.config.state import Live
from gateway.errors import LedgerUnavailable
from gateway.keys.service import KeyService
from gateway.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Context:
    """What operations work on. `follow` takes over what has changed of the keys; `wall` is in seconds of the epoch.

    Whatever is not of the ledger is looked up in `live` when it is needed: a reload may change it.
    """

    keys: KeyService
    ledger: Ledger
    live: Live
    follow: Callable[[], Awaitable[None]]
    wall: Callable[[], float]

    async def changed(self) -> None:
        """Lets this replica act at once on a change that stands."""
        try:
            await self.follow()
        except LedgerUnavailable:
            return  # the change stands, and the ledger sync follows it as soon as it can


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who, which key, job or webhook (as the path names it), and what was read of it.

    Body and query are of the operation's models.
    """

    actor: str
    subject: str
    body: Any
    query: Any
    idempotency_key: str | None
