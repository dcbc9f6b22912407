"""The PostgreSQL statements for ends of jobs, and of submits without one: many in one round trip each.

`read_jobs` reads, the caller decides in Python, and `write` writes under a guard: accounts, jobs and reservations
must still be as they were read. If any is not, nothing is written, and the caller reads again. Nobody's lock is held
between the two.

`write` locks accounts first, in the order of their names, then jobs, then reservations in the order of their ids.
A row that it waits for is compared again when it is locked. It writes each account, whatever is changed of it: so a
submit that had read the account's counts before must read them again (postgres_submits.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import ARRAY, BigInteger, Connection, Row, String, bindparam, column, exists, func, select

from gateway.ledger.closing import Closing, UsageChange
from gateway.ledger.conditions import WAITS
from gateway.ledger.postgres_submits import any_row, statement
from gateway.ledger.schema import accounts, deliveries, jobs, reservations
from gateway.limits.quotas import Used
from gateway.model.jobs import JobRef
from gateway.units import milliseconds

K = TypeVar("K")
SEEN: Final = (
    *(jobs.c[name] for name in ("upstream", "request_id", "reservation", "account")),
    *(jobs.c[name] for name in ("state", "known", "ended_at", "expires_at")),
    *(reservations.c[name] for name in ("id", "stage", "mode", "pages", "price", "day", "month")),
    *(reservations.c[name] for name in ("settled_at", "given_back")),
    accounts.c.reset_at,
    exists()
    .where(deliveries.c.upstream == jobs.c.upstream, deliveries.c.request_id == jobs.c.request_id, WAITS)
    .label("has_webhook"),
)
"""The columns that an end is judged by; `id` is null if there is no such reservation."""

_NAMES: Final = ("upstreams", "names", "ids")
_asked: Final = (
    func.unnest(*(bindparam(name, type_=ARRAY(String)) for name in _NAMES))
    .table_valued(*(column(name, String) for name in ("upstream", "request_id", "reservation")))
    .render_derived(name="asked")
)
_READ_JOBS: Final = (
    select(*SEEN)
    .select_from(_asked)
    .join(
        jobs,
        (jobs.c.upstream == _asked.c.upstream)
        & (jobs.c.request_id == _asked.c.request_id)
        & (jobs.c.reservation == _asked.c.reservation),
    )
    .outerjoin(reservations, reservations.c.id == jobs.c.reservation)
    .outerjoin(accounts, accounts.c.account == jobs.c.account)
)
_READ_RESERVATIONS: Final = (
    select(reservations, accounts.c.reset_at)
    .outerjoin(accounts, accounts.c.account == reservations.c.account)
    .where(
        reservations.c.id == func.any(bindparam("ids", type_=ARRAY(String))),
        reservations.c.account == bindparam("of", type_=String),
    )
)
_TEXTS: Final = (*_NAMES, "statuses", "accounts", "closed", "spenders", "users", "modes")
_NUMBERS: Final = (
    "resets", "slots", "flights",
    "were_known", "were", "states", "knowns", "ended", "expiries",
    "from_stages", "from_pages", "from_settled", "from_given_back", "stages", "pages", "settled", "given_back",
    "periods", "window_requests", "window_pages", "window_spend",
    "days", "requests", "failed", "used_pages", "refunded", "spend",
)  # fmt: skip
_WRITE: Final = statement(
    """
