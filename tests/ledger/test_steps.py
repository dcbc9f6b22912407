"""The steps of submits: those of one account that wait go together, and one by one where they don't fit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from gateway.errors import LedgerUnavailable
from gateway.ledger import postgres_ends, postgres_submits
from gateway.ledger.accounts import read_counts
from gateway.ledger.deliveries import Planned
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservations import Claim, RequestIdTaken, ReservationLost, admit
from gateway.ledger.schema import Stage, deliveries, jobs, reservations
from gateway.ledger.steps import Accept, Admit, Cancel, NotDone, Reserve, Steps
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.submit_decisions import Ask
from gateway.model.reasons import Reason
from tests.support.ledgers import NOON, assert_sound, make_profile, rows_of

LEASE: Final = NOON + 60
TTL: Final = NOON + 3600
PROFILE: Final = make_profile()
ACCOUNT, OWNER = "key:ci", "team"
GUARDED, LOCKED = ("guarded", OWNER), ("write", OWNER)


class Gate:
    """An engine whose transactions wait until they are let through, and end as they are told.

    `asked` is what came. `ends` says what becomes of each next transaction, in their order: it is done (None), or it
    is not, and this is why.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[tuple[str, str]] = []
        self.ends: list[NotDone | BaseException | None] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, work: Callable[[Connection], Any], *, durable: bool = False, in_turn_of: str = "") -> Any:
        del durable
        return await self._end("write", in_turn_of, lambda: self.engine.write(work, in_turn_of=in_turn_of))

    async def guarded(self, work: Callable[[Connection], Any], *, in_turn_of: str = "") -> Any:
        return await self._end("guarded", in_turn_of, lambda: self.engine.guarded(work, in_turn_of=in_turn_of))

    async def _end(self, how: str, owner: str, run: Callable[[], Awaitable[Any]]) -> Any:
        self.asked.append((how, owner))
        await self.open.wait()
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            raise end
        return await run() if end is None else end


