"""Jobs as submits leave them in a ledger, for those who look at them."""

from hashlib import sha256
from typing import Final

from sqlalchemy import Connection

from gateway.ledger.deliveries import Planned, plan
from gateway.ledger.jobs import NewJob, begin
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.watchers import beat
from gateway.limits.submit_decisions import Ask
from tests.support.ledgers import NOON, make_profile

CANARY: Final = "canary-secret"
HOOK: Final = f"https://hooks.example/{CANARY}?token={CANARY}"
_WATCHER: Final = "somebody"
_DAY: Final = 86_400


def make_job(
    connection: Connection,
    request_id: str,
    *,
    owner: str = "key:ci",
    upstream: str = "default",
    now: float = NOON,
    webhook: str | None = None,
) -> None:
    """A job of three pages that runs, followed by a replica that is none; `webhook` is the id of one that waits."""
    reservation = sha256(f"{upstream} {request_id} {now}".encode()).hexdigest()
    claim = Claim(reservation, owner, owner, upstream)
    profile = make_profile()
    admit(connection, claim, profile, now, now + 60)
    reserve(connection, claim, profile, Ask(3, 0, "fast"), now, now + 60)
    accepted = accept(connection, claim, request_id, now + _DAY)
    check_url = f"https://gateway.example/api/v1/marker/{request_id}?token={CANARY}"
    begin(connection, accepted, NewJob(request_id, "default", "/api/v1/marker", check_url), _WATCHER, now)
    beat(connection, _WATCHER, now, now + _DAY)
    if webhook is not None:
        planned = Planned(webhook, upstream, request_id, owner, HOOK, "hooks.example:443", check_url)
        plan(connection, planned, now)
