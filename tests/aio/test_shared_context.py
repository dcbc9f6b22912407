"""The context that all share follows the system's CAs: replaced, missing, or on a mount that hangs."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.aio.shared_context import FRESH, OLD, PAUSE, NoContext, SharedContext


class System:
    """Its CAs: a clock, and contexts that are made as the test says."""

    def __init__(self, ca: Path) -> None:
        self.now = 1000.0
        self.made: list[ssl.SSLContext] = []
        self.threads: list[threading.Thread] = []
        self.has_cas = True
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self._ca = ca

    def clock(self) -> float:
        return self.now

    def make(self) -> ssl.SSLContext:
        self.threads.append(threading.current_thread())
        self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        if self.has_cas:
            self.made[-1].load_verify_locations(self._ca)
        return self.made[-1]

    async def until_made(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.made) < count:  # noqa: ASYNC110 -- a thread makes it
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # until the loop has taken what the thread made


@pytest.fixture
def system(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    system = System(certificates / "ca.pem")
    monkeypatch.setattr("gateway.aio.shared_context.bounded_context", system.make)
    yield system
    system.go.set()


async def test_an_old_one_is_made_anew_and_serves_meanwhile(system: System) -> None:
    shared = SharedContext(system.clock)
    first = await shared.get()
    system.now += FRESH - 1
    assert await shared.get() is first
    system.now += 1
    system.go.clear()
    assert [await shared.get() for _ in range(3)] == [first] * 3
    system.go.set()
    await system.until_made(2)
    assert await shared.get() is system.made[1]
    assert len(system.threads) == 2


async def test_who_asks_for_a_very_old_one_waits_for_a_new_one(system: System) -> None:
    """Else the first webhook of a day would be handed on by the CAs of the day before."""
    shared = SharedContext(system.clock)
    first = await shared.get()
    system.now += OLD
    assert await shared.get() is not first


async def test_one_without_cas_is_made_anew(system: System) -> None:
    """Python does not fail where the file is missing: it was kept, and trusted nobody until a restart."""
    shared = SharedContext(system.clock)
    system.has_cas = False
    first = await shared.get()
    assert await shared.get() is first  # not with each request
    system.has_cas = True
    system.now += PAUSE
    assert await shared.get() is system.made[1]
    system.now += PAUSE
    assert await shared.get() is system.made[1]


async def test_cas_that_are_gone_for_a_moment_are_kept(system: System) -> None:
    """Else a file that is replaced just when it is read would shut out all servers."""
    shared = SharedContext(system.clock)
    first = await shared.get()
    system.has_cas = False
    system.now += FRESH
    await shared.get()
    await system.until_made(2)
    assert await shared.get() is first
    system.now += OLD - FRESH
    assert await shared.get() is system.made[2]


async def test_one_that_refused_a_certificate_is_made_anew(system: System) -> None:
    shared = SharedContext(system.clock)
    first = await shared.get()
    shared.doubt(first)
    await shared.get()
    assert len(system.threads) == 1  # who shows a bad certificate to each request does not have them read each time
    system.now += PAUSE
    assert await shared.get() is first
    await system.until_made(2)
    second = await shared.get()
    assert second is system.made[1]
    system.now += PAUSE
    shared.doubt(first)  # of a connection that began before
    assert await shared.get() is second
    assert len(system.threads) == 2
    shared.doubt(second)
    await system.until_made(3)


async def test_while_the_files_hang_the_last_one_serves_on(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedContext(system.clock)
    first = await shared.get()
    monkeypatch.setattr("gateway.aio.shared_context.PATIENCE", 0.05)  # a busy machine may take as long for the first
    system.now += OLD
    system.go.clear()
    with capture_logs() as events:
        assert await shared.get() is first
        for _ in range(10):
            system.now += PAUSE
            assert await shared.get() is first
            await asyncio.sleep(0.06)
    assert [(event["event"], event["held"]) for event in events] == [("system's CAs could not be read", True)]
    assert len(system.threads) == 5  # of which four hang: no more are begun
    assert all(thread.daemon for thread in system.threads)  # else the process could not end
    system.go.set()
    await system.until_made(5)
    system.now += PAUSE
    await shared.get()
    await system.until_made(6)
    assert await shared.get() is system.made[5]


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("can't start new thread")], ids=["file", "thread"])
async def test_where_none_was_ever_made_there_is_none(system: System, error: Exception) -> None:
    shared = SharedContext(system.clock)
    system.error = error
    for _ in range(3):
        with pytest.raises(NoContext):
            await shared.get()
    assert len(system.threads) == 1
    system.error = None
    system.now += PAUSE
    assert await shared.get() is system.made[0]


async def test_all_share_one_and_go_on_a_few_at_a_time(system: System) -> None:
    shared, got = SharedContext(system.clock), list[ssl.SSLContext]()

    async def ask() -> None:
        got.append(await shared.get())

    system.go.clear()
    asking = [asyncio.ensure_future(ask()) for _ in range(100)]
    await asyncio.sleep(0)
    asking.pop().cancel()
    system.go.set()
    counts = [0]
    async with asyncio.timeout(10):
        while len(got) < 99:
            await asyncio.sleep(0)
            counts.append(len(got))
    await asyncio.gather(*asking)
    assert max(after - before for before, after in pairwise(counts)) == 16
    assert set(got) == {system.made[0]}
