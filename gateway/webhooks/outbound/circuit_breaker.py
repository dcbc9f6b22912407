"""The circuit breaker: pauses destinations that keep failing. Pure, for one replica.

A destination here belongs to one owner: one owner's failing paths don't pause the host for other owners.

Five attempts in a row without an answer pause a destination for 30 seconds; then one delivery probes it. While probes
get none, the pause doubles, up to five minutes; after an answer, whatever it says, deliveries go on. Another replica
may still try a destination paused here: that costs just an attempt.
"""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.deliveries import Line

_FAILURES: Final = 5
_PAUSE: Final = 30.0  # seconds
_MAX_LENGTH: Final = 300.0  # seconds
_KEPT: Final = 4500.0
"""Seconds after its last pause in which a destination is remembered: within these a delivery's next attempt comes."""
_MAX: Final = 1000
_MAX_OF_OWNER: Final = 100  # one host has 65,535 ports, and each is a destination


@dataclass(slots=True)
class _Failing:
    since: float
    failures: int = 0
    pause: float = 0.0
    until: float = 0.0


class Breaker:
    """Remembers failing destinations: the latest thousand of them, and the latest hundred of an owner.

    Times are seconds of any one clock.
    """

    def __init__(self) -> None:
        self._failing: dict[Line, _Failing] = {}

    def record_success(self, destination: Line) -> bool:
        """Called when a destination has answered; returns whether it was paused until then."""
        known = self._failing.pop(destination, None)
        return known is not None and known.failures >= _FAILURES

    def record_failure(self, destination: Line, now: float) -> float | None:
        """Called when a destination has failed; returns the seconds of a new pause, or None."""
        known = self._failing.pop(destination, None) or _Failing(now)
        self._failing[destination] = known  # the latest is last
        self._forget_oldest(destination[1])
        known.failures += 1
        if known.failures < _FAILURES or now < known.until:
            return None  # this attempt began before the pause
        known.pause = min(known.pause * 2 or _PAUSE, _MAX_LENGTH)
        known.until = now + known.pause
        return known.pause

    def rooms(self, now: float) -> dict[Line, int]:
        """How many concurrent deliveries failing destinations take: none while paused, one as a probe."""
        return {
            destination: int(now >= known.until)
            for destination, known in self._failing.items()
            if known.failures >= _FAILURES
        }

    def failing_since(self, before: float) -> list[Line]:
        """Destinations that have not answered once since then, and keep failing."""
        return [
            destination
            for destination, known in self._failing.items()
            if known.since <= before and known.failures >= _FAILURES
        ]

    def forget_old(self, now: float) -> None:
        """Forgets destinations whose last pause has been over for long: nothing was to be sent there since."""
        over = [line for line, known in self._failing.items() if known.pause and now >= known.until + _KEPT]
        for line in over:
            del self._failing[line]

    def _forget_oldest(self, owner: str) -> None:
        """Forgets the oldest one of an owner who has too many, else the oldest one if there are too many."""
        of_owner = [line for line in self._failing if line[1] == owner]
        if len(of_owner) > _MAX_OF_OWNER:
            del self._failing[of_owner[0]]
        elif len(self._failing) > _MAX:
            del self._failing[next(iter(self._failing))]
