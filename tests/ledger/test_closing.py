"""What the end of a reservation charges, gives back and frees, whatever comes in whichever order."""

from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.closing import Closing, Settled, UsageChange, cancel, charge, refund, settle, settle_as
from gateway.ledger.schema import Stage
from gateway.limits.job_cost import Cost
from gateway.limits.quotas import Used
from tests.support.pure import PROPERTY

ACCOUNT: Final = "key:ci"
PAGES: Final = 10
PRICE: Final = 5
NOW: Final = 1000.9
THEN: Final = 400
LATER: Final = 401


@dataclass(frozen=True)
class Row:
    """A reservation, as it is read from the ledger."""

    stage: Stage
    pages: int = PAGES
    price: int = PRICE
    account: str = ACCOUNT
    settled_at: int | None = None
    given_back: int | None = None


ADMITTED: Final = Row(Stage.ADMITTED, pages=0, price=0)
RESERVED: Final = Row(Stage.RESERVED)
ACCEPTED: Final = Row(Stage.ACCEPTED)
CHARGED: Final = Row(Stage.CHARGED, settled_at=THEN)
FAILED: Final = Row(Stage.SETTLED, pages=0, settled_at=THEN, given_back=PAGES)
FINAL: Final = Row(Stage.SETTLED, pages=4, settled_at=THEN)
REFUNDED: Final = Row(Stage.REFUNDED, pages=0, settled_at=THEN)


def after(end: Closing) -> Row:
    """The reservation as it is written then."""
    assert end.stage is not None
    row: Row = end.row
    return replace(row, stage=end.stage, pages=end.pages, settled_at=end.settled_at, given_back=end.given_back)


def done(end: Closing | None) -> Closing:
    assert end is not None
    return end


def settled(row: Row, pages: int | None = 4, reset_at: int = 0, *, failed: bool = False) -> Closing:
    return done(settle(row, pages, NOW, reset_at, failed=failed))


# The first end


@pytest.mark.parametrize(("row", "slots"), [(RESERVED, 1), (ACCEPTED, 0)])
def test_a_job_that_ends_frees_what_it_held_and_is_charged_what_it_cost(row: Row, slots: int) -> None:
    assert settled(row) == Closing(
        row,
        Stage.SETTLED,
        pages=4,
        settled_at=1000,
        given_back=None,
        slots=slots,
        in_flight=PAGES,
        windows=Used(0, -6, -6 * PRICE),
        used=UsageChange(1, 0, pages=4, refunded=6, spend=4 * PRICE),
        settled=Settled(ACCOUNT, 4, 6),
    )


@pytest.mark.parametrize(
    ("pages", "failed", "cost", "refunded"),
    [(None, False, PAGES, 0), (PAGES, False, PAGES, 0), (0, False, 0, PAGES), (12, False, 12, 0)]
    + [(pages, True, 0, PAGES) for pages in (None, 0, 7)],
)
def test_it_costs_what_the_upstream_says_else_what_was_reserved_and_nothing_if_it_failed(
    pages: int | None, failed: bool, cost: int, refunded: int
) -> None:
    end = settled(ACCEPTED, pages, failed=failed)
    assert end.used == UsageChange(1, int(failed), cost, refunded, cost * PRICE)
    assert end.windows == Used(0, cost - PAGES, (cost - PAGES) * PRICE)
    assert (end.pages, end.settled) == (cost, Settled(ACCOUNT, cost, refunded))


def test_what_was_given_back_to_a_failed_job_is_kept_and_of_no_other() -> None:
    assert settled(ACCEPTED, failed=True).given_back == PAGES
    assert settled(CHARGED, failed=True).given_back == PAGES
    assert settled(ACCEPTED, 0).given_back is None


@pytest.mark.parametrize(("row", "slots"), [(RESERVED, 1), (ACCEPTED, 0)])
def test_a_job_whose_end_is_unknown_is_charged_as_reserved(row: Row, slots: int) -> None:
    assert done(charge(row, NOW)) == Closing(
        row,
        Stage.CHARGED,
        pages=PAGES,
        settled_at=1000,
        given_back=None,
        slots=slots,
        in_flight=PAGES,
        windows=Used(),
        used=UsageChange(1, 0, PAGES, 0, PAGES * PRICE),
        settled=Settled(ACCOUNT, PAGES, 0),
    )


# Corrections of a charge


@pytest.mark.parametrize(
    ("pages", "failed", "cost"), [(4, False, 4), (12, False, 12), (None, False, 10), (4, True, 0)]
)
def test_a_charge_is_corrected_by_the_difference_and_is_one_request_still(
    pages: int | None, failed: bool, cost: int
) -> None:
    difference = cost - PAGES
    end = settled(CHARGED, pages, reset_at=THEN - 1, failed=failed)
    assert (end.stage, end.pages, end.settled_at) == (Stage.SETTLED, cost, 1000)
    assert (end.slots, end.in_flight) == (0, 0)
    assert end.windows == Used(0, difference, difference * PRICE)
    assert end.used == UsageChange(0, int(failed), difference, max(0, -difference), difference * PRICE)
    assert end.settled == Settled(ACCOUNT, difference, max(0, -difference))


