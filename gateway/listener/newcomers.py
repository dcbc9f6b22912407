"""Who gives way to whoever comes when a listener is full: pure.

Connections cost who makes them nothing, so a bound of them alone lets a few addresses keep all others out. Whoever
has shown nothing yet has no claim to his place: it goes to the next one who comes, who has the time until as many
more have come to show what he wants.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.model.caller import Peer
from gateway.model.networks import household


class Newcomer(Protocol):
    """A connection with a place. `gives_way` says whether it has shown nothing; `give_way` ends it at once."""

    peer: Peer

    @property
    def gives_way(self) -> bool:
        """Whether it may be ended for the sake of another."""

    def give_way(self) -> None:
        """Ends it; the acceptor is told before this returns."""


def who_gives_way(inside: Iterable[Newcomer], held: Mapping[bytes, int], home: bytes | None) -> Newcomer | None:
    """Of those inside, in the order in which they came, the first that may of the address that holds most places.

    Args:
        inside: who has a place.
        held: how many of them each address has (household).
        home: the only address that is asked; None: all are.
    """
    found, most = None, 0
    for one in inside:
        theirs = household(one.peer.ip)
        if held[theirs] > most and home in {None, theirs} and one.gives_way:
            found, most = one, held[theirs]
    return found
