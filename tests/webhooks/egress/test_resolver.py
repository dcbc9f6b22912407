"""Look-ups with a deadline, a few at a time."""

import asyncio
import socket
import sys
import threading

import pytest

from gateway.aio.drive import Drive
from gateway.webhooks.egress.resolver import LookupLate, NoAnswer, NotFound, Resolver, Saturated
from tests.support.addrlists import AddressList
from tests.support.pure import ip
from tests.support.waiting import eventually


class Slow:
    """A look-up that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        del port
        self.asked.append(host)
        self.go.wait(10.0)
        return ["10.0.0.1"]


async def test_all_addresses_are_told_once() -> None:
    resolve = Resolver(lambda _, __: ["10.0.0.1", "fd00::1", "10.0.0.1"])
    assert await resolve("key:ci", "a.example", 443) == (ip("10.0.0.1"), ip("fd00::1"))


async def test_the_system_knows_this_machine() -> None:
    assert ip("127.0.0.1") in await Resolver()("key:ci", "localhost", 443)


def fails(error: Exception) -> list[str]:
    raise error


@pytest.mark.parametrize(
    "answer",
    [
        lambda: fails(socket.gaierror(socket.EAI_NONAME, "canary")),
        lambda: fails(UnicodeError("canary")),
        lambda: fails(OSError(socket.EAI_AGAIN, "of another kind")),
        list,
        lambda: ["no address"],
        lambda: [f"10.0.0.{number}" for number in range(33)],
    ],
)
async def test_a_host_without_usable_addresses_is_not_found(answer: object) -> None:
    assert callable(answer)
    with pytest.raises(NotFound, match="no address that is known here"):
        await Resolver(lambda _, __: answer())("key:ci", "a.example", 443)


async def test_a_name_that_nobody_could_ask_for_is_not_found() -> None:
    with pytest.raises(NotFound):
        await Resolver()("key:ci", "a" * 64 + ".invalid", 443)


async def test_name_servers_that_are_away_do_not_say_that_there_is_none() -> None:
    with pytest.raises(NoAnswer, match="just now"):
        await Resolver(lambda _, __: fails(socket.gaierror(socket.EAI_AGAIN, "canary")))("key:ci", "a.example", 443)


async def test_who_names_slow_hosts_leaves_the_look_ups_of_others_alone() -> None:
    slow = Slow()
    resolve = Resolver(lambda host, port: ["10.0.0.2"] if host == "quick" else slow(host, port), deadline=1.0)
    loop = asyncio.get_running_loop()
    named = [loop.create_task(resolve("key:evil", f"a{number}", 443)) for number in range(16)]
    kinds = [type(error) for error in await asyncio.gather(*named, return_exceptions=True)]
    assert (kinds.count(LookupLate), kinds.count(Saturated)) == (4, 12)
    with pytest.raises(Saturated):
        await resolve("key:evil", "quick", 443)
    assert await resolve("key:good", "quick", 443) == (ip("10.0.0.2"),)
    slow.go.set()
    await eventually(lambda: repr(resolve) == "<Resolver running=0 waiting=0 owners=0>")
    assert await resolve("key:evil", "quick", 443) == (ip("10.0.0.2"),)


async def test_who_has_no_room_left_keeps_no_other_waiting_for_what_it_asked_for_first() -> None:
    """Any account could keep a host from all others, with four names whose servers never answer."""
    slow = Slow()
    resolve = Resolver(lambda host, port: ["10.0.0.2"] if host == "shared" else slow(host, port))
    loop = asyncio.get_running_loop()
    hosts = [*(f"slow{number}" for number in range(4)), "shared"]
    tasks = [loop.create_task(resolve("key:evil", host, 443)) for host in hosts]
    await eventually(lambda: "running=4 waiting=1" in repr(resolve))
    assert await asyncio.wait_for(resolve("key:good", "shared", 443), 2.0) == (ip("10.0.0.2"),)
    assert await tasks[-1] == (ip("10.0.0.2"),)
    slow.go.set()
    await asyncio.gather(*tasks)
    assert repr(resolve) == "<Resolver running=0 waiting=0 owners=0>"


async def test_a_look_up_that_two_wait_for_begins_when_either_has_room() -> None:
    evil, good = Slow(), Slow()
    resolve = Resolver(lambda host, port: (evil if host.startswith("evil") else good)(host, port), most=4)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve(f"key:{host[:4]}", host, 443)) for host in ("evil", "good")]
    await eventually(lambda: bool(evil.asked and good.asked))
    tasks += [loop.create_task(resolve(owner, "both", 443)) for owner in ("key:evil", "key:good")]
    await eventually(lambda: "running=2 waiting=1" in repr(resolve))
    good.go.set()
    assert await asyncio.gather(*tasks[1:]) == [(ip("10.0.0.1"),)] * 3
    assert not tasks[0].done()
    evil.go.set()
    await tasks[0]


async def test_an_owner_that_waits_no_more_leaves_a_look_up_to_the_others() -> None:
    slow = Slow()
    resolve = Resolver(slow, most=4, deadline=1.0)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve(owner, owner, 443)) for owner in ("key:a", "key:b")]
    await eventually(lambda: len(slow.asked) == 2)
    tasks.append(loop.create_task(resolve("key:a", "both", 443)))
    await asyncio.sleep(0.5)
    tasks.append(loop.create_task(resolve("key:b", "both", 443)))
    kinds = [type(error) for error in await asyncio.gather(*tasks[:3], return_exceptions=True)]
    assert kinds == [LookupLate, LookupLate, Saturated]
    slow.go.set()
    assert await tasks[3] == (ip("10.0.0.1"),)


async def test_so_many_wait_of_all_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_ALL_WAITING", 2)
    slow = Slow()
    resolve = Resolver(slow, most=8)
    loop = asyncio.get_running_loop()
    places = [("key:a", "a1"), ("key:a", "a2"), ("key:a", "a3"), ("key:b", "b1"), ("key:b", "b2"), ("key:b", "b3")]
    tasks = [loop.create_task(resolve(owner, host, 443)) for owner, host in places]
    await eventually(lambda: "running=4 waiting=2" in repr(resolve))
    with pytest.raises(Saturated):
        await resolve("key:b", "b4", 443)
    tasks.append(loop.create_task(resolve("key:c", "c1", 443)))  # which need not wait
    await eventually(lambda: "c1" in slow.asked)
    slow.go.set()
    assert await asyncio.gather(*tasks) == [(ip("10.0.0.1"),)] * 7


async def test_owners_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_WAITING", 0)
    slow = Slow()
    resolve = Resolver(slow, most=2)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve(owner, owner, 443)) for owner in ("a", "b")]
    await eventually(lambda: len(slow.asked) == 2)
    with pytest.raises(Saturated):
        await resolve("c", "c", 443)
    slow.go.set()
    await asyncio.gather(*tasks)


async def test_a_slow_one_is_given_up_and_ends_in_peace() -> None:
    slow = Slow()
    resolve = Resolver(slow, deadline=0.05)
    with pytest.raises(LookupLate, match="too long"):
        await resolve("key:ci", "a.example", 443)
    slow.go.set()
    await eventually(lambda: repr(resolve) == "<Resolver running=0 waiting=0 owners=0>")
    assert await resolve("key:ci", "a.example", 443) == (ip("10.0.0.1"),)


async def test_who_asks_for_one_host_shares_its_look_up_and_there_are_so_many_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_WAITING", 0)
    slow = Slow()
    resolve = Resolver(slow, most=8)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve("key:ci", host, 443)) for host in ("a", "b", "a", "b")]
    await eventually(lambda: len(slow.asked) == 2)
    with pytest.raises(Saturated, match="too many"):
        await resolve("key:ci", "c", 443)
    slow.go.set()
    assert await asyncio.gather(*tasks) == [(ip("10.0.0.1"),)] * 4
    assert sorted(slow.asked) == ["a", "b"]


async def test_it_can_be_awaited_in_a_drive() -> None:
    found: list[object] = []
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        found.append(await Resolver(lambda _, __: ["10.0.0.1"])("key:ci", "a.example", 443))

    Drive(ask(), ended.set_result).step()
    assert await ended is None
    assert found == [(ip("10.0.0.1"),)]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    slow = Slow()
    resolve = Resolver(slow)
    loop = asyncio.get_running_loop()
    one, other = loop.create_task(resolve("key:ci", "a", 443)), loop.create_task(resolve("key:ci", "a", 443))
    await eventually(lambda: bool(slow.asked))
    one.cancel()
    slow.go.set()
    assert await other == (ip("10.0.0.1"),)


def test_a_loop_that_has_ended_is_told_nothing() -> None:
    slow, threads = Slow(), list[threading.Thread]()

    def look_up(host: str, port: int) -> list[str]:
        threads.append(threading.current_thread())
        return slow(host, port)

    resolve = Resolver(look_up, deadline=0.01)

    async def ask() -> None:
        with pytest.raises(LookupLate):
            await resolve("key:ci", "a", 443)
        await eventually(lambda: bool(threads))

    asyncio.run(ask())
    (thread,) = threads
    assert thread.daemon
    slow.go.set()
    thread.join(10.0)
    assert not thread.is_alive()


async def test_who_names_many_hosts_at_once_waits_for_a_thread_in_turn() -> None:
    """The fifth host of an owner was a 503 at once, though each look-up takes milliseconds."""
    most = 0
    lock = threading.Lock()
    running: list[str] = []
    order: list[str] = []

    def quick(host: str, port: int) -> list[str]:
        del port
        nonlocal most
        with lock:
            running.append(host)
            order.append(host)
            most = max(most, len(running))
        threading.Event().wait(0.01)
        with lock:
            running.remove(host)
        return ["10.0.0.1"]

    resolve = Resolver(quick)
    hosts = [f"h{number:02}" for number in range(30)]
    found = await asyncio.gather(*(resolve("key:ci", host, 443) for host in [*hosts, *hosts]))
    assert found == [(ip("10.0.0.1"),)] * 60
    assert (most, sorted(order)) == (4, hosts)
    assert repr(resolve) == "<Resolver running=0 waiting=0 owners=0>"


async def test_others_wait_for_one_look_up_to_end_however_many_owners_of_slow_names_wait() -> None:
    """They began in the order in which they were asked for: four owners' slow names were all before another's."""
    lets = {f"slow{number}": threading.Event() for number in range(12)}
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:
        del port
        asked.append(host)
        lets[host].wait(10.0) if host in lets else None
        return ["10.0.0.1"]

    resolve = Resolver(look_up, most=4)  # one of each owner
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve(f"key:{number % 4}", host, 443)) for number, host in enumerate(lets)]
    await eventually(lambda: len(asked) == 4)
    good = loop.create_task(resolve("key:good", "good", 443))
    await asyncio.sleep(0)
    lets["slow0"].set()
    assert await asyncio.wait_for(good, 2.0) == (ip("10.0.0.1"),)
    assert asked.index("good") == 4
    for let in lets.values():
        let.set()
    await asyncio.gather(*tasks)


async def test_of_more_owners_than_there_are_threads_the_one_served_longest_ago_is_next() -> None:
    slow = Slow()
    resolve = Resolver(slow, most=1)
    loop = asyncio.get_running_loop()
    places = [("key:a", "a1"), ("key:a", "a2"), ("key:b", "b1"), ("key:b", "b2"), ("key:c", "c1")]
    tasks = [loop.create_task(resolve(owner, host, 443)) for owner, host in places]
    await eventually(lambda: "running=1 waiting=4" in repr(resolve))
    slow.go.set()
    await asyncio.gather(*tasks)
    assert slow.asked == ["a1", "b1", "c1", "a2", "b2"]


async def test_owners_of_slow_names_leave_a_thread_to_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.slow_owners.LONG", 0.05)
    slow = Slow()
    resolve = Resolver(lambda host, port: ["10.0.0.2"] if host == "good" else slow(host, port), most=4, deadline=0.1)
    loop = asyncio.get_running_loop()
    for turn in range(2):
        tasks = [loop.create_task(resolve(f"key:{number}", f"slow{number}", 443)) for number in range(4)]
        kinds = {type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)}
        assert kinds == ({LookupLate} if turn == 0 else {LookupLate, Saturated})
        if turn == 0:
            slow.go.set()
            await eventually(lambda: "running=0" in repr(resolve))
            slow.go.clear()
    assert await resolve("key:good", "good", 443) == (ip("10.0.0.2"),)
    assert "running=3" in repr(resolve)
    slow.go.set()
    await eventually(lambda: "running=0" in repr(resolve))


async def test_one_of_an_owner_may_wait_where_others_have_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_ALL_WAITING", 2)
    slow = Slow()
    resolve = Resolver(slow, most=1)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve("key:a", host, 443)) for host in ("a1", "a2", "a3")]
    await eventually(lambda: "running=1 waiting=2" in repr(resolve))
    tasks.append(loop.create_task(resolve("key:b", "b1", 443)))
    await eventually(lambda: "waiting=3" in repr(resolve))
    with pytest.raises(Saturated):
        await resolve("key:b", "b2", 443)
    slow.go.set()
    await asyncio.gather(*tasks)


async def test_so_many_wait_and_none_for_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_WAITING", 3)
    slow = Slow()
    resolve = Resolver(slow, most=4, deadline=0.3)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(resolve("key:ci", host, 443)) for host in "abcd"]
    await eventually(lambda: "waiting=3" in repr(resolve))
    with pytest.raises(Saturated):  # at once
        await asyncio.wait_for(resolve("key:ci", "e", 443), 0.1)
    tasks.append(loop.create_task(resolve("key:ci", "b", 443)))  # which is asked for already
    tasks[2].cancel()
    kinds = [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)]
    assert kinds == [LookupLate, Saturated, asyncio.CancelledError, Saturated, Saturated]
    slow.go.set()
    await eventually(lambda: repr(resolve) == "<Resolver running=0 waiting=0 owners=0>")
    assert slow.asked == ["a"]  # nobody waits for the others any more


async def test_look_ups_that_end_together_do_not_each_go_through_all_that_wait() -> None:
    """16 of them held all requests for 50 ms, where 1,020 hosts waited."""
    slow = Slow()
    resolve = Resolver(slow)
    loop = asyncio.get_running_loop()
    first = [loop.create_task(resolve(f"key:{n % 4}", f"first{n}", 443)) for n in range(16)]
    await eventually(lambda: len(slow.asked) == 16)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        rest = [loop.create_task(resolve(f"key:{n // 50}", f"h{n}", 443)) for n in range(1000)]
        await asyncio.sleep(0)
    finally:
        sys.setprofile(before)
    assert repr(resolve) == "<Resolver running=16 waiting=1000 owners=4>"
    assert calls < 1_000_000
    slow.go.set()
    assert await asyncio.gather(*first, *rest) == [(ip("10.0.0.1"),)] * 1016
    assert repr(resolve) == "<Resolver running=0 waiting=0 owners=0>"
    again = await asyncio.gather(*(resolve(f"key:{n // 50}", f"h{n}", 443) for n in range(1000)))
    assert len(again) == 1000  # as many may wait as before


async def test_without_threads_nobody_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    resolve = Resolver(lambda _, __: [])
    found = await asyncio.gather(*(resolve("key:ci", f"h{n}", 443) for n in range(60)), return_exceptions=True)
    assert {type(error) for error in found} == {NoAnswer}


async def test_threads_are_kept_for_the_next_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits until a thread that it starts has run: for 20 ms and more, beside others that want the lock."""
    starts, start = list[threading.Thread](), threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        starts.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    resolve = Resolver(lambda _, __: ["10.0.0.1"])
    for turn in range(10):
        await asyncio.gather(*(resolve("key:ci", f"h{turn}-{n}", 443) for n in range(20)))
    assert len(starts) <= 4


async def test_of_thousands_of_addresses_one_too_many_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All were made, and looked at, before they were too many: for half a second nobody else was served."""
    names = [f"192.0.2.{n}" for n in range(33)]
    monkeypatch.setattr("gateway.webhooks.egress.resolver.find_addresses", AddressList(*names, then=8).find)
    with pytest.raises(NotFound):
        await Resolver()("key:ci", "many.test", 443)
    monkeypatch.setattr("gateway.webhooks.egress.resolver.find_addresses", AddressList(*names[:32]).find)
    assert len(await Resolver()("key:ci", "many.test", 443)) == 32


async def test_an_address_of_one_interface_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules know no interfaces."""
    monkeypatch.setattr("gateway.webhooks.egress.resolver.find_addresses", AddressList("fe80::1%2").find)
    assert await Resolver()("key:ci", "near.test", 443) == (ip("fe80::1"),)
