"""An account's counts, read and written within one transaction.

`lock` locks the account's row first, so that an account's transactions run one after the other on PostgreSQL, too; on
SQLite only one transaction writes at a time anyway. Everything else of the account is read and written under that
lock, by later statements: the statement that waits for the lock would still read the other tables as they were before
the wait (READ COMMITTED; PostgreSQL's manual, 13.2.1).

Statements are built once and get their values when they run (statement.py).
"""

import math
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from gateway.ledger.engine import is_postgres
from gateway.ledger.schema import accounts, grants, windows
from gateway.ledger.statement import Statement
from gateway.ledger.upserts import Upsert, or_add, or_nothing
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.windows import periods_at

MICROSECONDS: Final = 1_000_000  # of a second: `tat` is kept in them

_LOCK: Final = Statement(select(accounts.c.tat).where(accounts.c.account == bindparam("of")).with_for_update())
_GRANTED: Final = (
    select(func.coalesce(func.sum(grants.c.pages), 0))
    .where(grants.c.account == bindparam("of"), grants.c.until > bindparam("now"))
    .scalar_subquery()
)
_READ: Final = Statement(
    select(accounts.c.tat, accounts.c.concurrent, accounts.c.pages_in_flight, _GRANTED.label("granted"), *windows.c)
    .select_from(
        accounts.outerjoin(
            windows,
            and_(
                windows.c.account == accounts.c.account,
                windows.c.period.in_([bindparam("day"), bindparam("month")]),
            ),
        )
    )
    .where(accounts.c.account == bindparam("of"))
)
_BY_SLOTS: Final = (
    update(accounts)
    .where(accounts.c.account == bindparam("of"))
    .values(
        concurrent=accounts.c.concurrent + bindparam("slots"),
        pages_in_flight=accounts.c.pages_in_flight + bindparam("in_flight"),
    )
)
_CHANGE: Final = Statement(_BY_SLOTS)
_CHANGE_AND_TAKE: Final = Statement(_BY_SLOTS.values(tat=bindparam("new_tat")))
_MAKE: Final = Upsert(accounts, or_nothing)
_ADD: Final = or_add(windows, ["account", "period"], Used._fields, [{"period": "day"}, {"period": "month"}])


def lock(connection: Connection, account: str) -> bool:
    """Locks an account until the transaction ends; returns whether it exists."""
    if not is_postgres(connection):
        return True  # only one transaction writes at a time
    return _LOCK.first(connection, of=account) is not None


def lock_all(connection: Connection, names: Collection[str]) -> None:
    """Locks several accounts, always in the same order, so that two transactions never wait for each other."""
    if is_postgres(connection):
        those = select(accounts.c.account).where(accounts.c.account.in_(names))
        connection.execute(those.order_by(accounts.c.account).with_for_update()).all()


def locked_counts(connection: Connection, account: str, now: float) -> AccountCounts:
    """Locks an account and returns its counts; creates it if it is new.

    A row that did not exist when the lock was requested is not locked, even if it exists by now: so it tries again.
    """
    counts = _read(connection, account, now) if lock(connection, account) else None
    if counts is not None:
        return counts
    row = {"account": account, "tat": 0, "concurrent": 0, "pages_in_flight": 0, "reset_at": 0}
    connection.execute(_MAKE.for_(connection), row)
    return locked_counts(connection, account, now)


def read_counts(connection: Connection, account: str, now: float) -> AccountCounts:
    """An account's counts, without a lock, for reading only."""
    counts = _read(connection, account, now)
    if counts is not None:
        return counts
    granted = connection.execute(select(_GRANTED), {"of": account, "now": int(now)}).scalar_one()
    return AccountCounts(granted=int(granted))


def change(connection: Connection, account: str, *, concurrent: int = 0, in_flight: int = 0) -> None:
    """Adds to what a locked account has in flight."""
    _CHANGE.run(connection, of=account, slots=concurrent, in_flight=in_flight)


def take_token(connection: Connection, account: str, tat: float, *, slots: int, in_flight: int) -> None:
    """Takes a token of a locked account's bucket, and so many of its submit slots and pages in flight.

    `tat` is that of the bucket, in seconds. It is rounded down: rounding up would add up over a burst and cost its
    last submit.
    """
    new_tat = math.floor(tat * MICROSECONDS)
    _CHANGE_AND_TAKE.run(connection, of=account, slots=slots, in_flight=in_flight, new_tat=new_tat)


def add_to_windows(connection: Connection, account: str, periods: tuple[int, int], more: Used) -> None:
    """Adds to a day and a month of a locked account; `more` may be negative."""
    day, month = periods
    _ADD.run(connection, account=account, day=day, month=month, **more._asdict())


def counts_in(rows: Sequence[Row[Any]], day: int, month: int) -> AccountCounts:
    """Converts an account's rows, each with the counts of one window, or of none."""
    used = {row.period: Used(row.requests, row.pages, row.spend) for row in rows if row.period is not None}
    first = rows[0]
    return AccountCounts(
        tat=(first.tat or 0) / MICROSECONDS,
        concurrent=first.concurrent or 0,
        pages_in_flight=first.pages_in_flight or 0,
        day=used.get(day, Used()),
        month=used.get(month, Used()),
        granted=int(first.granted),
    )


def _read(connection: Connection, account: str, now: float) -> AccountCounts | None:
    day, month = periods_at(now)
    rows = _READ.all(connection, of=account, now=int(now), day=day, month=month)
    return counts_in(rows, day, month) if rows else None
