"""What tests of the admin API write into a ledger beside its running gateway."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, delete, insert

from gateway.ledger.deliveries import DeliveryOutcome, mark_dead, mark_delivered
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.jobs import forget
from gateway.ledger.key_revisions import next_revision
from gateway.ledger.keys import NewKeyRow, create, note_used
from gateway.ledger.ledger import open_ledger
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.schema import accounts, keys, secrets, windows
from gateway.limits.submit_decisions import Ask
from gateway.limits.windows import month_of
from tests.support.endings import end, job_of, settle
from tests.support.gateway import Running
from tests.support.joblists import make_job
from tests.support.jobs import ledger_path
from tests.support.ledgers import make_profile


@asynccontextmanager
async def ledger_of(gateway: Running) -> AsyncIterator[Callable[..., Any]]:
    """Writes of another process beside a running gateway."""
    ledger = open_ledger(f"sqlite:///{ledger_path(gateway)}", 5.0)
    try:
        yield ledger.write
    finally:
        await ledger.close()


def fill(connection: Connection) -> None:
    """A job in each state, two that have one id; of the webhooks one waits, one was given up, one delivered."""
    now = time.time()
    for number, name in enumerate(("done", "bad", "gone", "run")):
        make_job(connection, name, now=now - 10 + number, webhook=f"of-{name}")
    make_job(connection, "run", upstream="staging", owner="key:other", now=now - 5)
    for name, finish, outcome in (
        ("done", mark_delivered, DeliveryOutcome(204, None)),
        ("bad", mark_dead, DeliveryOutcome(404, "status")),
    ):
        end(connection, ("default", name), 2, now, 3600, failed=name == "bad")
        (due,) = claim_due(connection, "me", now, now + 60, Bounds(9, 9))
        finish(connection, due.lease, outcome, now)
    forget(connection, job_of(connection, ("default", "gone")), now)


def use(connection: Connection, account: str, pages: int, mode: str = "accurate") -> None:
    """A job of so many pages, from its submit to its settlement."""
    now, claim = time.time(), Claim(f"of-{account}-{mode}", account, account, "default")
    profile = make_profile()
    admit(connection, claim, profile, now, now + 60)
    reserve(connection, claim, profile, Ask(pages, 0, mode), now, now + 60)
    accept(connection, claim, f"job-{account}-{mode}", now + 60)
    settle(connection, account, claim.id, pages, now, failed=False)


def make_keys(connection: Connection, count: int) -> None:
    """So many keys, of seven owners."""
    now, ids = int(time.time()), [f"k-{number:05}" for number in range(count)]
    revision = next_revision(connection)
    of_all = {"profile": "default", "scopes": "[]", "networks": "[]", "limits": "{}", "created_at": now}
    rows = [{**of_all, "id": key, "owner": f"team-{key[-1]}", "revision": revision} for key in ids]
    connection.execute(insert(keys), rows)
    connection.execute(
        insert(secrets),
        [{"key_id": key, "generation": 1, "digest": key.encode().ljust(32), "created_at": now} for key in ids],
    )


def make_key(connection: Connection, key_id: str, owner: str) -> None:
    """A key with an owner of any name."""
    create(connection, NewKeyRow(key_id, "default", owner), key_id.encode().ljust(32), time.time())


def fill_for_pictures(connection: Connection) -> None:
    """Some keys that used what they have, jobs and webhooks: as docs/console.md shows them."""
    fill(connection)
    budgets = {"pages_per_day": 200, "pages_per_month": 1000}
    for name, owner, pages in (("acme", "acme", 180), ("billing", "platform", 40), ("research", "research", 900)):
        row = NewKeyRow(name, "default", owner, limits=budgets)
        create(connection, row, name.encode().ljust(32), time.time() - 86_400 * 20)
        use(connection, f"key:{name}", pages)
    note_used(connection, {("acme", 1): time.time() - 40, ("research", 1): time.time() - 3600})


def use_of_many(connection: Connection, names: list[str], pages: int) -> None:
    """So many pages of this month for each account, as the ledger counts them."""
    month = month_of(time.time()).period
    connection.execute(delete(windows).where(windows.c.account.in_(names), windows.c.period == month))
    connection.execute(delete(accounts).where(accounts.c.account.in_(names)))
    counts = {"tat": 0, "concurrent": 0, "pages_in_flight": 0, "reset_at": 0}
    connection.execute(insert(accounts), [{"account": name, **counts} for name in names])
    used = {"period": month, "requests": 1, "pages": pages, "spend": 0}
    connection.execute(insert(windows), [{"account": name, **used} for name in names])
