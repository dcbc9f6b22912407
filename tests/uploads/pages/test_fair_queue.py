import asyncio
from collections import Counter
from collections.abc import Container, Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.pages.count_history import Outlook
from gateway.uploads.pages.fair_queue import FairQueue


class Queue:
    """Who waits, who is at work, in the order of their turns."""

    def __init__(self, places: int, costs: Mapping[str, int] | None = None, dear: Container[str] = ()) -> None:
        cost = (costs or {}).get
        self.turns = FairQueue(places, lambda account, size: Outlook(account in dear, (cost(account, 0), size, 0)))
        self.dear: Counter[str] = Counter()
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def waits(self, account: str, times: int = 1, owner: str = "") -> None:
        loop = asyncio.get_running_loop()
        self.tasks += [loop.create_task(self.work(account, owner or account)) for _ in range(times)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def work(self, account: str, owner: str) -> None:
        self.dear[owner] += await self.turns.take(owner, account=account)
        self.served.append(account)

    async def ends(self, account: str) -> None:
        is_dear = self.dear[account] > 0
        self.dear[account] -= is_dear
        self.turns.give_back(account, is_dear=is_dear)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_account_alone_has_all_places() -> None:
    queue = Queue(2)
    await queue.waits("eve", 5)
    assert queue.served == ["eve", "eve"]
    await queue.ends("eve")
    assert queue.served == ["eve"] * 3
    for _ in range(4):
        await queue.ends("eve")
    assert queue.served == ["eve"] * 5


async def test_a_newcomer_is_next_however_many_another_has_waiting() -> None:
    queue = Queue(2)
    await queue.waits("eve", 400)
    await queue.waits("bob", 2)
    await queue.ends("eve")
    await queue.ends("eve")
    assert queue.served == ["eve", "eve", "bob", "eve"]
    await queue.ends("bob")
    assert queue.served[4:] == ["bob"]
    for task in queue.tasks:
        task.cancel()
    await asyncio.gather(*queue.tasks, return_exceptions=True)


async def test_accounts_whose_documents_were_cheap_come_first() -> None:
    queue = Queue(1, {"dear": 2, "less": 1, "cheap": 0})
    await queue.waits("first")
    for account in ("dear", "less", "cheap", "new"):
        await queue.waits(account, 2)
    for account in ("first", "cheap", "new", "cheap", "new", "less", "less", "dear"):
        assert queue.served[-1] == account
        await queue.ends(account)
    assert queue.served[-2:] == ["dear", "dear"]


async def test_owners_have_turns_and_of_each_its_accounts_in_turn() -> None:
    queue = Queue(1)
    await queue.waits("first")
    for account, times in (("a1", 3), ("a2", 2), ("a3", 1)):
        await queue.waits(account, times, "a")
    await queue.waits("b1", 3, "b")
    last = "first"
    for account in ("a1", "b1", "a2", "b1", "a3", "b1", "a1", "a2", "a1"):
        await queue.ends(last)
        assert queue.served[-1] == account
        last = account[0]


async def test_of_an_owner_the_account_whose_document_may_have_a_place_has_it() -> None:
    turns = FairQueue(2, lambda _, size: Outlook(size > 1, (0, 0, 0)))
    loop = asyncio.get_running_loop()
    dear = [loop.create_task(turns.take("eve", 2)) for _ in range(2)]
    batch = loop.create_task(turns.take("ann", 2, "batch"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    by_hand = loop.create_task(turns.take("ann", 1, "by-hand"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (dear[0].done(), batch.done(), by_hand.done()) == (True, False, True)
    turns.give_back("eve", is_dear=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (dear[1].done(), batch.done()) == (True, False)  # who has a place comes after who has none
    for task in (*dear, batch):
        task.cancel()
    await asyncio.gather(*dear, batch, return_exceptions=True)


async def test_what_is_dear_leaves_a_place_to_who_comes_next() -> None:
    """Twenty accounts with documents of seconds held both places, and a newcomer waited for half a minute."""
    names = [f"dear-{number}" for number in range(20)]
    queue = Queue(2, dear=names)
    for name in names:
        await queue.waits(name, 3)
    assert queue.served == ["dear-0"]
    await queue.waits("new", 3)
    assert queue.served == ["dear-0", "new"]
    await queue.ends("new")
    await queue.ends("new")
    assert queue.served == ["dear-0", "new", "new", "new"]
    await queue.ends("dear-0")
    await queue.ends("new")
    assert queue.served[4:] == ["dear-0"]
    await queue.ends("dear-0")
    assert queue.served[4:] == ["dear-0", "dear-1"]
    for task in queue.tasks:
        task.cancel()
    await asyncio.gather(*queue.tasks, return_exceptions=True)


async def test_what_is_said_of_the_first_document_of_each_account_decides() -> None:
    queue = Queue(1)
    turns = queue.turns
    loop = asyncio.get_running_loop()
    await queue.waits("first")
    large, small = (loop.create_task(turns.take(name, size)) for name, size in (("large", 9), ("small", 1)))
    await asyncio.sleep(0)
    await queue.ends("first")
    assert (small.done(), large.done()) == (True, False)
    turns.give_back("small")
    assert await large is False


async def test_a_single_place_is_for_all() -> None:
    queue = Queue(1, dear=["eve"])
    await queue.waits("eve", 2)
    await queue.ends("eve")
    assert queue.served == ["eve", "eve"]


async def test_a_wait_that_is_broken_off_takes_nothing() -> None:
    queue = Queue(1)
    await queue.waits("eve")
    await queue.waits("bob")
    await queue.waits("ann")
    queue.tasks[1].cancel()
    await queue.ends("eve")
    assert queue.served == ["eve", "ann"]


async def test_a_turn_that_comes_as_its_wait_is_broken_off_goes_to_the_next() -> None:
    queue = Queue(1)
    await queue.waits("eve")
    await queue.waits("bob")
    await queue.waits("ann")
    queue.turns.give_back("eve")  # bob has it, and does not know yet
    queue.tasks[1].cancel()
    await asyncio.gather(*queue.tasks[1:], return_exceptions=True)
    assert queue.served == ["eve", "ann"]
    await queue.ends("ann")
    await queue.waits("eve")
    assert queue.served == ["eve", "ann", "eve"]


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), st.integers(1, 3))
def test_nobody_is_served_twice_before_another_who_waits_is_served_once(accounts: list[str], places: int) -> None:
    async def play() -> list[str]:
        queue = Queue(places)
        await queue.waits("z", places)
        for account in accounts:
            await queue.waits(account)
        for _ in range(places):
            await queue.ends("z")
        at = places
        while at < len(queue.served):
            await queue.ends(queue.served[at])
            at += 1
        await asyncio.gather(*queue.tasks)
        return queue.served[places:]

    served = asyncio.run(play())
    assert sorted(served) == sorted(accounts)
    if places == 1:
        for account in set(accounts):
            turns = [number for number, name in enumerate(served) if name == account]
            for first, second in pairwise(turns):
                others = {name for name in served[second:] if name != account}
                assert others <= set(served[first + 1 : second])


@pytest.mark.parametrize("places", [1, 3])
async def test_places_that_nobody_wants_are_kept(places: int) -> None:
    queue = Queue(places)
    await queue.waits("eve", places)
    for _ in range(places):
        await queue.ends("eve")
    await queue.waits("bob", places + 1)
    assert queue.served == ["eve"] * places + ["bob"] * places
    queue.tasks[-1].cancel()


@pytest.mark.parametrize("owners", [500, 10, 1])
async def test_of_many_that_wait_few_are_looked_at_for_each_turn(owners: int) -> None:
    """All were looked at: the documents of 3000 owners took the loop ten seconds, and so did 3000 keys of one."""
    looks = 0

    def outlook(*_: object) -> Outlook:
        nonlocal looks
        looks += 1
        return Outlook()

    turns, served = FairQueue(1, outlook), list[int]()

    async def work(number: int) -> None:
        await turns.take(f"key:{number % owners}", account=str(number))
        served.append(number)
        turns.give_back(f"key:{number % owners}")

    await turns.take("key:first")
    tasks = [asyncio.ensure_future(work(number)) for number in range(500)]
    await asyncio.sleep(0)
    turns.give_back("key:first")
    await asyncio.gather(*tasks)
    assert served == [*range(500)]
    assert looks < 500 * 25


async def test_a_newcomer_is_looked_at_alone() -> None:
    """With a slot free that no dear document may have, each newcomer had all who waited reckoned anew."""
    looked = list[str]()

    def outlook(account: str, _: int) -> Outlook:
        looked.append(account)
        return Outlook(account.startswith("dear"), (0, 0, 0))

    turns = FairQueue(2, outlook)
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(turns.take(f"dear-{number}")) for number in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting].count(True) == 1
    looked.clear()
    again = loop.create_task(turns.take("dear-50"))
    newcomer = loop.create_task(turns.take("quick"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (newcomer.done(), again.done(), looked) == (True, False, ["quick"])
    turns.give_back("dear-0", is_dear=True)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting].count(True) == 2
    for task in (*waiting, again):
        task.cancel()
    await asyncio.gather(*waiting, again, return_exceptions=True)


async def test_behind_a_dear_one_that_leaves_the_next_has_what_is_free() -> None:
    turns = FairQueue(2, lambda _, size: Outlook(size > 1, (0, 0, 0)))
    loop = asyncio.get_running_loop()
    dear, other, cheap = (loop.create_task(turns.take("a", size)) for size in (2, 2, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (dear.done(), other.done(), cheap.done()) == (True, False, False)
    other.cancel()
    await asyncio.wait([other])
    await asyncio.wait_for(cheap, 5)
    turns.give_back("a", is_dear=True)
    turns.give_back("a")