@pytest.mark.parametrize("reset_at", [THEN, LATER])
def test_the_windows_have_nothing_to_give_back_of_a_charge_that_a_reset_forgot(reset_at: int) -> None:
    end = settled(CHARGED, reset_at=reset_at)
    assert end.windows == Used()
    assert end.used == UsageChange(0, 0, -6, 6, -6 * PRICE)  # reports forget nothing
    assert end.settled_at == THEN


def test_a_reset_forgets_no_job_that_is_in_flight() -> None:
    end = settled(ACCEPTED, reset_at=LATER)
    assert (end.windows, end.settled_at) == (Used(0, -6, -6 * PRICE), 1000)


@pytest.mark.parametrize(("reset_at", "counted"), [(0, -PAGES), (THEN, 0)])
def test_an_operator_gives_back_all_that_was_charged_as_reserved_and_it_was_a_request(
    reset_at: int, counted: int
) -> None:
    end = done(refund(CHARGED, NOW, reset_at))
    assert (end.stage, end.pages, end.given_back) == (Stage.REFUNDED, 0, None)
    assert end.windows == Used(0, counted, counted * PRICE)
    assert end.used == UsageChange(0, 0, -PAGES, PAGES, -PAGES * PRICE)
    assert end.settled == Settled(ACCOUNT, -PAGES, PAGES)


# Submits of which no job came


def test_a_submit_that_reserved_nothing_leaves_nothing() -> None:
    assert done(cancel(ADMITTED, NOW, 0)) == Closing(
        ADMITTED,
        None,
        0,
        1000,
        None,
        slots=1,
        in_flight=0,
        windows=Used(-1),
        used=None,
        settled=Settled(ACCOUNT, 0, 0),
    )


def test_a_submit_that_was_never_released_gets_all_back_and_was_no_request() -> None:
    assert done(cancel(RESERVED, NOW, 0)) == Closing(
        RESERVED,
        Stage.REFUNDED,
        pages=0,
        settled_at=1000,
        given_back=None,
        slots=1,
        in_flight=PAGES,
        windows=Used(-1, -PAGES, -PAGES * PRICE),
        used=UsageChange(refunded=PAGES),
        settled=Settled(ACCOUNT, 0, PAGES),
    )


@pytest.mark.parametrize(
    ("reset_at", "windows"), [(THEN - 1, Used(-1, -PAGES, -PAGES * PRICE)), (THEN, Used()), (LATER, Used())]
)
def test_a_submit_that_was_reclaimed_too_early_gets_back_what_no_reset_forgot(reset_at: int, windows: Used) -> None:
    end = done(cancel(CHARGED, NOW, reset_at))
    assert (end.stage, end.pages, end.slots, end.in_flight) == (Stage.REFUNDED, 0, 0, 0)
    assert end.windows == windows
    assert end.used == UsageChange(-1, 0, -PAGES, PAGES, -PAGES * PRICE)
    assert end.settled == Settled(ACCOUNT, -PAGES, PAGES)


# What changes nothing


@pytest.mark.parametrize("row", [ADMITTED, FAILED, FINAL, REFUNDED])
def test_what_never_began_or_is_settled_is_not_settled(row: Row) -> None:
    assert settle(row, 4, NOW, 0, failed=False) is None


@pytest.mark.parametrize("row", [ADMITTED, CHARGED, FAILED, FINAL, REFUNDED])
def test_only_what_is_in_flight_is_charged_as_reserved(row: Row) -> None:
    assert charge(row, NOW) is None


@pytest.mark.parametrize("row", [ADMITTED, RESERVED, ACCEPTED, FAILED, FINAL, REFUNDED])
def test_only_what_was_charged_as_reserved_is_refunded(row: Row) -> None:
    assert refund(row, NOW, 0) is None


@pytest.mark.parametrize("row", [ACCEPTED, FAILED, FINAL, REFUNDED])
def test_a_job_that_began_or_is_settled_is_not_cancelled(row: Row) -> None:
    assert cancel(row, NOW, 0) is None


# By all that is known


@pytest.mark.parametrize("row", [RESERVED, ACCEPTED])
def test_what_is_in_flight_is_settled_as_its_known_facts_say(row: Row) -> None:
    assert settle_as(row, Cost.RESERVED, 4, NOW, 0) == charge(row, NOW)
    assert settle_as(row, Cost.NOTHING, 4, NOW, 0) == settled(row, failed=True)
    assert settle_as(row, Cost.SAID, 4, NOW, 0) == settled(row, 4)


