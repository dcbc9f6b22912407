"""Who gives way when a listener is full."""

from collections import Counter

import pytest

from gateway.listener.newcomers import who_gives_way
from gateway.model.identity import Peer
from gateway.model.networks import client_prefix
from tests.support.pure import ip


class Newcomer:
    def __init__(self, name: str, address: str, *, gives_way: bool) -> None:
        self.name, self.peer, self.gives_way = name, Peer(ip(address), 1), gives_way

    def give_way(self) -> None:
        raise AssertionError("whoever asked for it does that")


@pytest.mark.parametrize(
    ("inside", "prefix", "found"),
    [
        ("", None, None),
        ("a1 b1", None, "a1"),
        ("a1 b1 b2", None, "b1"),
        ("b1 a1 a2 b2", None, "b1"),
        ("A1 A2 A3 b1", None, "b1"),
        ("A1 a2 b1 b2 b3", None, "b1"),
        ("A1 a2 a3 b1 b2", None, "a2"),
        ("a1 b1 b2 b3", "a", "a1"),
        ("A1 b1 b2 b3", "a", None),
        ("A1 B1", None, None),
    ],
)
def test_the_oldest_that_may_of_the_address_that_holds_most(
    inside: str, prefix: str | None, found: str | None
) -> None:
    """A letter is an address; a capital one gives no way."""
    addresses = {"a": "10.0.0.1", "b": "2001:db8::1"}
    newcomers = [Newcomer(name, addresses[name[0].lower()], gives_way=name[0].islower()) for name in inside.split()]
    held = Counter(client_prefix(newcomer.peer.ip) for newcomer in newcomers)
    one = who_gives_way(newcomers, held, None if prefix is None else client_prefix(ip(addresses[prefix])))
    assert one is (None if found is None else next(each for each in newcomers if each.name == found))
