"""What a reservation's end changes, by its row as it was read: pure.

Facts of a job's end come late and in any order: so a cost may be corrected, until it is final.
"""

from typing import Any, Final, NamedTuple

from gateway.ledger.schema import Stage
from gateway.limits.job_cost import Cost
from gateway.limits.quotas import Used

IN_FLIGHT: Final = frozenset({Stage.RESERVED, Stage.ACCEPTED})
HOLDS_SLOT: Final = frozenset({Stage.ADMITTED, Stage.RESERVED})


class Settled(NamedTuple):
    """The result of a settlement: pages charged to and pages refunded to an account."""

    account: str
    pages: int
    refunded: int


class UsageChange(NamedTuple):
    """What is added to an account's usage of a day. Named as the table's columns."""

    requests: int = 0
    failed: int = 0
    pages: int = 0
    refunded: int = 0
    spend: int = 0


class Closing(NamedTuple):
    """A reservation's row as it was read, what it becomes, and what its account's counts change by.

    `stage` is None if the row is deleted. `slots` and `in_flight` are the slots and pages that are free again,
    `windows` and `used` what is added.
    """

    row: Any
    stage: Stage | None
    pages: int
    settled_at: int | None
    given_back: int | None
    slots: int
    in_flight: int
    windows: Used
    used: UsageChange | None
    settled: Settled


def close(row: Any, cost: int, stage: Stage, now: float, reset_at: int, *, failed: bool) -> Closing:
    """Charges a job, or corrects what it was charged while facts were missing.

    If a reset came after that charge, the windows have nothing of it to refund.
    """
    was_charged = row.stage == Stage.CHARGED
    is_forgotten = was_charged and row.settled_at <= reset_at
    difference = cost - row.pages
    counted, pages, refunded = 0 if is_forgotten else difference, difference if was_charged else cost, -difference
    used = UsageChange(int(not was_charged), int(failed), pages, max(0, refunded), pages * row.price)
    return Closing(
        row,
        stage,
        cost,
        row.settled_at if is_forgotten else int(now),  # else a later charge would count after the reset
        row.pages if failed else None,
        slots=int(row.stage in HOLDS_SLOT),
        in_flight=row.pages if row.stage in IN_FLIGHT else 0,
        windows=Used(pages=counted, spend=counted * row.price),
        used=used,
        settled=Settled(row.account, used.pages, used.refunded),
    )


def cancel(row: Any, now: float, reset_at: int) -> Closing | None:
    """Returns all that a submit took, because no job came of it; also if it was reclaimed while it still ran.

    Returns None if it took nothing, or its job began.
    """
    if row.stage == Stage.CHARGED:
        end = close(row, 0, Stage.REFUNDED, now, reset_at, failed=False)
        less = 0 if row.settled_at <= reset_at else -1
        used = UsageChange(-1, 0, -row.pages, row.pages, -row.pages * row.price)
        return end._replace(windows=end.windows._replace(requests=less), used=used)
    if row.stage not in HOLDS_SLOT:
        return None
    had_pages = row.stage == Stage.RESERVED
    return Closing(
        row,
        Stage.REFUNDED if had_pages else None,
        0,
        int(now),
        None,
        slots=1,
        in_flight=row.pages,
        windows=Used(-1, -row.pages, -row.pages * row.price),
        used=UsageChange(refunded=row.pages) if had_pages else None,
        settled=Settled(row.account, 0, row.pages),
    )


def settle(row: Any, pages: int | None, now: float, reset_at: int, *, failed: bool) -> Closing | None:
    """Charges what a job cost: `pages`, or what was reserved if unknown; nothing if it failed.

    Returns None if it was settled before.
    """
    if row.stage not in IN_FLIGHT | {Stage.CHARGED}:
        return None
    cost = 0 if failed else row.pages if pages is None else pages
    return close(row, cost, Stage.SETTLED, now, reset_at, failed=failed)


def charge(row: Any, now: float) -> Closing | None:
    """Charges a job as reserved, because its end is unknown; later facts can still correct that."""
    if row.stage not in IN_FLIGHT:
        return None
    return close(row, row.pages, Stage.CHARGED, now, 0, failed=False)


def refund(row: Any, now: float, reset_at: int) -> Closing | None:
    """Gives back for good what was charged as reserved; None if it is not, or not any more."""
    return close(row, 0, Stage.REFUNDED, now, reset_at, failed=False) if row.stage == Stage.CHARGED else None


def settle_as(row: Any, cost: Cost, pages: int | None, now: float, reset_at: int) -> Closing | None:
    """Charges a job what follows from all known facts; returns None if it is so already, or its cost is final.

    Charges what was refunded before, and refunds what was charged only because facts were missing.
    """
    if row.stage in IN_FLIGHT | {Stage.CHARGED}:
        if cost is Cost.RESERVED:
            return charge(row, now)
        return settle(row, pages, now, reset_at, failed=cost is Cost.NOTHING)
    if row.stage != Stage.SETTLED or row.given_back is None or cost is Cost.NOTHING:
        return None
    return _charge_again(row, cost, pages, now, reset_at)


def _charge_again(row: Any, cost: Cost, pages: int | None, now: float, reset_at: int) -> Closing:
    """Charges a refunded job. Unless final, it keeps its first `settled_at`, by which resets judge it."""
    is_for_good = cost is Cost.SAID
    charged = pages if is_for_good and pages is not None else row.given_back
    counted = 0 if row.settled_at <= reset_at else charged
    refunded = max(0, row.given_back - charged) - row.given_back
    return Closing(
        row,
        Stage.SETTLED if is_for_good else Stage.CHARGED,
        charged,
        int(now) if is_for_good else row.settled_at,
        None,
        slots=0,
        in_flight=0,
        windows=Used(pages=counted, spend=counted * row.price),
        used=UsageChange(failed=-1, pages=charged, refunded=refunded, spend=charged * row.price),
        settled=Settled(row.account, charged, 0),
    )
