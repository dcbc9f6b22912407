"""One gateway among those that share a ledger."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.aio.background import Background
from gateway.ledger.ledger import Ledger


class Replica(NamedTuple):
    """This process: its `name` in the ledger, and what it works there with.

    `wall` is in seconds since the epoch; `background` takes what nobody waits for.
    """

    name: str
    ledger: Ledger
    wall: Callable[[], float]
    background: Background
