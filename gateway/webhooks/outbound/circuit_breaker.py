"""The circuit breaker: which destinations are left alone for now, because they keep failing. Pure, for one replica.

A destination here is one of one owner: what fails for an owner, by what is behind a path of his, pauses nobody else.

After five failures in a row a destination is paused: for 30 seconds, then one delivery probes it. As long as probes
fail the pause doubles, up to five minutes; one that is answered opens the destination again. What was paused here may
be tried by another replica: that costs an attempt, no more.
"""

from dataclasses import dataclass
from typing import Final

from gateway.ledger.deliveries import Line

_FAILURES: Final = 5
_PAUSE: Final = 30.0
_MAX_LENGTH: Final = 300.0
_MAX: Final = 1000


@dataclass(slots=True)
class _Failing:
    failures: int = 0
    pause: float = 0.0
    until: float = 0.0


class Breaker:
    """Remembers destinations that fail, the latest thousand of them. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._failing: dict[Line, _Failing] = {}

    def succeeded(self, destination: Line) -> bool:
        """Takes note that a destination answered; tells whether it was paused until then."""
        known = self._failing.pop(destination, None)
        return known is not None and known.failures >= _FAILURES

    def failed(self, destination: Line, now: float) -> float | None:
        """Takes note that a destination took nothing; for how long it is paused by that, None when it is not."""
        known = self._failing.pop(destination, None) or _Failing()
        self._failing[destination] = known  # the latest stands last
        if len(self._failing) > _MAX:
            del self._failing[next(iter(self._failing))]
        known.failures += 1
        if known.failures < _FAILURES or now < known.until:
            return None  # an attempt that had begun before the pause did
        known.pause = min(known.pause * 2 or _PAUSE, _MAX_LENGTH)
        known.until = now + known.pause
        return known.pause

    def rooms(self, now: float) -> dict[Line, int]:
        """How many deliveries at once a destination takes that is paused (none) or probed (one)."""
        return {
            destination: int(now >= known.until)
            for destination, known in self._failing.items()
            if known.failures >= _FAILURES
        }