@pytest.mark.parametrize("reset_at", [0, LATER])
def test_a_charge_is_corrected_as_its_known_facts_say(reset_at: int) -> None:
    assert settle_as(CHARGED, Cost.RESERVED, 4, NOW, reset_at) is None
    assert settle_as(CHARGED, Cost.NOTHING, None, NOW, reset_at) == settled(CHARGED, None, reset_at, failed=True)
    assert settle_as(CHARGED, Cost.SAID, 4, NOW, reset_at) == settled(CHARGED, 4, reset_at)


@pytest.mark.parametrize("row", [FINAL, REFUNDED, ADMITTED])
@pytest.mark.parametrize("cost", Cost)
def test_what_is_final_is_not_charged_again(row: Row, cost: Cost) -> None:
    assert settle_as(row, cost, 4, NOW, 0) is None


def test_a_failed_job_costs_nothing_once_more() -> None:
    assert settle_as(FAILED, Cost.NOTHING, 4, NOW, 0) is None


@pytest.mark.parametrize(
    ("pages", "charged", "still_refunded"), [(4, 4, 6), (None, PAGES, 0), (0, 0, PAGES), (12, 12, 0)]
)
def test_a_refunded_job_that_was_complete_is_charged_for_good_in_place_of_the_refund(
    pages: int | None, charged: int, still_refunded: int
) -> None:
    assert done(settle_as(FAILED, Cost.SAID, pages, NOW, 0)) == Closing(
        FAILED,
        Stage.SETTLED,
        pages=charged,
        settled_at=1000,
        given_back=None,
        slots=0,
        in_flight=0,
        windows=Used(0, charged, charged * PRICE),
        used=UsageChange(0, -1, charged, still_refunded - PAGES, charged * PRICE),
        settled=Settled(ACCOUNT, charged, 0),
    )


def test_a_refunded_job_that_gave_something_is_charged_as_reserved_until_more_is_known() -> None:
    end = done(settle_as(FAILED, Cost.RESERVED, 4, NOW, 0))
    assert (end.stage, end.pages, end.settled_at, end.given_back) == (Stage.CHARGED, PAGES, THEN, None)
    assert end.used == UsageChange(0, -1, PAGES, -PAGES, PAGES * PRICE)
    assert settled(after(end), 4).settled == Settled(ACCOUNT, -6, 6)


@pytest.mark.parametrize("cost", [Cost.RESERVED, Cost.SAID])
@pytest.mark.parametrize(("reset_at", "counts"), [(THEN - 1, True), (THEN, False), (LATER, False)])
def test_what_a_reset_forgot_is_charged_again_in_reports_alone(cost: Cost, reset_at: int, counts: bool) -> None:
    end = done(settle_as(FAILED, cost, None, NOW, reset_at))
    assert end.windows == (Used(0, PAGES, PAGES * PRICE) if counts else Used())
    assert end.used == UsageChange(0, -1, PAGES, -PAGES, PAGES * PRICE)


# Whatever comes in whichever order

ENDS: Final = ("charge", "settle", "fail", "cancel", "refund", "nothing", "reserved", "said", "reset")


def closed(row: Row, name: str, pages: int | None, now: float, reset_at: int) -> Closing | None:
    if name == "charge":
        return charge(row, now)
    if name == "cancel":
        return cancel(row, now, reset_at)
    if name == "refund":
        return refund(row, now, reset_at)
    if name in {"settle", "fail"}:
        return settle(row, pages, now, reset_at, failed=name == "fail")
    return settle_as(row, Cost[name.upper()], pages, now, reset_at)


@PROPERTY
@given(
    st.sampled_from([RESERVED, ACCEPTED]),
    st.lists(st.tuples(st.sampled_from(ENDS), st.none() | st.integers(0, 20)), max_size=8),
)
def test_all_changes_together_come_to_what_the_reservation_says_in_the_end(
    row: Row, told: list[tuple[str, int | None]]
) -> None:
    windows, used, held = Used(1, PAGES, PAGES * PRICE), UsageChange(), [int(row is RESERVED), PAGES]
    reset_at, has_ended, is_forgotten, was_cancelled = 0, False, False, False
    for number, (name, pages) in enumerate(told):
        now = 10.0 * (number + 1)
        if name == "reset":
            reset_at = int(now)
            if has_ended:
                windows, is_forgotten = Used(), True
            continue
        end = closed(row, name, pages, now, reset_at)
        if end is None:
            continue
        windows = Used(*map(sum, zip(windows, end.windows, strict=True)))
        used = UsageChange(*map(sum, zip(used, end.used or UsageChange(), strict=True)))
        held = [held[0] - end.slots, held[1] - end.in_flight]
        row, has_ended, was_cancelled = after(end), True, name == "cancel"
    if not has_ended:
        return
    requests, failed = int(not was_cancelled), int(row.given_back is not None)
    assert used == UsageChange(requests, failed, row.pages, max(0, PAGES - row.pages), row.pages * PRICE)
    assert windows == (Used() if is_forgotten else Used(requests, row.pages, row.pages * PRICE))
    assert held == [0, 0]