WITH owing AS (
    SELECT * FROM unnest(:accounts, :resets, :slots, :flights) AS owing (account, reset_at, slots, pages)
), given AS (
    SELECT * FROM unnest(
        :upstreams, :names, :ids, :were_known, :were, :states, :knowns, :ended, :expiries, :statuses
    ) AS given (
        upstream, request_id, reservation, was_known, was, state, known, ended_at, expires_at, status
    )
), closing AS (
    SELECT * FROM unnest(
        :closed, :from_stages, :from_pages, :from_settled, :from_given_back, :stages, :pages, :settled, :given_back
    ) AS closing (id, was, was_pages, was_settled, was_given_back, stage, pages, settled_at, given_back)
), account AS (
    SELECT accounts.account FROM accounts JOIN owing USING (account) WHERE accounts.reset_at = owing.reset_at
    ORDER BY accounts.account FOR UPDATE OF accounts
), job AS (
    SELECT jobs.request_id FROM jobs JOIN given USING (upstream, request_id, reservation)
    WHERE jobs.known = given.was_known AND jobs.state = given.was
        AND (SELECT count(*) FROM account) = (SELECT count(*) FROM owing)
    ORDER BY jobs.upstream, jobs.request_id FOR UPDATE OF jobs
), mine AS (
    SELECT reservations.id FROM reservations JOIN closing USING (id)
    WHERE reservations.stage = closing.was AND reservations.pages = closing.was_pages
        AND reservations.settled_at IS NOT DISTINCT FROM closing.was_settled
        AND reservations.given_back IS NOT DISTINCT FROM closing.was_given_back
        AND (SELECT count(*) FROM job) = (SELECT count(*) FROM given)
    ORDER BY reservations.id FOR UPDATE OF reservations
), sure AS (
    SELECT WHERE (SELECT count(*) FROM account) = (SELECT count(*) FROM owing)
        AND (SELECT count(*) FROM job) = (SELECT count(*) FROM given)
        AND (SELECT count(*) FROM mine) = (SELECT count(*) FROM closing)
), freed AS (
    UPDATE accounts
    SET concurrent = concurrent - owing.slots, pages_in_flight = pages_in_flight - owing.pages
    FROM owing WHERE accounts.account = owing.account AND EXISTS (SELECT FROM sure)
), counted AS (
    INSERT INTO windows (period, account, requests, pages, spend)
    SELECT more.period, more.account, more.requests, more.pages, more.spend
    FROM unnest(:spenders, :periods, :window_requests, :window_pages, :window_spend)
        AS more (account, period, requests, pages, spend)
    WHERE EXISTS (SELECT FROM sure)
    ON CONFLICT (period, account) DO UPDATE SET requests = windows.requests + excluded.requests,
        pages = windows.pages + excluded.pages, spend = windows.spend + excluded.spend
), more AS (
    SELECT * FROM unnest(:users, :days, :modes, :requests, :failed, :used_pages, :refunded, :spend)
        AS more (account, day, mode, requests, failed, pages, refunded, spend)
    WHERE EXISTS (SELECT FROM sure)
), used AS (
    INSERT INTO usage (account, day, requests, failed, pages, refunded, spend)
    SELECT account, day, sum(requests), sum(failed), sum(pages), sum(refunded), sum(spend)
    FROM more GROUP BY account, day
    ON CONFLICT (account, day) DO UPDATE
    SET requests = usage.requests + excluded.requests, failed = usage.failed + excluded.failed,
        pages = usage.pages + excluded.pages, refunded = usage.refunded + excluded.refunded,
        spend = usage.spend + excluded.spend
), used_by_mode AS (
    INSERT INTO usage_by_mode (account, day, mode, requests, failed, pages, refunded, spend)
    SELECT account, day, mode, requests, failed, pages, refunded, spend FROM more
    ON CONFLICT (account, day, mode) DO UPDATE
    SET requests = usage_by_mode.requests + excluded.requests, failed = usage_by_mode.failed + excluded.failed,
        pages = usage_by_mode.pages + excluded.pages, refunded = usage_by_mode.refunded + excluded.refunded,
        spend = usage_by_mode.spend + excluded.spend
), closed AS (
    UPDATE reservations SET stage = closing.stage, pages = closing.pages, settled_at = closing.settled_at,
        expires_at = NULL, given_back = closing.given_back
    FROM closing WHERE reservations.id = closing.id AND closing.stage IS NOT NULL AND EXISTS (SELECT FROM sure)
), deleted AS (
    DELETE FROM reservations USING closing
    WHERE reservations.id = closing.id AND closing.stage IS NULL AND EXISTS (SELECT FROM sure)
), ended AS (
    UPDATE jobs SET state = given.state, known = given.known, changed_at = :changed_at,
        ended_at = CASE WHEN given.status IS NULL THEN jobs.ended_at ELSE given.ended_at END,
        expires_at = CASE WHEN given.status IS NULL THEN jobs.expires_at ELSE given.expires_at END
    FROM given WHERE jobs.upstream = given.upstream AND jobs.request_id = given.request_id
        AND EXISTS (SELECT FROM sure)
), due AS (
    UPDATE deliveries SET state = {DeliveryState.DUE:d}, status = given.status, next_at = :now, ended_at = :now
    FROM given WHERE deliveries.upstream = given.upstream AND deliveries.request_id = given.request_id
        AND deliveries.state = {DeliveryState.WAITING:d} AND given.status IS NOT NULL AND EXISTS (SELECT FROM sure)
)
SELECT count(*) FROM sure""",
    {**dict.fromkeys(_TEXTS, ARRAY(String)), **dict.fromkeys(_NUMBERS, ARRAY(BigInteger))},
)


def read_jobs(connection: Connection, refs: Sequence[JobRef]) -> list[Row[Any]]:
    """Reads jobs with their reservations and the moment of their account's last reset, without a lock."""
    values = dict(zip(_NAMES, map(list, zip(*refs, strict=True)), strict=True))
    return list(connection.execute(_READ_JOBS, values))


