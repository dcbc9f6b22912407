"""How long one who has little to count waits beside many whose documents take long, by a clock of its own."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import pytest

from gateway.uploads.pages.count_history import CountHistory
from gateway.uploads.pages.fair_queue import FairQueue

QUIET = "quiet"


class Document(NamedTuple):
    size: int
    seconds: float


SHORT = Document(1500, 0.001)
SMALL_AND_DEAR = Document(7000, 0.24)  # a table of a million entries
PADDED = Document(9_500_000, 2.4)
JUST_BELOW = Document(7000, 0.19)  # never dear


class Counting:
    """A few slots, each document at work for its seconds; what happens at one moment is settled before the next."""

    def __init__(self, slots: int = 2) -> None:
        self.now = 0.0
        self.history = CountHistory()
        self.turns = FairQueue(slots, lambda account, size: self.history.outlook(account, size, self.now))
        self.coming: list[tuple[float, int, Callable[[], None]]] = []
        self.number = count()
        self.tasks: set[asyncio.Task[None]] = set()
        self.waits: list[float] = []

    def at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.coming, (when, next(self.number), happens))

    def asks(self, account: str, document: Document, then: Callable[[], None] = lambda: None) -> None:
        task = asyncio.get_running_loop().create_task(self.work(account, document, then))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def work(self, account: str, document: Document, then: Callable[[], None]) -> None:
        came = self.now
        is_dear = await self.turns.take(account, document.size)
        if account == QUIET:
            self.waits.append(self.now - came)

        def end() -> None:
            self.history.add(account, document.seconds, self.now, document.size)
            self.turns.give_back(account, is_dear=is_dear)
            then()

        self.at(self.now + document.seconds, end)

    def sends_on_and_on(self, account: str, *documents: Document) -> None:
        number = count()

        def another() -> None:
            self.asks(account, documents[next(number) % len(documents)], another)

        another()

    async def until(self, end: float) -> None:
        while self.coming and self.coming[0][0] <= end:
            self.now, _, happens = heapq.heappop(self.coming)
            happens()
            await settled()
        self.now = end

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("others", "documents"),
    [
        (20, [SMALL_AND_DEAR]),
        (60, [SMALL_AND_DEAR]),  # what each has cost is forgotten before its next turn
        (20, [JUST_BELOW]),
        (60, [JUST_BELOW]),
        (2, [PADDED]),
        (36, [PADDED]),
        (4, [SHORT] * 9 + [PADDED]),  # short ones wash nothing away
        (20, [SHORT] * 9 + [SMALL_AND_DEAR]),
    ],
)
@pytest.mark.parametrize("is_new", [False, True])
async def test_a_quiet_account_waits_for_one_running_count_at_the_most(
    others: int, documents: list[Document], is_new: bool
) -> None:
    """It waited for all others: for four seconds beside twenty, for half a minute beside thirty-six."""
    counting = Counting()
    if not is_new:
        counting.asks(QUIET, SHORT)
        await settled()
        await counting.until(1.0)
    for number in range(others):
        for _ in range(3):
            counting.sends_on_and_on(f"dear-{number}", *documents)
    await settled()
    start = 100.0 if is_new else 1.1
    for second in range(100):
        counting.at(start + second, lambda: counting.asks(QUIET, SHORT))
    await counting.until(start + 100)
    await counting.close()
    assert len(counting.waits) >= 100
    assert max(counting.waits) <= max(document.seconds for document in documents)


async def test_once_others_are_known_as_dear_it_waits_for_nothing() -> None:
    counting = Counting()
    for number in range(36):
        counting.sends_on_and_on(f"dear-{number}", PADDED)
    await settled()
    await counting.until(300.0)
    for second in range(100):
        counting.at(300.0 + second, lambda: counting.asks(QUIET, SHORT))
    await counting.until(400.0)
    await counting.close()
    assert counting.waits == [0.0] * 100


async def test_newcomers_with_small_documents_do_not_wait_behind_those_with_large_ones() -> None:
    counting = Counting()
    for number in range(30):
        counting.asks(f"large-{number}", PADDED)
    await settled()
    counting.asks(QUIET, SHORT)
    await settled()
    assert counting.waits == [0.0]
    await counting.close()


async def test_where_there_is_one_slot_small_documents_have_it_next() -> None:
    counting = Counting(slots=1)
    for number in range(30):
        counting.asks(f"large-{number}", PADDED)
    counting.asks(QUIET, SHORT)
    await settled()
    await counting.until(10.0)
    await counting.close()
    assert counting.waits == [PADDED.seconds]


async def test_one_account_whose_documents_are_short_has_both_slots() -> None:
    counting = Counting()
    ended: list[float] = []
    for _ in range(320):
        counting.asks("eve", Document(2_000_000, 0.05), lambda: ended.append(counting.now))
    await settled()
    await counting.until(60.0)
    assert len(ended) == 320
    assert ended[-1] == pytest.approx(0.05 + 319 * 0.05 / 2, abs=0.06)  # the first one is large, and alone
