"""The last hour in memory, a point each ten seconds: what the page's charts show without Prometheus. Pure.

Counters only rise, so a point is the difference of two readings of them. Errors are counted by reason, a closed set;
of the container's own answers those with a bad status count, too, as `forwarded_4xx` and `forwarded_5xx`.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from gateway.model.reasons import Reason
from gateway.model.statuses import FIRST_ERROR
from gateway.observe.metrics import BOUNDS, RouteTally

EVERY: Final = 10.0
MOST: Final = 360
_MINUTE: Final = 60.0
_GOOD: Final = frozenset({Reason.ANSWERED, Reason.TRAILING_SLASH})


class Gauges(NamedTuple):
    """What stands at one moment. `uploads` are submits that have no answer yet."""

    in_flight: int = 0
    uploads: int = 0
    connections: int = 0
    jobs_running: int = 0
    polls_held: int = 0
    upstreams_up: bool = True
    ledger_up: bool = True


class Reading(NamedTuple):
    """The counters at one moment; `at` is in seconds since the epoch. `durations` has a count for each of BOUNDS."""

    at: float
    requests: int
    errors: Mapping[str, int]
    durations: tuple[int, ...]
    pages: int
    gauges: Gauges


class Point(NamedTuple):
    """What happened until `at`, since the point before: rates a second, durations in seconds (None: no request)."""

    at: float
    requests: float
    errors: Mapping[str, float]
    p50: float | None
    p95: float | None
    pages_per_minute: float
    gauges: Gauges


class History:
    """The points of the last hour, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        self._points: deque[Point] = deque(maxlen=most)
        self._last: Reading | None = None

    def note(self, reading: Reading) -> None:
        """Takes a reading; the first one makes no point, nor does one of a clock that was set back."""
        last, self._last = self._last, reading
        if last is not None and reading.at > last.at:
            self._points.append(point_between(last, reading))

    def since(self, at: float) -> list[Point]:
        """The points after a moment."""
        return [point for point in self._points if point.at > at]


def reading_of(routes: Iterable[RouteTally], at: float, pages: int, gauges: Gauges) -> Reading:
    """Sums up the counters of all routes."""
    errors: dict[str, int] = {}
    durations = [0] * (len(BOUNDS) + 1)
    requests = 0
    for tally in routes:
        for (_, status, reason), count in tally.outcomes.items():
            requests += count
            word = _error(100 * int(status[0]), reason)
            if word is not None:
                errors[word] = errors.get(word, 0) + count
        durations = [sum(pair) for pair in zip(durations, tally.duration.counts, strict=True)]
    return Reading(at, requests, errors, tuple(durations), pages, gauges)


def point_between(before: Reading, after: Reading) -> Point:
    """What happened between two readings."""
    seconds = after.at - before.at
    more = {word: count - before.errors.get(word, 0) for word, count in after.errors.items()}
    durations = [max(0, now - was) for was, now in zip(before.durations, after.durations, strict=True)]
    return Point(
        after.at,
        max(0, after.requests - before.requests) / seconds,
        {word: count / seconds for word, count in more.items() if count > 0},
        quantile(durations, 0.5),
        quantile(durations, 0.95),
        max(0, after.pages - before.pages) * _MINUTE / seconds,
        after.gauges,
    )


def quantile(counts: Iterable[int], share: float) -> float | None:
    """The duration that this share of requests did not exceed, interpolated within its bound as Prometheus does."""
    counts = list(counts)
    wanted, seen, lower = sum(counts) * share, 0, 0.0
    if not wanted:
        return None
    for count, upper in zip(counts, (*BOUNDS, BOUNDS[-1]), strict=True):
        if count and seen + count >= wanted:
            return lower + (upper - lower) * (wanted - seen) / count
        seen, lower = seen + count, upper
    return BOUNDS[-1]


def _error(status: int, reason: Reason) -> str | None:
    if reason is Reason.FORWARDED:
        return f"forwarded_{status // 100}xx" if status >= FIRST_ERROR else None
    return None if reason in _GOOD else str(reason)
