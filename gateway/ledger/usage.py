"""What accounts have used: reports, grants, and resets of windows. Each function is one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    Subquery,
    and_,
    func,
    insert,
    or_,
    select,
    union,
    update,
)

from gateway.ledger.accounts import MICROSECONDS, lock
from gateway.ledger.conditions import ENDED
from gateway.ledger.row_portions import PORTION, read_in_portions
from gateway.ledger.schema import Stage, accounts, grants, reservations, usage, usage_by_mode, windows
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.windows import periods_at

_ENDED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class UsedOnDay:
    """What an account used on a day (20261123, UTC); spend in millionths. In the order of the table's columns."""

    account: str
    day: int
    requests: int
    failed: int
    pages: int
    refunded: int
    spend: int


def used_since(
    connection: Connection, since: int, account: str | None = None, most: int | None = None
) -> list[UsedOnDay]:
    """Settled usage by account and day, from a day (20261123) on; the latest `most` rows, or all."""
    query = select(usage).where(usage.c.day >= since).order_by(usage.c.day.desc(), usage.c.account.desc())
    if account is not None:
        query = query.where(usage.c.account == account)
    return [UsedOnDay(*row) for row in read_in_portions(connection, query.limit(most))][::-1]


class UsedByMode(NamedTuple):
    """The same of one mode; empty: the mode is not known. In the order of the table's columns."""

    account: str
    day: int
    mode: str
    requests: int
    failed: int
    pages: int
    refunded: int
    spend: int


def used_by_mode(
    connection: Connection, since: int, account: str | None = None, most: int | None = None
) -> list[UsedByMode]:
    """Settled usage by account, day and mode, from a day on; the latest `most` rows, or all."""
    table = usage_by_mode
    query = select(table).where(table.c.day >= since)
    query = query.order_by(table.c.day.desc(), table.c.account.desc(), table.c.mode.desc())
    if account is not None:
        query = query.where(table.c.account == account)
    return [UsedByMode(*row) for row in read_in_portions(connection, query.limit(most))][::-1]


def active_counts(connection: Connection, now: float, most: int) -> dict[str, AccountCounts]:
    """Counts of a batch of accounts that were used this month or have something in flight.

    For metrics, so without the submit bucket. It starts from the month's windows and what is in flight, which are
    few: many accounts may have been unused for long.
    """
    _, month = periods_at(now)
    of_month = select(windows.c.account).where(windows.c.period == month).order_by(windows.c.pages.desc()).limit(most)
    in_flight = select(reservations.c.account).where(reservations.c.expires_at.is_not(None)).distinct().limit(most)
    seen = union(*(select(found.subquery().c.account) for found in (of_month, in_flight)))
    return {account: counts._replace(tat=0.0) for account, counts in _counts(connection, seen, now, most)}


class WindowRow(NamedTuple):
    """What an account has used in this day's and this month's window."""

    account: str
    day: Used
    month: Used


def windows_now(connection: Connection, now: float, most: int) -> list[WindowRow]:
    """The windows of the accounts that were used this month, those of most pages first; without grants, so quick."""
    (day, month), days = periods_at(now), windows.alias()
    of_day = and_(days.c.account == windows.c.account, days.c.period == day)
    query = (
        select(
            windows.c.account, days.c.requests, days.c.pages, days.c.spend,
            windows.c.requests, windows.c.pages, windows.c.spend,
        )
        .outerjoin(days, of_day)
        .where(windows.c.period == month)
        .order_by(windows.c.pages.desc())
        .limit(most)
    )  # fmt: skip
    return [
        WindowRow(account, Used(*(count or 0 for count in today)), Used(*this_month))
        for account, today, this_month in (
            (row[0], row[1:4], row[4:7]) for row in map(tuple, read_in_portions(connection, query))
        )
    ]


def in_flight(connection: Connection, most: int) -> list[str]:
    """The accounts that have a submit without its settlement."""
    query = select(reservations.c.account).where(reservations.c.expires_at.is_not(None)).distinct().limit(most)
    return [row[0] for row in read_in_portions(connection, query)]


def read_counts_of_many(connection: Connection, of: Sequence[str], now: float) -> dict[str, AccountCounts]:
    """Counts of these accounts, whole; those that were never used and have no grant are missing."""
    found: dict[str, AccountCounts] = {}
    for start in range(0, len(of), PORTION):
        found |= _read_counts_of_few(connection, of[start : start + PORTION], now)
    return found


def _read_counts_of_few(connection: Connection, of: Sequence[str], now: float) -> dict[str, AccountCounts]:
    found = dict(_counts(connection, select(accounts.c.account).where(accounts.c.account.in_(of)), now, len(of)))
    unused = [account for account in of if account not in found]
    granted = select(grants.c.account, func.sum(grants.c.pages)).where(
        grants.c.account.in_(unused), grants.c.until > int(now)
    )
    rows = connection.execute(granted.group_by(grants.c.account)) if unused else ()
    return found | {row[0]: AccountCounts(granted=int(row[1])) for row in rows}


