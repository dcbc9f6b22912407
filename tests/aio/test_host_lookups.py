"""Hosts are looked up on threads of our own: one look-up a host, a bound in all, and few addresses of each."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest

from gateway.aio.bounded_connector import BoundedConnector, make_session
from gateway.aio.host_addresses import HostAddress
from gateway.aio.host_lookups import MOST_ADDRESSES, HostLookups
from tests.support.addrlists import AddressList
from tests.support.iteration import iteration_now
from tests.support.waiting import eventually

FOUND = (HostAddress(socket.AF_INET, "127.0.0.1"),)


class Names:
    """A system that answers for all hosts but silent ones, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()
        self.go = threading.Event()

    def __call__(self, host: str) -> tuple[HostAddress, ...]:
        self.asked.append(host)
        self.threads.add(threading.get_ident())
        if host.startswith("silent"):
            self.go.wait(30)
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return FOUND


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.go.set()


async def test_all_who_want_a_host_share_one_look_up(names: Names) -> None:
    lookups = HostLookups(names)
    waiting = [asyncio.ensure_future(lookups("silent")) for _ in range(50)]
    await asyncio.sleep(0.05)
    assert repr(lookups) == "<HostLookups running=1>"
    names.go.set()
    assert await asyncio.gather(*waiting) == [FOUND] * 50
    assert names.asked == ["silent"]
    assert threading.get_ident() not in names.threads
    await lookups("silent")  # a container may have moved
    assert names.asked == ["silent", "silent"]
    await asyncio.sleep(0)
    assert repr(lookups) == "<HostLookups running=0>"


async def test_all_who_want_a_host_go_on_a_few_at_a_time(names: Names) -> None:
    """Each then connects: a thousand in one iteration held the loop for 40 ms."""
    lookups, gone_on = HostLookups(names), list[int]()

    async def find(number: int) -> None:
        await lookups("silent")
        gone_on.append(number)

    waiting = [asyncio.ensure_future(find(number)) for number in range(200)]
    await asyncio.sleep(0)
    names.go.set()
    counts = [0]
    async with asyncio.timeout(10):
        while len(gone_on) < 200:
            await asyncio.sleep(0)
            counts.append(len(gone_on))
    assert max(after - before for before, after in pairwise(counts)) == 16
    await asyncio.gather(*waiting)
    assert names.asked == ["silent"]


async def test_who_gives_up_a_silent_host_begins_no_other_look_up(names: Names) -> None:
    lookups = HostLookups(names, 2)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lookups("silent")
    assert names.asked == ["silent"]
    assert await lookups("other") == FOUND
    names.go.set()
    assert await lookups("silent") == FOUND


async def test_look_ups_without_a_thread_wait_for_one(names: Names) -> None:
    lookups = HostLookups(names, 2)
    waiting = [asyncio.ensure_future(lookups(host)) for host in ("silent1", "silent2", "next", "last")]
    await asyncio.sleep(0.05)
    assert sorted(names.asked) == ["silent1", "silent2"]
    names.go.set()
    assert await asyncio.gather(*waiting) == [FOUND] * 4
    assert sorted(names.asked[2:]) == ["last", "next"]


async def test_only_so_many_hosts_are_looked_up_at_once(names: Names) -> None:
    lookups = HostLookups(names, 1)
    waiting = [asyncio.ensure_future(lookups(f"silent{n}")) for n in range(256)]
    await asyncio.sleep(0.05)
    with pytest.raises(socket.gaierror):
        await lookups("one more")
    names.go.set()
    assert await asyncio.gather(*waiting) == [FOUND] * 256


async def test_each_gets_an_error_of_his_own(names: Names) -> None:
    lookups = HostLookups(names)
    one, two = await asyncio.gather(lookups("unknown"), lookups("unknown"), return_exceptions=True)
    assert isinstance(one, socket.gaierror)
    assert isinstance(two, socket.gaierror)
    assert one is not two
    assert one.errno == two.errno == socket.EAI_NONAME
    with pytest.raises(UnicodeError):
        await HostLookups()("a" * 64)


async def test_without_a_thread_a_host_can_not_be_looked_up(names: Names) -> None:
    lookups = HostLookups(names)
    with patch("gateway.aio.daemon_threads.Worker", side_effect=RuntimeError), pytest.raises(socket.gaierror):
        await lookups("host")
    assert await lookups("host") == FOUND


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_look_up(names: Names, host: str) -> None:
    assert [found.address for found in await HostLookups(names)(host)] == [host]
    assert names.asked == []


async def test_of_thousands_of_addresses_a_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the host's to choose, and aiohttp raced them all: 0.3 s of the loop for a connection."""
    tried: list[Any] = []

    async def connect(_: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    listed = AddressList(*(f"127.0.{n // 250}.{n % 250}" for n in range(4000)))
    monkeypatch.setattr("gateway.aio.host_lookups.find_addresses", listed.find)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    async with make_session(BoundedConnector(iteration_now(), None, force_close=True)) as session:
        with pytest.raises(OSError, match="Cannot connect"):
            await session.get("http://many.test:9/")
    assert {address[0] for address in tried} == {f"127.0.0.{n}" for n in range(MOST_ADDRESSES)}


async def test_threads_are_kept_for_the_next_look_ups(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits until a thread that it starts has run: for 20 ms and more, beside others that want the lock."""
    starts, start = list[threading.Thread](), threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        starts.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    lookups = HostLookups(names)
    for turn in range(1, 4):
        names.go.clear()
        waiting = [asyncio.ensure_future(lookups(f"silent{n}")) for n in range(4)]
        await eventually(lambda turn=turn: len(names.asked) == 4 * turn)  # type: ignore[misc]
        names.go.set()
        await asyncio.gather(*waiting)
    assert len(starts) == 4
