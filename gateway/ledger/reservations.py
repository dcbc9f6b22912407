"""The life of a reservation, one transaction for each step; each is all or nothing and may be retried.

    admit ──> reserve ──> accept ──> facts (jobs.record_facts)  the upstream took the job, and its end was seen
      │          │  └───> lose ────> (expires)           released, but the answer was lost: charged, unless settled
      └──────────┴──────> cancel                         nothing was released, or the upstream refused: all refunded
    An admit that names its pages is one with the reserve.

States (schema.Stage), and who moves each:
    ADMITTED  has a slot. Its Lease (lease.py) reserves or cancels; the row of one that is cancelled goes.
    RESERVED  has pages, too: they may be released. Its Lease accepts, with the job's id or without, or cancels.
    ACCEPTED  has pages and no slot. Facts of the job's end settle it (jobs.record_facts), or its owner's deletion.
    CHARGED   as reserved, for its end is unknown. Facts settle it still; an operator may refund it (lost.py).
    SETTLED   its cost is known. A failed job that turns out to have given something is charged again (closing.py).
    REFUNDED  no job came of it: nobody moves it.
The process that holds a reservation renews it while its submit runs. A dead process does not, and `reclaim` takes
back what it left, by any process: an expired ADMITTED row goes, an expired RESERVED or ACCEPTED one is CHARGED.

What can't happen: two move one at once (each locks its account first, or writes only what is as it was read); a slot
or a page is given back twice (the stage says what a row holds); pages that may have been released are given back
by time alone; two jobs have one upstream's id; a step finds a row of another submit (its id is its own).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.ledger import closing
from gateway.ledger.accounts import add_to_windows, change, lock, locked_counts, take_token
from gateway.ledger.closing import HOLDS_SLOT, Closing, Settled, UsageChange
from gateway.ledger.schema import Stage, accounts, reservations, usage, usage_by_mode
from gateway.ledger.statement import Statement
from gateway.ledger.upserts import or_add
from gateway.limits.quotas import ALL_COUNTED, AccountCounts, Uncounted, Used
from gateway.limits.submit_decisions import Ask, StepOutcome, decide_pages, decide_submit
from gateway.limits.windows import periods_at
from gateway.model.identity import Profile

NO_PAGES: Final = Ask(0, 0, "")
"""What a submit holds that has a slot alone."""

_AT_ONCE: Final = 200

_ADD_USAGE: Final = or_add(usage, ["account", "day"], UsageChange._fields)
_ADD_BY_MODE: Final = or_add(usage_by_mode, ["account", "day", "mode"], UsageChange._fields)
_ROW: Final = (
    "id", "account", "owner", "upstream", "stage", "mode", "pages", "price", "day", "month", "created_at",
    "expires_at",
)  # fmt: skip
_INSERT: Final = Statement(insert(reservations), _ROW)
_FIND: Final = Statement(select(reservations).where(reservations.c.id == bindparam("of")))
_DELETE: Final = Statement(delete(reservations).where(reservations.c.id == bindparam("of")))
_OVERDUE: Final = Statement(
    select(reservations.c.account)
    .where(reservations.c.expires_at <= bindparam("now"))
    .order_by(reservations.c.expires_at)
    .limit(_AT_ONCE)
)
_RESET_AT: Final = Statement(select(accounts.c.reset_at).where(accounts.c.account == bindparam("of")))


def _update(*columns: str) -> Statement:
    by_id = update(reservations).where(reservations.c.id == bindparam("of"))
    return Statement(by_id.values({name: bindparam(f"new_{name}") for name in columns}))


_RESERVE: Final = _update("stage", "pages", "price", "mode", "day", "month", "expires_at")
_ACCEPT: Final = _update("stage", "request_id", "expires_at")
_CLOSE: Final = _update("stage", "pages", "settled_at", "expires_at", "given_back")


@dataclass(frozen=True, slots=True)
class Claim:
    """A submit as the ledger knows it. `id` is the reservation's own; `upstream` names where the job runs."""

    id: str
    account: str
    owner: str
    upstream: str


class ReservationLost(Exception):
    """Not the caller's error: the reservation expired and was reclaimed while its submit still ran."""


class RequestIdTaken(Exception):
    """The upstream gave two jobs one id."""


def admit(
    connection: Connection, claim: Claim, profile: Profile, now: float, until: float, ask: Ask | None = None
) -> StepOutcome:
    """Takes a submit's slot (rate and concurrency), and its pages, too, if they are known. Times: since the epoch."""
    outcome = _decide(connection, claim, now, lambda counts: decide_submit(profile, counts, now, ask))
    if outcome.denial is None:
        periods, pages = periods_at(now), ask or NO_PAGES
        take_token(connection, claim.account, outcome.after.tat, slots=1, in_flight=pages.pages)
        add_to_windows(connection, claim.account, periods, Used(1, pages.pages, pages.spend))
        _INSERT.run(connection, **_row_of(claim, periods, now, until), stage=stage_of(ask), **pages._asdict())
    elif outcome.has_spent_token:
        take_token(connection, claim.account, outcome.after.tat, slots=0, in_flight=0)
    return outcome


