"""Memory limits for unverified bodies, all together and per address. Pure.

A webhook is verified once its signature fits, which shows only after its last byte: until then, any client that can
reach the port may send one, nearly whole, and wait. So all such bodies share one budget, and an address gets at most
a quarter of it. When the budget is used up, the address that holds most gives way to one that holds less, so
strangers with a few addresses can't keep out the real sender.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.errors import Refused
from gateway.model.networks import client_prefix
from gateway.model.reasons import RETRY_SOON, Denial, Reason

SHARES: Final = 4
_FULL: Final = "Too much that nobody has vouched for is under way (body.unverified_limit); try again in a moment."
_SHARE: Final = "Too much that nobody has vouched for comes from this address (body.unverified_limit)."


@dataclass(eq=False, slots=True)
class AddressBodies:
    """The bodies of one address (IPv6: of its /64), and their bytes together."""

    stays: set["Stay"] = field(default_factory=set)
    size: int = 0


@dataclass(eq=False, slots=True)
class Stay:
    """One body: its address, the callback that ends it when it must give way, and its bytes so far."""

    subject: bytes
    give_way: Callable[[Refused], None]
    size: int = 0


class UnverifiedBodies:
    """What all of them hold now. `most` returns the configured limit in bytes."""

    __slots__ = ("_by_address", "_most", "used")

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._by_address: dict[bytes, AddressBodies] = {}
        self.used = 0

    def __repr__(self) -> str:
        return f"<UnverifiedBodies used={self.used} addresses={len(self._by_address)}>"

    def enter(self, address: IPv4Address | IPv6Address, give_way: Callable[[Refused], None]) -> Stay:
        """Registers an empty body; `leave` ends it, on every path."""
        stay = Stay(client_prefix(address), give_way)
        self._by_address.setdefault(stay.subject, AddressBodies()).stays.add(stay)
        return stay

    def take(self, stay: Stay, size: int) -> None:
        """Counts `size` more bytes of a body, before they are kept.

        Raises:
            Refused: no_room, if its address has used its share, or the budget is used up and no other holds more.
        """
        bodies = self._by_address.get(stay.subject)
        if bodies is None or stay not in bodies.stays:  # it has given way
            raise _no_room(_FULL)
        if bodies.size + size > self._most() // SHARES:
            raise _no_room(_SHARE)
        while self.used + size > self._most():
            self._make_room(bodies.size + size)
        self._count(bodies, stay, size)

    def leave(self, stay: Stay) -> None:
        """Ends a body, unless it has given way; frees what it held."""
        bodies = self._by_address.get(stay.subject)
        if bodies is None or stay not in bodies.stays:
            return
        self._count(bodies, stay, -stay.size)
        bodies.stays.discard(stay)
        if not bodies.stays:
            del self._by_address[stay.subject]

    def _count(self, bodies: AddressBodies, stay: Stay, size: int) -> None:
        stay.size += size
        bodies.size += size
        self.used += size

    def _make_room(self, held: int) -> None:
        """Lets the largest body of the address that holds most give way, if that holds more than `held` bytes."""
        bodies = max(self._by_address.values(), key=lambda one: one.size)
        if bodies.size <= held:
            raise _no_room(_FULL)
        stay = max(bodies.stays, key=lambda one: one.size)
        self.leave(stay)
        stay.give_way(_no_room(_FULL))


def _no_room(detail: str) -> Refused:
    return Refused(Denial(Reason.NO_ROOM, detail, retry_after=RETRY_SOON))
