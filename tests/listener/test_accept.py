"""How long a handshake may take: the flows show the rest of the accept loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from gateway.listener.accept import Accepted, Acceptor, Door, opened_in_time
from gateway.model.caller import Peer
from tests.support.iteration import iteration_now
from tests.support.waiting import eventually


class Handshake:
    """A transport whose handshake waits for its turn, or for its peer."""

    def __init__(self, *, waits: bool, waited: float) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits, self.waited = waits, waited


async def opened(handshake: Any, ends_in: float) -> None:
    await opened_in_time(handshake, asyncio.get_running_loop().time() + ends_in)


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
        acceptor = Acceptor(
            listening, lambda: Door(9, 1, 1.0), None, lambda peer: Connection(peer, acceptor.ended), iteration_now()
        )
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
        acceptor.stop()


@pytest.mark.parametrize(("waited", "ends_in"), [(0.0, 0.0), (3.0, -3.0), (0.0, 0.01)])
async def test_a_handshake_has_its_time(waited: float, ends_in: float) -> None:
    with pytest.raises(TimeoutError):
        await opened(Handshake(waits=False, waited=waited), ends_in)


@pytest.mark.parametrize(("waits", "waited"), [(True, 0.0), (False, 60.0)], ids=["waits", "waited"])
async def test_what_waits_for_its_turn_has_so_much_longer(waits: bool, waited: float) -> None:
    handshake = Handshake(waits=waits, waited=waited)
    loop = asyncio.get_running_loop()
    loop.call_later(0.15, handshake.opened.set_result, None)
    await opened(handshake, -30.0)
    handshake = Handshake(waits=waits, waited=waited)
    loop.call_soon(handshake.opened.set_exception, ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await opened(handshake, -30.0)