def stage_of(ask: Ask | None) -> Stage:
    """The stage in which a submit begins that has a slot alone, or asked for its pages at once."""
    return Stage.ADMITTED if ask is None else Stage.RESERVED


def reserve(
    connection: Connection, claim: Claim, profile: Profile, ask: Ask, now: float, until: float
) -> StepOutcome:
    """Reserves the most pages that the job may cost. Its request counts in the day and month of its pages.

    Raises:
        ReservationLost: the reservation was reclaimed.
    """
    periods, row = periods_at(now), None

    def decide(counts: AccountCounts) -> StepOutcome:
        nonlocal row
        row = find(connection, claim.id)  # under its account's lock: nobody changes it from here on
        return decide_pages(profile, ask, counts, now, _uncounted(row, periods))

    outcome = _decide(connection, claim, now, decide)
    if row is None or row.stage != Stage.ADMITTED:
        raise ReservationLost
    if outcome.denial is None:
        change(connection, claim.account, in_flight=ask.pages)
        _move_requests(connection, row, periods)
        add_to_windows(connection, claim.account, periods, Used(pages=ask.pages, spend=ask.spend))
        reserved = {"stage": Stage.RESERVED, "day": periods[0], "month": periods[1], "expires_at": int(until)}
        _set(connection, _RESERVE, claim.id, **ask._asdict(), **reserved)
    return outcome


def accept(connection: Connection, claim: Claim, request_id: str | None, until: float) -> Row[Any] | None:
    """Records the upstream's id of the job, or, without one, that its answer was lost. Frees the submit's slot.

    A known id is kept: the earlier call may have succeeded although its answer was lost. Returns the reservation as
    it was; None if it does not exist any more.

    Raises:
        RequestIdTaken: another job has the id.
    """
    lock(connection, claim.account)
    row = find(connection, claim.id)
    if row is None:
        return None
    stage, expires = Stage(row.stage), row.expires_at
    if stage in HOLDS_SLOT:
        change(connection, claim.account, concurrent=-1)
        stage, expires = Stage.ACCEPTED, int(until)
    try:
        _set(connection, _ACCEPT, claim.id, stage=stage, request_id=request_id or row.request_id, expires_at=expires)
    except IntegrityError:
        raise RequestIdTaken from None
    return row


def charge_one(connection: Connection, account: str, reservation: str, now: float) -> Settled | None:
    """Charges a job as reserved, because its end is unknown; later facts can still correct that."""
    lock(connection, account)
    row = find(connection, reservation)
    return None if row is None else _applied(connection, closing.charge(row, now))


def refund_charged(connection: Connection, account: str, reservation: str, now: float) -> Settled | None:
    """Gives back for good what was charged as reserved; None if it is not, or not any more."""
    lock(connection, account)
    row = find(connection, reservation)
    return None if row is None else _applied(connection, closing.refund(row, now, _reset_at(connection, row)))


def cancel(connection: Connection, claim: Claim, now: float) -> int:
    """Returns all that a submit took, because no job came of it; returns how many pages."""
    lock(connection, claim.account)
    row = find(connection, claim.id)
    settled = None if row is None else _applied(connection, closing.cancel(row, now, _reset_at(connection, row)))
    return 0 if settled is None else settled.refunded


def reclaim(connection: Connection, account: str, now: float) -> int | None:
    """Reclaims an account's expired reservations, a batch at a time.

    Returns how many pages are charged as reserved; None if nothing had expired. Many cost hardly more statements than
    one: an account's reservations may all expire at once, and the ledger may be far away.
    """
    lock(connection, account)
    rows = _lock_overdue(connection, account, now)
    if not rows:
        return None
    slots, pages = sum(row.stage in HOLDS_SLOT for row in rows), sum(row.pages for row in rows)
    change(connection, account, concurrent=-slots, in_flight=-pages)
    _free_slots(connection, account, [row for row in rows if row.stage == Stage.ADMITTED])
    _charge_all(connection, [row for row in rows if row.stage != Stage.ADMITTED], now)
    return int(pages)


def overdue(connection: Connection, now: float) -> list[str]:
    """The accounts of the reservations that expired first, a batch at a time."""
    return list(dict.fromkeys(row.account for row in _OVERDUE.all(connection, now=int(now))))


def count_overdue(connection: Connection, now: float, account: str) -> int:
    """How many reservations of an account have expired, and are not yet reclaimed."""
    over = (reservations.c.account == account) & (reservations.c.expires_at <= int(now))
    return int(connection.execute(select(func.count()).select_from(reservations).where(over)).scalar_one())


def renew(connection: Connection, ids: list[str], until: float) -> None:
    """Extends reservations whose submits still run."""
    running = reservations.c.id.in_(ids), reservations.c.stage.in_(HOLDS_SLOT)
    connection.execute(select(reservations.c.id).where(*running).order_by(reservations.c.id).with_for_update())
    connection.execute(update(reservations).where(*running).values(expires_at=int(until)))


