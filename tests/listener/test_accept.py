"""Whom the accept loop lets in; the flows show the rest of it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, pairwise
from typing import Any

import pytest

from gateway.aio.iteration import MAX_SECONDS, Iteration
from gateway.listener.accept import AcceptLimits, Acceptor
from gateway.listener.opening import Accepted
from gateway.model.identity import Peer
from gateway.model.networks import Networks
from tests.support.iteration import iteration_now
from tests.support.waiting import eventually


class Listening(socket.socket):
    """A listening socket whose clients come from the addresses that a test says, one after the other."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.setblocking(False)
        self.bind(("127.0.0.1", 0))
        self.listen()
        self._addresses = iter(addresses)

    def accept(self) -> Any:
        accepted, _ = super().accept()
        return accepted, (next(self._addresses), 1)


class Connection(asyncio.Protocol):
    """One that was accepted; it tells of its end."""

    def __init__(self, peer: Peer, ended: Callable[[Accepted], None]) -> None:
        self.peer, self.has_ended = peer, False
        self._ended = ended

    def connection_lost(self, error: BaseException | None) -> None:
        del error
        self._ended(self)


def acceptor_of(listening: socket.socket, limits: AcceptLimits, iteration: Iteration) -> Acceptor:
    """Accepts in the clear."""
    acceptor = Acceptor(listening, lambda: limits, None, lambda peer: Connection(peer, acceptor.release), iteration)
    return acceptor


@pytest.mark.parametrize(
    ("first", "second", "is_full"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::", False),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
async def test_a_64_is_one_address(first: str, second: str, is_full: bool) -> None:
    with Listening(first, second, second) as listening:
        acceptor = acceptor_of(listening, AcceptLimits(9, 1, 1.0), iteration_now())
        acceptor.start()
        with socket.create_connection(listening.getsockname()):
            await eventually(lambda: acceptor.connections == 1)
            with socket.create_connection(listening.getsockname()):
                await eventually(lambda: acceptor.refused["too_many_of_address"] + acceptor.connections == 2)
                assert acceptor.refused["too_many_of_address"] == is_full
        await eventually(lambda: acceptor.connections == 0)
        with socket.create_connection(listening.getsockname()):
            await eventually(lambda: acceptor.connections == 1)
        await eventually(lambda: acceptor.connections == 0)
        assert acceptor.refused.total() == is_full
        await acceptor.stop()


async def test_who_a_proxy_names_has_a_share_where_all_is_full_too() -> None:
    networks = Networks.of("10.0.0.1/32")
    limits = AcceptLimits(3, 1, 9.0, exempt=networks, reads_proxy_header=True)
    with Listening(*["10.0.0.1"] * 4) as listening, ExitStack() as stack:
        acceptor = acceptor_of(listening, limits, iteration_now())
        acceptor.start()
        for number, client in enumerate(["192.0.2.1", "192.0.2.2", "192.0.2.1"], 1):
            connected = stack.enter_context(socket.create_connection(listening.getsockname()))
            connected.sendall(f"PROXY TCP4 {client} 192.0.2.9 1 443\r\n".encode())
            done = number
            await eventually(lambda: not acceptor.is_opening and acceptor.connections + refused(acceptor) == done)  # noqa: B023 -- it is awaited here
        assert (acceptor.connections, acceptor.refused["proxy_header"]) == (2, 1)
        await acceptor.stop()


def refused(acceptor: Acceptor) -> int:
    return acceptor.refused.total()


async def test_a_batch_has_a_time_of_its_own() -> None:
    """Sixty-four at once took the loop up to thirty milliseconds where each looked for who gives way."""
    with Listening(*["10.0.0.1"] * 5) as listening:
        ticks = count()
        iteration = Iteration(lambda: next(ticks) / 100, asyncio.get_running_loop().call_soon)
        acceptor = acceptor_of(listening, AcceptLimits(9, 9, 1.0), iteration)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
        acceptor.start()
        seen = [0]
        while seen[-1] < 5:
            await asyncio.sleep(0)
            seen.append(acceptor.connections)
        assert max(after - before for before, after in pairwise(seen)) == 1
        for client in clients:
            client.close()
        await eventually(lambda: acceptor.connections == 0)
        await acceptor.stop()


async def test_where_others_use_up_each_iteration_connections_are_accepted_all_the_same() -> None:
    """One in each iteration was 160 a second: whoever came behind a few hundred strangers waited for seconds."""
    with Listening(*["10.0.0.1"] * 5) as listening:
        iteration = Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)
        acceptor = acceptor_of(listening, AcceptLimits(9, 9, 1.0), iteration)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
        seen = set()
        acceptor.start()
        while acceptor.connections < 5:
            iteration.add(2 * MAX_SECONDS, 0)
            await asyncio.sleep(0)
            seen.add(acceptor.connections)
        assert seen <= {0, 5}
        for client in clients:
            client.close()
        await eventually(lambda: acceptor.connections == 0)
        await acceptor.stop()


async def test_a_flood_does_not_keep_it_from_stopping() -> None:
    """It accepted as long as strangers connected: a drain waited for a second."""

    class Endless(socket.socket):
        """One that always has another client."""

        count = 0

        def accept(self) -> Any:
            self.count += 1
            assert self.count < 5000
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours, ("10.0.0.1", 1)

    with Endless() as listening:
        acceptor = acceptor_of(listening, AcceptLimits(0, 0, 1.0), iteration_now())
        await acceptor.stop()
    assert 0 < listening.count <= 1024
    assert acceptor.refused["too_many"] == listening.count


async def test_where_each_takes_long_all_that_the_kernel_has_are_taken_in_a_stop() -> None:
    """Sixteen batches were taken, which a busy machine leaves short: the others were reset. And all in one go."""
    with Listening(*["10.0.0.1"] * 60) as listening:
        ticks = count()
        iteration = Iteration(lambda: next(ticks) / 100, asyncio.get_running_loop().call_soon)
        acceptor = acceptor_of(listening, AcceptLimits(99, 99, 1.0), iteration)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(60)]
        stopping = asyncio.ensure_future(acceptor.stop())
        seen = [0]
        while not stopping.done():
            await asyncio.sleep(0)
            seen.append(acceptor.connections)
        assert seen[-1] == 60
        assert max(after - before for before, after in pairwise(seen)) == 1
        for client in clients:
            client.close()
        await eventually(lambda: acceptor.connections == 0)


async def test_a_client_that_hangs_up_as_it_is_accepted_does_not_end_the_others_in_a_stop() -> None:
    class Aborted(Listening):
        """One whose first client hangs up."""

        has_aborted = False

        def accept(self) -> Any:
            accepted = super().accept()
            if not self.has_aborted:
                self.has_aborted = True
                accepted[0].close()
                raise ConnectionAbortedError
            return accepted

    with Aborted(*["10.0.0.1"] * 3) as listening:
        acceptor = acceptor_of(listening, AcceptLimits(9, 9, 1.0), iteration_now())
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        await acceptor.stop()
        assert acceptor.connections == 2
        for client in clients:
            client.close()
        await eventually(lambda: acceptor.connections == 0)
