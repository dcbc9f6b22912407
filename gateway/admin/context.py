"""What operations of the admin API work on (Context), and one request to them (Call)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.admin import overview_answers
from gateway.admin.near_accounts import NearAccounts
from gateway.aio.iteration import Iteration
from gateway.config.state import Live
from gateway.errors import LedgerUnavailable
from gateway.keys.callers import CallerService
from gateway.keys.key_changes import KeyService
from gateway.ledger.ledger import Ledger
from gateway.observe.callers_seen import CallersSeen
from gateway.observe.history import History


class Watch(NamedTuple):
    """What a replica knows of itself: how it stands, its last hour, and whom it has seen since `started_at`."""

    overview: Callable[[], overview_answers.Overview]
    history: History
    seen: CallersSeen
    started_at: float


@dataclass(frozen=True, slots=True)
class Context:
    """What operations work on. `watch` is what this replica knows of itself.

    `apply_key_changes` applies changes of the keys; `wall` is in seconds since the epoch; `iteration` is of the loop.

    Everything outside the ledger is looked up in `live` at each use: a reload may change it.
    """

    keys: KeyService
    ledger: Ledger
    live: Live
    callers: CallerService
    near: NearAccounts
    watch: Watch
    apply_key_changes: Callable[[], Awaitable[None]]
    wall: Callable[[], float]
    iteration: Iteration

    async def apply_changes(self) -> None:
        """Makes this replica apply a committed change at once."""
        try:
            await self.apply_key_changes()
        except LedgerUnavailable:
            return  # the change is committed; the ledger sync applies it as soon as it can


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the actor, the key, job or webhook in the path, and the parsed input.

    Body and query are of the operation's models.
    """

    actor: str
    subject: str
    body: Any
    query: Any
    idempotency_key: str | None
