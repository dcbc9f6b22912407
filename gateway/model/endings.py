"""What is known of a job's end, and what that means for its pages: pure.

Replicas learn facts each in its own time and order, some of them twice, and some only after the job was settled. So
facts are only ever added, and what a job costs follows from all that are known, never from their order. The ledger
has their sum; what a process remembers of them is a copy.
"""

from enum import Enum, IntFlag, StrEnum, auto
from typing import Final, NamedTuple


class Known(IntFlag):
    """Facts about one job, as they stand in the ledger."""

    NOTHING = 0
    COMPLETE = 1
    """The container said that it went well."""
    FAILED = 2
    """The container said that it failed."""
    LOST = 4
    """The container did not know it any more."""
    GIVEN_UP = 8
    """It ran for too long, and nobody said how it ended."""
    TAKEN = 16
    """Something that may be of its result went to its owner."""


ENDS: Final = Known.COMPLETE | Known.FAILED | Known.LOST | Known.GIVEN_UP
TOLD: Final = Known.COMPLETE | Known.FAILED
"""What the container itself said of an end."""


class Facts(NamedTuple):
    """What somebody learnt at once; `pages` is what the container says it had, None when it does not."""

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
    """The one of both that charges more."""
    return max(one, other, key=_STRICTER.index)


class Cost(Enum):
    """What a job is charged."""

    NOTHING = auto()
    RESERVED = auto()
    """As many pages as were reserved, until more is known."""
    SAID = auto()
    """What the container says it had, else what was reserved; nothing changes that any more."""


def cost_of(known: Known, failed_costs: FailedCosts) -> Cost | None:
    """What a job costs by all that is known of it; None while it runs."""
    if not known & ENDS:
        return None
    if Known.COMPLETE in known:
        return Cost.SAID
    is_free = {
        FailedCosts.NOTHING: Known.FAILED in known or Known.TAKEN not in known,
        FailedCosts.IF_TAKEN: Known.TAKEN not in known,
        FailedCosts.RESERVED: False,
    }[failed_costs]
    if Known.FAILED not in known and Known.GIVEN_UP in known:
        is_free = False  # nobody has said that it failed
    return Cost.NOTHING if is_free else Cost.RESERVED
