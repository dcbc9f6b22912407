"""Facts about a job's end, and what they mean for its pages: pure.

Each replica learns facts at its own time and in its own order, some twice, and some only after the job was settled.
So facts are only ever added, and a job's cost follows from all known facts, never from their order. The ledger has
the union of facts; each process has a copy.
"""

from enum import Enum, IntFlag, StrEnum, auto
from typing import Final, NamedTuple


class Known(IntFlag):
    """Facts about one job, as stored in the ledger."""

    NOTHING = 0
    COMPLETE = 1
    """The container said that it succeeded."""
    FAILED = 2
    """The container said that it failed."""
    LOST = 4
    """The container did not know it any more."""
    GIVEN_UP = 8
    """It ran for too long without a known end."""
    TAKEN = 16
    """Something that may be part of its result went to its owner."""
    DELETED = 32
    """It was deleted while it ran. Stored beside GIVEN_UP, by which versions without this fact judge it."""


ENDS: Final = Known.COMPLETE | Known.FAILED | Known.LOST | Known.GIVEN_UP | Known.DELETED
REPORTED: Final = Known.COMPLETE | Known.FAILED
"""The ends that the container itself reported."""


class Facts(NamedTuple):
    """Facts learnt at once; `pages` is the container's page count, None if it gave none."""

    known: Known
    pages: int | None = None

    def plus(self, other: "Facts") -> "Facts":
        """Both together."""
        return Facts(self.known | other.known, other.pages if self.pages is None else self.pages)


class FailedCosts(StrEnum):
    """What a job costs that failed, or that the container lost (jobs.shapes.<name>.failed_costs)."""

    NOTHING = "nothing"
    IF_TAKEN = "if_taken"
    """As reserved, once something of it was read; nothing before."""
    RESERVED = "reserved"

    __hash__ = str.__hash__


_STRICTER: Final = tuple(FailedCosts)


def stricter(one: FailedCosts, other: FailedCosts) -> FailedCosts:
    """Of two, the one that charges more."""
    return max(one, other, key=_STRICTER.index)


class Cost(Enum):
    """What a job is charged."""

    NOTHING = auto()
    RESERVED = auto()
    """As many pages as were reserved, until more is known."""
    SAID = auto()
    """The container's page count, else what was reserved; final."""


def cost_of(known: Known, failed_costs: FailedCosts) -> Cost | None:
    """What a job costs by all known facts; None while it runs."""
    if not known & ENDS:
        return None
    if Known.COMPLETE in known:
        return Cost.SAID
    if Known.DELETED in known:
        return Cost.RESERVED  # else its owner could have it fail, and so be free
    is_free = {
        FailedCosts.NOTHING: Known.FAILED in known or Known.TAKEN not in known,
        FailedCosts.IF_TAKEN: Known.TAKEN not in known,
        FailedCosts.RESERVED: False,
    }[failed_costs]
    if Known.FAILED not in known and Known.GIVEN_UP in known:
        is_free = False  # no failure was reported
    return Cost.NOTHING if is_free else Cost.RESERVED