def _counts(
    connection: Connection, of: Select[Any] | CompoundSelect[Any], now: float, most: int
) -> Iterator[tuple[str, AccountCounts]]:
    day, month = periods_at(now)
    seen, granted = of.subquery(), _granted_now(now)
    days, months = windows.alias(), windows.alias()
    query = (
        select(
            accounts, days.c.requests, days.c.pages, days.c.spend,
            months.c.requests.label("m_requests"), func.coalesce(months.c.pages, 0).label("m_pages"),
            months.c.spend.label("m_spend"), func.coalesce(granted.c.pages, 0).label("granted"),
        )
        .select_from(seen)
        .join(accounts, accounts.c.account == seen.c.account)
        .outerjoin(months, and_(months.c.account == accounts.c.account, months.c.period == month))
        .outerjoin(days, and_(days.c.account == accounts.c.account, days.c.period == day))
        .outerjoin(granted, granted.c.account == accounts.c.account)
        .order_by(func.coalesce(months.c.pages, 0).desc())
        .limit(most)
    )  # fmt: skip
    return ((row.account, _counts_of(row)) for row in read_in_portions(connection, query))


def _granted_now(now: float) -> Subquery:
    return (
        select(grants.c.account, func.sum(grants.c.pages).label("pages"))
        .where(grants.c.until > int(now))
        .group_by(grants.c.account)
        .subquery()
    )


def _counts_of(row: Row[Any]) -> AccountCounts:
    return AccountCounts(
        tat=row.tat / MICROSECONDS,
        concurrent=row.concurrent,
        pages_in_flight=row.pages_in_flight,
        day=Used(row.requests or 0, row.pages or 0, row.spend or 0),
        month=Used(row.m_requests or 0, row.m_pages, row.m_spend or 0),
        granted=int(row.granted),
    )


def grant(connection: Connection, account: str, pages: int, until: int, now: float) -> None:
    """Adds pages to an account's page budgets, per day and per month, until a moment."""
    row = {"account": account, "pages": pages, "until": until, "created_at": int(now)}
    connection.execute(insert(grants), row)


class GrantEnds(NamedTuple):
    """When the first and the last present grant of an account end, in seconds since the epoch."""

    first: int
    last: int


class GrantRow(NamedTuple):
    """Pages on top of an account's budgets; `until` is in seconds since the epoch."""

    pages: int
    until: int
    id: int


def grants_of(connection: Connection, account: str, now: float) -> list[GrantRow]:
    """An account's present grants, the first to end first."""
    present = grants.c.account == account, grants.c.until > int(now)
    query = select(grants.c.pages, grants.c.until, grants.c.id).where(*present)
    return [GrantRow(*row) for row in read_in_portions(connection, query.order_by(grants.c.until, grants.c.id))]


def end_grants(connection: Connection, account: str, grant_id: int | None, now: float) -> list[GrantRow]:
    """Ends one present grant of an account now, or all; returns which. What was used of them stays used."""
    ended = [found for found in grants_of(connection, account, now) if grant_id in {None, found.id}]
    ids = [found.id for found in ended]
    for start in range(0, len(ids), _ENDED_AT_ONCE):
        these = grants.c.id.in_(ids[start : start + _ENDED_AT_ONCE])
        connection.execute(update(grants).where(these).values(until=int(now)))
    return ended


def _ends(connection: Connection, of: Sequence[str], now: float) -> dict[str, GrantEnds]:
    """When the present grants of each of these accounts end; those without one are missing."""
    query = select(grants.c.account, func.min(grants.c.until), func.max(grants.c.until)).where(
        grants.c.account.in_(of), grants.c.until > int(now)
    )
    rows = connection.execute(query.group_by(grants.c.account)) if of else ()
    return {account: GrantEnds(int(first), int(last)) for account, first, last in rows}


def with_ends(
    connection: Connection, of: Sequence[str], now: float
) -> tuple[dict[str, AccountCounts], dict[str, GrantEnds]]:
    """Counts of these accounts, and when the grants of each end that has one."""
    counts = read_counts_of_many(connection, of, now)
    granted = [account for account, found in counts.items() if found.granted]
    return counts, _ends(connection, granted, now)


def reset(connection: Connection, account: str, now: float) -> Used:
    """Clears what an account used today and this month, except what is in flight; returns what the month lost.

    The usage reports keep it.
    """
    lock(connection, account)
    periods = periods_at(now)
    forgotten = Used()
    for period in periods:
        forgotten = _forget(connection, account, period)
    _date_by(connection, account, now)
    connection.execute(update(accounts).where(accounts.c.account == account).values(reset_at=int(now)))
    return forgotten


def _date_by(connection: Connection, account: str, now: float) -> None:
    """What seems to have ended later than a reset, by a clock that was set back since, ended before it like the rest.

    Of what ended, only few may yet be corrected: what was charged while facts were missing, and what was free.
    """
    later = reservations.c.account == account, reservations.c.settled_at > int(now)
    charged = ENDED, reservations.c.stage == int(Stage.CHARGED)
    for may_change in (charged, (reservations.c.given_back.is_not(None),)):
        connection.execute(update(reservations).where(*may_change, *later).values(settled_at=int(now)))


def _forget(connection: Connection, account: str, period: int) -> Used:
    of = windows.c.account == account, windows.c.period == period
    before = connection.execute(select(windows.c.requests, windows.c.pages, windows.c.spend).where(*of)).first()
    open_ = select(
        func.count(reservations.c.id),
        func.coalesce(func.sum(reservations.c.pages), 0),
        func.coalesce(func.sum(reservations.c.pages * reservations.c.price), 0),
    ).where(
        reservations.c.account == account,
        reservations.c.expires_at.is_not(None),
        or_(reservations.c.day == period, reservations.c.month == period),
    )
    left = Used(*map(int, connection.execute(open_).one()))
    connection.execute(update(windows).where(*of).values(**left._asdict()))
    return Used(*(was - stays for was, stays in zip(before, left, strict=True))) if before else Used()
