"""What accounts have used, as reports, limits and operators see it; grants on top, and resets. On both engines."""

from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Final

import pytest
from sqlalchemy import Connection, insert

from gateway.ledger import usage as module
from gateway.ledger.accounts import read_counts
from gateway.ledger.engine import Engine
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.schema import accounts, grants, windows
from gateway.ledger.usage import (
    GrantEnds,
    UsedByMode,
    UsedOnDay,
    WindowRow,
    active_counts,
    end_grants,
    grant,
    grants_of,
    in_flight,
    read_counts_of_many,
    reset,
    used_by_mode,
    used_since,
    windows_now,
    with_ends,
)
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.submit_decisions import Ask
from tests.support.endings import settle
from tests.support.ledgerkeys import DAY
from tests.support.ledgers import NOON, assert_sound, make_claim, make_profile, rows_of

ANN, BOB, CAT, DAN = "key:ann", "key:bob", "key:cat", "key:dan"
MONDAY, TUESDAY = 20261123, 20261124
PRICE: Final = 5
TTL: Final = 90 * DAY
NOW: Final = int(NOON)


class Accounts:
    """Submits of accounts, each step of them at the moment `now`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = NOON
        self._numbers = count()

    def claim(self, account: str) -> Claim:
        return make_claim(f"r{next(self._numbers)}", account)

    async def begin(self, account: str = ANN, pages: int = 10, mode: str = "fast") -> Claim:
        """A job that runs; without pages, a submit whose body comes in."""
        claim = self.claim(account)
        await self.engine.write(lambda c: _begin(c, claim, pages, mode, self.now))
        return claim

    async def end(self, claim: Claim, pages: int) -> None:
        await self.engine.write(lambda c: settle(c, claim.account, claim.id, pages, self.now, failed=False))

    async def use(self, account: str = ANN, pages: int = 4, mode: str = "fast", *, failed: bool = False) -> None:
        """A job that reserved ten pages and cost fewer."""
        claim = self.claim(account)

        def work(connection: Connection) -> None:
            _begin(connection, claim, 10, mode, self.now)
            settle(connection, account, claim.id, pages, self.now, failed=failed)

        await self.engine.write(work)

    async def grant(self, account: str, pages: int, lasts: int) -> None:
        await self.engine.write(lambda c: grant(c, account, pages, int(self.now) + lasts, self.now))

    async def read(self, report: Any, *arguments: Any) -> Any:
        return await self.engine.report(lambda c: report(c, *arguments))

    async def write(self, work: Any, *arguments: Any) -> Any:
        return await self.engine.write(lambda c: work(c, *arguments))

    async def month_pages(self, account: str) -> tuple[int, int]:
        """What its windows of the day and of the month have."""
        counts = await self.engine.read(lambda c: read_counts(c, account, self.now))
        return counts.day.pages, counts.month.pages


def _begin(connection: Connection, claim: Claim, pages: int, mode: str, now: float) -> None:
    admit(connection, claim, make_profile(), now, now + TTL)
    if pages:
        reserve(connection, claim, make_profile(), Ask(pages, PRICE, mode), now, now + TTL)
        accept(connection, claim, None, now + TTL)


@pytest.fixture
async def book(engine: Engine) -> AsyncIterator[Accounts]:
    yield Accounts(engine)
    await engine.write(assert_sound)


def used(pages: int, requests: int = 1) -> Used:
    return Used(requests, pages, pages * PRICE)


# Reports


async def test_a_day_of_an_account_has_all_that_its_settled_jobs_used(book: Accounts) -> None:
    await book.use(pages=4)
    await book.use(pages=0, failed=True)
    await book.begin()  # has not ended, and is in no report
    assert await book.read(used_since, 0) == [UsedOnDay(ANN, MONDAY, 2, 1, 4, 16, 4 * PRICE)]


async def test_usage_is_told_from_a_day_on_the_oldest_first_and_of_one_account(book: Accounts) -> None:
    for account, pages in ((BOB, 1), (ANN, 2)):
        await book.use(account, pages)
    book.now += DAY
    for account, pages in ((CAT, 3), (ANN, 4)):
        await book.use(account, pages)

    async def told(since: int, *of: Any) -> list[tuple[str, int]]:
        return [(row.account, row.pages) for row in await book.read(used_since, since, *of)]

    assert await told(0) == [(ANN, 2), (BOB, 1), (ANN, 4), (CAT, 3)]
    assert await told(TUESDAY) == [(ANN, 4), (CAT, 3)]
    assert await told(TUESDAY + 1) == []
    assert await told(0, ANN) == [(ANN, 2), (ANN, 4)]
    assert await told(TUESDAY, BOB) == []
    assert await told(0, None, 3) == [(BOB, 1), (ANN, 4), (CAT, 3)]  # the latest ones
    assert await told(0, ANN, 1) == [(ANN, 4)]


async def test_usage_by_mode_is_the_same_split_by_what_was_asked_for(book: Accounts) -> None:
    await book.use(ANN, 1, "fast")
    await book.use(ANN, 2, "accurate")
    await book.use(ANN, 3, "accurate", failed=True)
    await book.use(BOB, 4, "")
    book.now += DAY
    await book.use(ANN, 5, "fast")
    accurate = UsedByMode(ANN, MONDAY, "accurate", 2, 1, 2, 18, 2 * PRICE)
    first = UsedByMode(ANN, MONDAY, "fast", 1, 0, 1, 9, PRICE)
    bobs = UsedByMode(BOB, MONDAY, "", 1, 0, 4, 6, 4 * PRICE)
    last = UsedByMode(ANN, TUESDAY, "fast", 1, 0, 5, 5, 5 * PRICE)
    assert await book.read(used_by_mode, 0) == [accurate, first, bobs, last]
    assert await book.read(used_by_mode, TUESDAY) == [last]
    assert await book.read(used_by_mode, MONDAY, BOB) == [bobs]
    assert await book.read(used_by_mode, 0, None, 3) == [first, bobs, last]


# What accounts have now


async def test_active_are_those_that_were_used_this_month_or_have_something_in_flight(book: Accounts) -> None:
    await book.use(ANN, 1)
    await book.begin(BOB, 7)
    await book.begin(CAT, 0)
    book.now += 10 * DAY  # another month
    await book.use(DAN, 2)
    await book.grant(DAN, 50, 1)
    assert await book.read(active_counts, book.now, 9) == {
        BOB: AccountCounts(pages_in_flight=7),
        CAT: AccountCounts(concurrent=1),
        DAN: AccountCounts(day=used(2), month=used(2), granted=50),
    }


async def test_of_many_active_ones_those_of_most_pages_are_told(book: Accounts) -> None:
    for account, pages in ((ANN, 5), (BOB, 9), (CAT, 7)):
        await book.use(account, pages)
    assert list(await book.read(active_counts, book.now, 2)) == [BOB, CAT]
    book.now += DAY
    await book.use(ANN, 5)
    found = await book.read(active_counts, book.now, 9)
    assert {account: (counts.day, counts.month) for account, counts in found.items()} == {
        ANN: (used(5), used(10, 2)), BOB: (Used(), used(9)), CAT: (Used(), used(7)),
    }  # fmt: skip
    assert list(found) == [ANN, BOB, CAT]


async def test_windows_are_those_of_this_day_and_month_the_most_used_first(book: Accounts) -> None:
    for account, pages in ((ANN, 5), (BOB, 9), (CAT, 7)):
        await book.use(account, pages)
    book.now += DAY
    await book.use(ANN, 5)
    rows = [WindowRow(ANN, used(5), used(10, 2)), WindowRow(BOB, Used(), used(9)), WindowRow(CAT, Used(), used(7))]
    assert await book.read(windows_now, book.now, 9) == rows
    assert await book.read(windows_now, book.now, 2) == rows[:2]
    assert await book.read(windows_now, book.now + 10 * DAY, 9) == []


async def test_in_flight_is_who_has_a_submit_without_its_settlement_once(book: Accounts) -> None:
    await book.use(ANN)
    running = [await book.begin(BOB), await book.begin(BOB)]
    await book.begin(CAT, 0)
    assert sorted(await book.read(in_flight, 9)) == [BOB, CAT]
    assert len(await book.read(in_flight, 1)) == 1
    for claim in running:
        await book.end(claim, 1)
    assert await book.read(in_flight, 9) == [CAT]


async def test_counts_of_some_accounts_are_whole_and_those_of_grants_alone_are_there(book: Accounts) -> None:
    await book.use(ANN, 4)
    await book.begin(ANN, 10)
    await book.begin(ANN, 0)
    for pages, lasts in ((7, 5), (2, 9), (4, 0)):
        await book.grant(ANN, pages, lasts)
    for _ in range(2):
        await book.grant(BOB, 7, 5)
    await book.grant(CAT, 7, 0)  # ends now
    await book.use(DAN)
    found = await book.read(read_counts_of_many, [ANN, BOB, CAT], book.now)
    assert found == {
        ANN: AccountCounts(found[ANN].tat, 1, 10, used(14, 3), used(14, 3), 9),
        BOB: AccountCounts(granted=14),
    }
    assert NOON < found[ANN].tat < NOON + 60
    assert await book.read(read_counts_of_many, [], book.now) == {}


async def test_however_many_accounts_are_asked_about_all_are_told(
    book: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", 2)
    names = [f"key:{number}" for number in range(5)]
    for number, name in enumerate(names):
        await book.grant(name, number + 1, 5)
    found = await book.read(read_counts_of_many, names, book.now)
    assert {name: counts.granted for name, counts in found.items()} == dict(zip(names, range(1, 6), strict=True))


# Grants


async def test_present_grants_are_told_the_first_to_end_first(book: Accounts) -> None:
    for pages, lasts in ((1, 300), (2, 100), (3, 0), (4, -5), (5, 100)):
        await book.grant(ANN, pages, lasts)
    await book.grant(BOB, 9, 50)
    found = await book.read(grants_of, ANN, book.now + 0.9)
    assert [(row.pages, row.until) for row in found] == [(2, NOW + 100), (5, NOW + 100), (1, NOW + 300)]
    counts, ends = await book.read(with_ends, [ANN, BOB, CAT], book.now)
    assert {account: row.granted for account, row in counts.items()} == {ANN: 8, BOB: 9}
    assert ends == {ANN: GrantEnds(NOW + 100, NOW + 300), BOB: GrantEnds(NOW + 50, NOW + 50)}
    assert list((await book.read(with_ends, [BOB], book.now))[1]) == [BOB]
    assert await book.read(grants_of, ANN, book.now + 300) == []


async def test_who_used_something_and_has_no_grant_has_no_end_of_one(book: Accounts) -> None:
    await book.use(ANN)
    counts, ends = await book.read(with_ends, [ANN], book.now)
    assert (list(counts), ends) == ([ANN], {})


async def test_one_grant_is_ended_and_the_others_stay(book: Accounts) -> None:
    for pages in (1, 2):
        await book.grant(ANN, pages, 100)
    await book.grant(BOB, 9, 100)
    first, second = await book.read(grants_of, ANN, book.now)
    (bobs,) = await book.read(grants_of, BOB, book.now)
    assert await book.write(end_grants, ANN, bobs.id, book.now) == []
    assert await book.write(end_grants, ANN, first.id, book.now) == [first]
    assert await book.write(end_grants, ANN, first.id, book.now) == []
    assert await book.read(grants_of, ANN, book.now) == [second]
    assert await book.read(grants_of, BOB, book.now) == [bobs]


async def test_all_grants_of_an_account_are_ended_however_many_there_are(book: Accounts) -> None:
    row = {"account": ANN, "pages": 1, "until": NOW + 100, "created_at": NOW}
    await book.engine.write(lambda c: c.execute(insert(grants), [row] * 501))
    await book.grant(ANN, 1, -100)
    await book.grant(BOB, 9, 100)
    assert len(await book.write(end_grants, ANN, None, book.now)) == 501
    counts = await book.read(read_counts_of_many, [ANN, BOB], book.now)
    assert counts == {BOB: AccountCounts(granted=9)}
    ends = {row["until"] for row in await book.read(rows_of, grants) if row["account"] == ANN}
    assert ends == {NOW - 100, NOW}  # what had ended keeps its end


# Resets


async def test_a_reset_forgets_what_was_used_and_keeps_what_is_in_flight(book: Accounts) -> None:
    await book.use(ANN, 4)
    await book.use(BOB, 6)
    running = await book.begin(ANN, 20)
    await book.begin(BOB, 30)
    assert await book.write(reset, ANN, book.now) == used(4)
    assert await book.month_pages(ANN) == (20, 20)
    assert await book.month_pages(BOB) == (36, 36)
    counts = await book.read(read_counts, ANN, book.now)
    assert (counts.day, counts.month, counts.pages_in_flight) == (used(20), used(20), 20)
    await book.end(running, 15)
    assert await book.month_pages(ANN) == (15, 15)
    assert [row.pages for row in await book.read(used_since, 0)] == [19, 6]  # reports keep it


async def test_a_reset_tells_what_the_month_lost_and_leaves_past_days_alone(book: Accounts) -> None:
    await book.use(ANN, 4)
    book.now += DAY
    await book.use(ANN, 3)
    assert await book.write(reset, ANN, book.now) == used(7, 2)
    assert await book.month_pages(ANN) == (0, 0)
    of = {row["period"]: row["pages"] for row in await book.read(rows_of, windows)}
    assert of == {MONDAY: 4, TUESDAY: 0, 202611: 0}


async def test_what_is_in_flight_since_yesterday_stays_in_the_month_alone(book: Accounts) -> None:
    running = await book.begin(ANN, 20)
    book.now += DAY
    await book.use(ANN, 3)
    assert await book.write(reset, ANN, book.now) == used(3)
    assert await book.month_pages(ANN) == (0, 20)
    await book.end(running, 15)
    assert await book.month_pages(ANN) == (0, 15)


async def test_a_reset_is_dated_for_what_is_corrected_later(book: Accounts) -> None:
    await book.use(ANN)
    await book.use(BOB)
    await book.write(reset, ANN, book.now + 5.9)
    resets = {row["account"]: row["reset_at"] for row in await book.read(rows_of, accounts)}
    assert resets == {ANN: NOW + 5, BOB: 0}


async def test_who_used_nothing_loses_nothing(book: Accounts) -> None:
    assert await book.write(reset, "key:nobody", book.now) == Used()
    await book.use(ANN)
    book.now += 10 * DAY
    assert await book.write(reset, ANN, book.now) == Used()