def _decide(
    connection: Connection, claim: Claim, now: float, decide: Callable[[AccountCounts], StepOutcome]
) -> StepOutcome:
    """Decides under the account's lock; before it refuses, it reclaims the account's expired reservations."""
    outcome = decide(locked_counts(connection, claim.account, now))
    if outcome.denial is not None and reclaim(connection, claim.account, now) is not None:
        outcome = decide(locked_counts(connection, claim.account, now))
    return outcome


def _row_of(claim: Claim, periods: tuple[int, int], now: float, until: float) -> dict[str, Any]:
    return {
        "id": claim.id, "account": claim.account, "owner": claim.owner, "upstream": claim.upstream,
        "day": periods[0], "month": periods[1], "created_at": int(now), "expires_at": int(until),
    }  # fmt: skip


def find(connection: Connection, reservation: str) -> Row[Any] | None:
    """Returns one reservation in any stage."""
    row: Row[Any] | None = _FIND.first(connection, of=reservation)
    return row


def _set(connection: Connection, statement: Statement, reservation: str, **values: Any) -> None:
    statement.run(connection, of=reservation, **{f"new_{name}": value for name, value in values.items()})


def _uncounted(row: Row[Any] | None, periods: tuple[int, int]) -> Uncounted:
    """Where the request of an upload over midnight is yet to be counted."""
    return ALL_COUNTED if row is None else Uncounted(int(row.day != periods[0]), int(row.month != periods[1]))


def _move_requests(connection: Connection, row: Row[Any], periods: tuple[int, int]) -> None:
    """Counts an upload over midnight, request and pages, in the period in which its pages are reserved."""
    if (row.day, row.month) != periods:
        add_to_windows(connection, row.account, (row.day, row.month), Used(requests=-1))
        add_to_windows(connection, row.account, periods, Used(requests=1))


def _lock_overdue(connection: Connection, account: str, now: float) -> Sequence[Row[Any]]:
    """Locks them in the order of `renew`, against deadlocks; one that was renewed meanwhile is not among them."""
    is_over = reservations.c.expires_at <= int(now)
    query = select(reservations.c.id).where(reservations.c.account == account, is_over)
    ids = list(connection.execute(query.order_by(reservations.c.expires_at).limit(_AT_ONCE)).scalars())
    those = select(reservations).where(reservations.c.id.in_(ids), is_over).order_by(reservations.c.id)
    return connection.execute(those.with_for_update()).all() if ids else []


def _free_slots(connection: Connection, account: str, rows: Sequence[Row[Any]]) -> None:
    """Deletes slots that never got pages."""
    for periods, count in Counter((row.day, row.month) for row in rows).items():
        add_to_windows(connection, account, periods, Used(requests=-count))
    if rows:
        connection.execute(delete(reservations).where(reservations.c.id.in_([row.id for row in rows])))


def _charge_all(connection: Connection, rows: Sequence[Row[Any]], now: float) -> None:
    """Charges jobs of one account as reserved."""
    for of in sorted({(row.day, row.mode) for row in rows}):
        same = [row for row in rows if (row.day, row.mode) == of]
        pages, spend = sum(row.pages for row in same), sum(row.pages * row.price for row in same)
        _add_usage(connection, same[0], requests=len(same), pages=pages, spend=spend)
    if rows:
        those = update(reservations).where(reservations.c.id.in_([row.id for row in rows]))
        connection.execute(those.values(stage=Stage.CHARGED, settled_at=int(now), expires_at=None, given_back=None))


def apply(connection: Connection, end: Closing) -> None:
    """Writes a reservation's end, its account locked."""
    row = end.row
    if end.slots or end.in_flight:
        change(connection, row.account, concurrent=-end.slots, in_flight=-end.in_flight)
    if any(end.windows):
        add_to_windows(connection, row.account, (row.day, row.month), end.windows)
    if end.used is not None:
        _add_usage(connection, row, **end.used._asdict())
    if end.stage is None:
        _DELETE.run(connection, of=row.id)
        return
    _set(
        connection, _CLOSE, row.id, stage=end.stage, pages=end.pages, settled_at=end.settled_at, expires_at=None,
        given_back=end.given_back,
    )  # fmt: skip


def _applied(connection: Connection, end: Closing | None) -> Settled | None:
    if end is None:
        return None
    apply(connection, end)
    return end.settled


def _reset_at(connection: Connection, row: Row[Any]) -> int:
    """When its account was last reset; only charges can be older than that."""
    return int(_RESET_AT.first(connection, of=row.account).reset_at) if row.stage == Stage.CHARGED else 0


def _add_usage(connection: Connection, row: Row[Any], **more: int) -> None:
    values = {"account": row.account, "day": row.day, **dict.fromkeys(UsageChange._fields, 0), **more}
    _ADD_USAGE.run(connection, **values)
    _ADD_BY_MODE.run(connection, **values, mode=row.mode)