class Desk:
    """Steps on a ledger behind a gate. Each of its methods is one step of the submit that has a name."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.gate = Gate(engine)
        part: Any = self.gate
        self.steps = Steps(Ledger(part))

    async def admit(
        self, name: str, account: str = ACCOUNT, now: float = NOON, ask: Ask | None = None, **limits: Any
    ) -> Any:
        return await self.steps.admit(Admit(claim(name, account), make_profile(**limits), now, now + 60, ask))

    async def reserve(self, name: str, pages: int = 3, **limits: Any) -> Any:
        return await self.steps.reserve(Reserve(claim(name), make_profile(**limits), Ask(pages, 2, ""), NOON, LEASE))

    async def accept(self, name: str, job: str | None = None, hook: Planned | None = None) -> None:
        new = None if job is None else NewJob(job, "default", "/api/v1/marker", None)
        await self.steps.accept(Accept(claim(name), new, hook, "me", NOON, TTL))

    async def cancel(self, name: str) -> int:
        return await self.steps.cancel(Cancel(claim(name), NOON))

    async def begin(self, first: Awaitable[Any], *others: Awaitable[Any]) -> list[asyncio.Future[Any]]:
        """Shuts the gate, and lets the first one be under way when the others come."""
        self.gate.open.clear()
        task = asyncio.ensure_future(first)
        await settled()
        tasks: list[asyncio.Future[Any]] = [task, *(asyncio.ensure_future(one) for one in others)]
        await settled()
        return tasks

    async def at_once(self, *doing: Awaitable[Any]) -> list[Any]:
        """What each returns or raises."""
        tasks = await self.begin(*doing)
        self.gate.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def stages(self) -> dict[str, Stage]:
        rows = await self.engine.read(lambda c: rows_of(c, reservations))
        return {row["id"]: Stage(row["stage"]) for row in rows}


def claim(name: str, account: str = ACCOUNT) -> Claim:
    return Claim(name, account, OWNER, "container")


async def settled() -> None:
    for _ in range(9):
        await asyncio.sleep(0)


@pytest.fixture
async def desk(engine: Engine) -> AsyncIterator[Desk]:
    yield Desk(engine)
    await engine.read(assert_sound)


# Together


async def test_what_comes_while_a_step_is_under_way_goes_together_in_its_order(desk: Desk) -> None:
    outcomes = await desk.at_once(*(desk.admit(f"r{number}") for number in range(5)))
    assert [outcome.after.concurrent for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert desk.gate.asked == [GUARDED, GUARDED]


@pytest.mark.parametrize(("count", "transactions"), [(65, 2), (66, 3)])
async def test_as_many_go_together_as_may_wait_for_one_account(desk: Desk, count: int, transactions: int) -> None:
    await desk.at_once(*(desk.admit(f"r{number}") for number in range(count)))
    assert len(desk.gate.asked) == transactions
    assert len(await desk.stages()) == count


async def test_of_those_that_go_together_each_is_decided_by_itself(desk: Desk) -> None:
    await desk.at_once(*(desk.admit(f"r{number}") for number in range(4)))
    doing = [desk.reserve(f"r{number}", pages, pages_per_day=10) for number, pages in enumerate((1, 6, 4, 3))]
    outcomes = await desk.at_once(*doing)
    assert [outcome.denial is None for outcome in outcomes] == [True, True, False, True]
    assert [outcome.after.day.pages for outcome in outcomes] == [1, 7, 7, 10]
    held = {name for name, stage in (await desk.stages()).items() if stage is Stage.RESERVED}
    assert held == {"r0", "r1", "r3"}


async def test_slots_with_pages_and_without_go_together(desk: Desk) -> None:
    asks = [None, Ask(4, 2, "fast"), Ask(7, 2, ""), None, Ask(6, 2, "fast")]
    doing = [desk.admit(f"r{n}", ask=ask, pages_per_day=10, requests_per_minute=60) for n, ask in enumerate(asks)]
    outcomes = await desk.at_once(*doing)
    assert [outcome.denial is None for outcome in outcomes] == [True, True, False, True, True]
    assert [outcome.has_spent_token for outcome in outcomes] == [True] * 5
    assert [outcome.after.day.pages for outcome in outcomes] == [0, 4, 4, 4, 10]
    assert await desk.stages() == {
        "r0": Stage.ADMITTED, "r1": Stage.RESERVED, "r3": Stage.ADMITTED, "r4": Stage.RESERVED,
    }  # fmt: skip
    (counts,) = await desk.at_once(desk.engine.read(lambda c: read_counts(c, ACCOUNT, NOON)))
    assert (counts.tat, counts.concurrent, counts.pages_in_flight) == (NOON + 5, 4, 10)
    assert counts.day == counts.month == Used(4, 10, 20)
    rows = await desk.engine.read(lambda c: rows_of(c, reservations))
    held = {row["id"]: (row["pages"], row["price"], row["mode"]) for row in rows}
    assert held == {"r0": (0, 0, ""), "r1": (4, 2, "fast"), "r3": (0, 0, ""), "r4": (6, 2, "fast")}


async def test_a_token_is_spent_also_where_no_pages_are_left_for_anybody(desk: Desk) -> None:
    (outcome,) = await desk.at_once(desk.admit("r0", ask=Ask(11, 2, ""), pages_per_day=10, requests_per_minute=60))
    assert outcome.denial.reason is Reason.BUDGET_EXHAUSTED
    (counts,) = await desk.at_once(desk.engine.read(lambda c: read_counts(c, ACCOUNT, NOON)))
    assert counts == AccountCounts(tat=NOON + 1)
    assert await desk.stages() == {}


async def test_pages_that_are_over_are_reclaimed_before_others_are_refused_theirs(desk: Desk) -> None:
    await desk.at_once(desk.admit("old", ask=Ask(8, 2, ""), pages_in_flight=10))
    (outcome,) = await desk.at_once(desk.admit("new", now=NOON + 61, ask=Ask(9, 2, ""), pages_in_flight=10))
    assert outcome.denial is None
    assert await desk.stages() == {"old": Stage.CHARGED, "new": Stage.RESERVED}


async def test_tokens_that_many_took_together_are_gone_for_the_next(desk: Desk) -> None:
    told = await desk.at_once(*(desk.admit(f"r{number}", requests_per_minute=4) for number in range(4)))
    assert [one.denial for one in told] == [None] * 4
    assert (await desk.admit("r4", requests_per_minute=4)).denial is not None


async def test_neither_another_account_nor_another_kind_of_step_is_waited_for(desk: Desk) -> None:
    await desk.admit("r0")
    desk.gate.asked.clear()
    tasks = await desk.begin(desk.admit("r1"), desk.admit("r2", "key:other"), desk.cancel("r0"))
    assert desk.gate.asked == [GUARDED] * 3
    desk.gate.open.set()
    await asyncio.gather(*tasks)
    assert sorted(await desk.stages()) == ["r1", "r2"]


async def test_a_step_whose_caller_has_left_before_its_turn_is_not_done(desk: Desk) -> None:
    tasks = await desk.begin(*(desk.admit(f"r{number}") for number in range(3)))
    tasks[1].cancel()
    desk.gate.open.set()
    await asyncio.wait(tasks)
    assert sorted(await desk.stages()) == ["r0", "r2"]


async def test_when_all_that_waited_have_left_the_ledger_is_not_asked(desk: Desk) -> None:
    tasks = await desk.begin(*(desk.admit(f"r{number}") for number in range(3)))
    for task in tasks:
        task.cancel()
    desk.gate.open.set()
    await asyncio.wait(tasks)
    await desk.admit("r3")
    assert desk.gate.asked == [GUARDED, GUARDED]
    assert sorted(await desk.stages()) == ["r0", "r3"]  # the first was under way


# When others change the account, and what is over


async def test_what_others_outrun_is_tried_thrice_and_then_done_under_the_accounts_lock(desk: Desk) -> None:
    desk.gate.ends = [NotDone.CHANGED] * 3
    assert (await desk.admit("r0")).denial is None
    assert desk.gate.asked == [GUARDED, GUARDED, GUARDED, LOCKED]
    assert await desk.stages() == {"r0": Stage.ADMITTED}


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_what_was_not_written_since_the_account_had_changed_is_not_told_as_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (postgres_submits, "admit"),
        (postgres_submits, "reserve"),
        (postgres_ends, "write_closings"),
    ):
        outrun = iter([False])
        writes = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *of, o=outrun, w=writes: next(o, True) and w(*of))
    await desk.admit("r0")
    await desk.reserve("r0")
    assert await desk.stages() == {"r0": Stage.RESERVED}
    assert await desk.cancel("r0") == 3
    assert await desk.stages() == {"r0": Stage.REFUNDED}
    assert desk.gate.asked == [GUARDED] * 6


async def test_what_was_overdue_is_reclaimed_before_it_is_tried_again(desk: Desk) -> None:
    await desk.engine.write(lambda c: admit(c, claim("dead"), PROFILE, NOON - 60, NOON))
    desk.gate.ends = [NotDone.OVERDUE]
    assert (await desk.admit("r0")).denial is None
    assert desk.gate.asked == [GUARDED, LOCKED, GUARDED]
    assert await desk.stages() == {"r0": Stage.ADMITTED}


@pytest.mark.parametrize(("later", "is_refused"), [(-1, True), (0, False)])
async def test_nobody_is_refused_for_what_is_over(desk: Desk, later: int, is_refused: bool) -> None:
    await desk.admit("dead")
    (_, outcome) = await desk.at_once(
        desk.admit("other", "key:other"), desk.admit("r0", now=LEASE + later, concurrent_requests=1)
    )
    assert (outcome.denial is not None) == is_refused


# One by one


async def test_of_those_that_do_not_fit_each_gets_what_becomes_of_itself(desk: Desk) -> None:
    for name in ("first", "a", "b"):
        await desk.admit(name)
        await desk.reserve(name)
    await desk.accept("first", "job")
    desk.gate.asked.clear()
    told = await desk.at_once(desk.accept("a", None), desk.accept("b", "job"), desk.accept("a", "job-a"))
    assert [type(one) for one in told] == [type(None), RequestIdTaken, type(None)]
    assert desk.gate.asked == [GUARDED, GUARDED, LOCKED, LOCKED]
    assert {row["request_id"] for row in await desk.engine.read(lambda c: rows_of(c, jobs))} == {"job", "job-a"}


async def test_one_that_is_lost_takes_no_other_along(desk: Desk) -> None:
    for name in ("r0", "r2"):
        await desk.admit(name)
    told = await desk.at_once(*(desk.reserve(f"r{number}") for number in range(3)))
    assert type(told[1]) is ReservationLost
    assert [told[number].denial for number in (0, 2)] == [None, None]
    assert await desk.stages() == {"r0": Stage.RESERVED, "r2": Stage.RESERVED}


@pytest.mark.parametrize("tries", [1, 4])
async def test_each_goes_alone_in_its_owners_turn_once_they_can_not_go_together(desk: Desk, tries: int) -> None:
    desk.gate.ends = [None, *[NotDone.CHANGED] * (tries - 1)]
    desk.gate.ends += [NotDone.ONE_BY_ONE if tries == 1 else NotDone.CHANGED]
    await desk.at_once(*(desk.admit(f"r{number}") for number in range(3)))
    together = [GUARDED] if tries == 1 else [GUARDED, GUARDED, GUARDED, LOCKED]
    assert desk.gate.asked == [GUARDED, *together, LOCKED, LOCKED]
    assert len(await desk.stages()) == 3


# Faults


async def test_what_may_have_been_done_is_not_done_again(desk: Desk) -> None:
    """Nobody knows whether a transaction without an answer was committed: to repeat it might charge twice."""
    desk.gate.ends = [None, LedgerUnavailable("as it was told")]
    told = await desk.at_once(*(desk.admit(f"r{number}") for number in range(3)))
    assert [type(one) for one in told[1:]] == [LedgerUnavailable, LedgerUnavailable]
    assert desk.gate.asked == [GUARDED, GUARDED]
    assert sorted(await desk.stages()) == ["r0"]


async def test_a_ledger_that_is_away_for_one_of_many_alone_is_away_for_that_one(desk: Desk) -> None:
    desk.gate.ends = [None, NotDone.ONE_BY_ONE, LedgerUnavailable("as it was told"), None]
    told = await desk.at_once(*(desk.admit(f"r{number}") for number in range(3)))
    assert type(told[1]) is LedgerUnavailable
    assert sorted(await desk.stages()) == ["r0", "r2"]


@pytest.mark.parametrize("fault", [RuntimeError("as it was told"), LedgerUnavailable("as it was told")])
async def test_after_any_fault_the_next_steps_go_on(desk: Desk, fault: Exception) -> None:
    desk.gate.ends = [fault]
    told = await desk.at_once(*(desk.admit(f"r{number}") for number in range(3)))
    assert told[0] is fault
    assert sorted(await desk.stages()) == ["r1", "r2"]
    await desk.admit("r3")
    assert sorted(await desk.stages()) == ["r1", "r2", "r3"]


async def test_who_waits_for_what_is_cancelled_is_cancelled(desk: Desk) -> None:
    desk.gate.ends = [asyncio.CancelledError()]
    told = await desk.at_once(*(desk.admit(f"r{number}") for number in range(3)))
    assert [type(one) for one in told] == [asyncio.CancelledError] * 3
    assert (await desk.admit("r3")).denial is None


# What the steps write


async def test_an_accepted_job_has_its_watcher_and_its_webhook_once(desk: Desk) -> None:
    await desk.admit("r0")
    await desk.reserve("r0")
    hook = Planned("hook", "container", "job", OWNER, "https://h.test/", "h.test:443", None)
    for _ in range(2):  # the answer of the first may be lost
        await desk.accept("r0", "job", hook)
    await desk.accept("r0", None)
    (job,) = await desk.engine.read(lambda c: rows_of(c, jobs))
    (delivery,) = await desk.engine.read(lambda c: rows_of(c, deliveries))
    (row,) = await desk.engine.read(lambda c: rows_of(c, reservations))
    assert (job["request_id"], job["owner"], job["watcher"], job["created_at"]) == ("job", OWNER, "me", int(NOON))
    assert (delivery["id"], delivery["request_id"]) == ("hook", "job")
    assert (row["stage"], row["request_id"], row["expires_at"]) == (Stage.ACCEPTED, "job", int(TTL))


async def test_a_lost_answer_leaves_no_job_and_no_webhook(desk: Desk) -> None:
    await desk.admit("r0")
    await desk.reserve("r0")
    await desk.accept("r0", None)
    assert await desk.engine.read(lambda c: [*rows_of(c, jobs), *rows_of(c, deliveries)]) == []
    assert await desk.stages() == {"r0": Stage.ACCEPTED}


@pytest.mark.parametrize("twice", [(), ("r1",)])
async def test_what_is_cancelled_together_is_given_back_once_each(desk: Desk, twice: tuple[str, ...]) -> None:
    for name, pages in (("r0", 3), ("r1", 4), ("r2", 5)):
        await desk.admit(name)
        await desk.reserve(name, pages)
    await desk.accept("r2", "job")
    told = await desk.at_once(*(desk.cancel(name) for name in ("r0", "r1", *twice, "r2", "nobody")))
    assert told == [3, 4, *(0 for _ in twice), 0, 0]
    assert await desk.stages() == {"r0": Stage.REFUNDED, "r1": Stage.REFUNDED, "r2": Stage.ACCEPTED}


async def test_pages_that_are_reserved_over_midnight_count_where_they_are_reserved(desk: Desk) -> None:
    await desk.steps.admit(Admit(claim("r0"), PROFILE, NOON, NOON + 90_000))
    ask = Ask(5, 1, "")
    outcome = await desk.steps.reserve(Reserve(claim("r0"), PROFILE, ask, NOON + 86_400, NOON + 90_000))
    assert outcome.after.day.pages == 5
    (row,) = await desk.engine.read(lambda c: rows_of(c, reservations))
    assert row["day"] == 20261124