def read_reservations(connection: Connection, account: str, ids: Sequence[str]) -> list[Row[Any]]:
    """Reads reservations of an account in the same way."""
    return list(connection.execute(_READ_RESERVATIONS, {"of": account, "ids": list(ids)}))


def write(connection: Connection, ends: Sequence[Any], now: float) -> bool:
    """Writes ends of jobs, jobs.JobEnd, each of another reservation; returns False if any has changed since."""
    closings = [end.closing for end in ends if end.closing is not None]
    return _write(connection, ends, [end.row for end in ends], closings, now)


def write_closings(connection: Connection, closings: Sequence[Closing], now: float) -> bool:
    """Writes ends of reservations alone, each of another one, in the same way."""
    return _write(connection, [], [end.row for end in closings], closings, now)


def _write(
    connection: Connection, ends: Sequence[Any], rows: Sequence[Any], closings: Sequence[Closing], now: float
) -> bool:
    return any_row(
        connection, _WRITE, now=int(now), changed_at=milliseconds(now), **_given(ends), **_closed(closings),
        **_owing(rows, closings), **_windows(closings), **_used(closings),
    )  # fmt: skip


def _given(ends: Sequence[Any]) -> dict[str, list[Any]]:
    rows, recorded = [end.row for end in ends], [end.recorded for end in ends]
    return {
        "upstreams": [row.upstream for row in rows], "names": [row.request_id for row in rows],
        "ids": [row.reservation for row in rows], "were_known": [row.known for row in rows],
        "were": [row.state for row in rows], "states": [one.state for one in recorded],
        "knowns": [int(one.known) for one in recorded], "ended": [end.ended_at for end in ends],
        "expiries": [one.expires_at for one in recorded],
        "statuses": [one.state.name.lower() if one.is_end else None for one in recorded],
    }  # fmt: skip


def _closed(closings: Sequence[Closing]) -> dict[str, list[Any]]:
    rows = [end.row for end in closings]
    return {
        "closed": [row.id for row in rows], "from_stages": [row.stage for row in rows],
        "from_pages": [row.pages for row in rows], "from_settled": [row.settled_at for row in rows],
        "from_given_back": [row.given_back for row in rows], "stages": [end.stage for end in closings],
        "pages": [end.pages for end in closings], "settled": [end.settled_at for end in closings],
        "given_back": [end.given_back for end in closings],
    }  # fmt: skip


def _owing(rows: Sequence[Any], closings: Sequence[Closing]) -> dict[str, list[Any]]:
    resets = {row.account: row.reset_at for row in rows if row.reset_at is not None}
    slots, flights = Counter[str](), Counter[str]()
    for closing in closings:
        slots[closing.row.account] += closing.slots
        flights[closing.row.account] += closing.in_flight
    return {
        "accounts": list(resets), "resets": list(resets.values()), "slots": [slots[name] for name in resets],
        "flights": [flights[name] for name in resets],
    }  # fmt: skip


def _windows(closings: Sequence[Closing]) -> dict[str, list[Any]]:
    more = _sums(
        ((end.row.account, period), end.windows)
        for end in closings
        if any(end.windows)
        for period in (end.row.day, end.row.month)
    )
    added = [Used(*counts) for counts in more.values()]
    return {
        "spenders": [account for account, _ in more], "periods": [period for _, period in more],
        "window_requests": [one.requests for one in added], "window_pages": [one.pages for one in added],
        "window_spend": [one.spend for one in added],
    }  # fmt: skip


def _used(closings: Sequence[Closing]) -> dict[str, list[Any]]:
    more = _sums(((end.row.account, end.row.day, end.row.mode), end.used) for end in closings if end.used is not None)
    added = [UsageChange(*counts) for counts in more.values()]
    return {
        "users": [account for account, _, _ in more], "days": [day for _, day, _ in more],
        "modes": [mode for _, _, mode in more], "requests": [one.requests for one in added],
        "failed": [one.failed for one in added], "used_pages": [one.pages for one in added],
        "refunded": [one.refunded for one in added], "spend": [one.spend for one in added],
    }  # fmt: skip


def _sums(parts: Iterable[tuple[K, tuple[int, ...]]]) -> dict[K, tuple[int, ...]]:
    """The sums by account and day, month or mode: a statement may meet a row only once."""
    sums: dict[K, tuple[int, ...]] = {}
    for key, counts in parts:
        before = sums.get(key, (0,) * len(counts))
        sums[key] = tuple(map(sum, zip(before, counts, strict=True)))
    return sums
