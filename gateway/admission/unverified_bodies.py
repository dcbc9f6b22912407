"""Bodies that nobody has vouched for yet: what they hold together is bounded, and what an address holds. Pure.

A webhook is believed once its signature fits, and that is known behind its last byte: until then whoever can reach
the port may send one, nearly whole, and wait. So all such bodies share one budget, and an address has a quarter of it
at the most. When the budget is used up, the address that holds most gives way to whoever holds less: strangers with a
few addresses can't keep out the sender that is waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.errors import Refused
from gateway.model.networks import household
from gateway.model.reasons import Denial, Reason

SHARES: Final = 4
_RETRY_AFTER: Final = 5
_FULL: Final = "Too much that nobody has vouched for is under way (body.unverified_limit); try again in a moment."
_SHARE: Final = "Too much that nobody has vouched for comes from this address (body.unverified_limit)."


@dataclass(eq=False, slots=True)
class Household:
    """The bodies of one address (IPv6: of its /64), and their bytes together."""

    stays: set["Stay"] = field(default_factory=set)
    size: int = 0


@dataclass(eq=False, slots=True)
class Stay:
    """One body: whose, what ends it when it has to give way, and its bytes so far."""

    subject: bytes
    give_way: Callable[[Refused], None]
    size: int = 0


class UnverifiedBodies:
    """What all of them hold now. `most` is in bytes, as it is configured now."""

    __slots__ = ("_households", "_most", "used")

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._households: dict[bytes, Household] = {}
        self.used = 0

    def __repr__(self) -> str:
        return f"<UnverifiedBodies used={self.used} households={len(self._households)}>"

    def enter(self, address: IPv4Address | IPv6Address, give_way: Callable[[Refused], None]) -> Stay:
        """Begins a body, with nothing of it yet; `leave` ends it, on every path."""
        stay = Stay(household(address), give_way)
        self._households.setdefault(stay.subject, Household()).stays.add(stay)
        return stay

    def take(self, stay: Stay, size: int) -> None:
        """Counts so many bytes more of a body, before they are kept.

        Raises:
            Refused: no_room, when its address has its share, or the budget is used up by those who hold no more.
        """
        home = self._households.get(stay.subject)
        if home is None or stay not in home.stays:  # it has given way
            raise _no_room(_FULL)
        if home.size + size > self._most() // SHARES:
            raise _no_room(_SHARE)
        while self.used + size > self._most():
            self._make_room(home.size + size)
        self._count(home, stay, size)

    def leave(self, stay: Stay) -> None:
        """Ends a body, if it has not given way; what it held is free again."""
        home = self._households.get(stay.subject)
        if home is None or stay not in home.stays:
            return
        self._count(home, stay, -stay.size)
        home.stays.discard(stay)
        if not home.stays:
            del self._households[stay.subject]

    def _count(self, home: Household, stay: Stay, size: int) -> None:
        stay.size += size
        home.size += size
        self.used += size

    def _make_room(self, held: int) -> None:
        """Lets the largest body of the address that holds most give way, if that is more than `held` bytes."""
        home = max(self._households.values(), key=lambda one: one.size)
        if home.size <= held:
            raise _no_room(_FULL)
        stay = max(home.stays, key=lambda one: one.size)
        self.leave(stay)
        stay.give_way(_no_room(_FULL))


def _no_room(detail: str) -> Refused:
    return Refused(Denial(Reason.NO_ROOM, detail, retry_after=_RETRY_AFTER))
