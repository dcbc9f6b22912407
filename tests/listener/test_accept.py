"""How long a handshake may take: the flows show the rest of the accept loop."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.listener.accept import Acceptor, Door
from gateway.model.caller import Peer
from tests.support.iteration import iteration_now


class Handshake:
    """A transport whose handshake waits for its turn, or for its peer."""

    def __init__(self, *, waits: bool, waited: float) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits, self.waited = waits, waited


async def opened(handshake: Any, ends_in: float) -> None:
    nobody: Any = None
    with socket.socket() as listening:
        acceptor = Acceptor(listening, lambda: Door(1, 1, 1.0), None, lambda _: nobody, iteration_now())
        await acceptor._opened(handshake, asyncio.get_running_loop().time() + ends_in)


@pytest.mark.parametrize(
    ("first", "second", "is_full"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::", False),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
async def test_a_64_is_one_address(first: str, second: str, is_full: bool) -> None:
    nobody: Any = None
    with socket.socket() as listening:
        acceptor = Acceptor(listening, lambda: Door(9, 1, 1.0), None, lambda _: nobody, iteration_now())
        acceptor._enter(Peer(ip_address(first), 1))
        assert acceptor._full(Peer(ip_address(second), 1)) == ("too_many_of_address" if is_full else None)
        acceptor._leave(Peer(ip_address(first), 1))
        assert acceptor._full(Peer(ip_address(second), 1)) is None


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
