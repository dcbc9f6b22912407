"""Chooses which connection yields its slot when a listener is full: pure.

Connections cost their makers nothing, so a mere limit lets a few addresses keep all others out. A connection that has
shown nothing yet has no claim to its slot: the next new connection gets it. That one may keep it until as many more
have come, and in that time it can show what it wants.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.model.identity import Peer
from gateway.model.networks import client_prefix


class Newcomer(Protocol):
    """A connection with a slot. `gives_way`: it has shown nothing yet; `give_way` ends it at once."""

    peer: Peer

    @property
    def gives_way(self) -> bool:
        """Whether it may be ended in favor of another."""

    def give_way(self) -> None:
        """Ends it; frees its slot before this returns."""


def who_gives_way(inside: Iterable[Newcomer], held: Mapping[bytes, int], prefix: bytes | None) -> Newcomer | None:
    """Returns the first connection that may yield, of the address that holds the most slots.

    Args:
        inside: the connections with slots, in order of arrival.
        held: how many slots each address holds, by client_prefix.
        prefix: the only address to consider; None: all addresses.
    """
    found, most = None, 0
    for one in inside:
        theirs = client_prefix(one.peer.ip)
        if held[theirs] > most and prefix in {None, theirs} and one.gives_way:
            found, most = one, held[theirs]
    return found
