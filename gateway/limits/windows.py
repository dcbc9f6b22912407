"""Calendar windows in UTC, computed from the clock whenever needed: pure. No job resets a counter."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple


class Window(NamedTuple):
    """A day or a month: `period` is 20261123 or 202611; `start` and `end` are in seconds since the epoch."""

    period: int
    start: float
    end: float

    @property
    def seconds(self) -> int:
        """Its length."""
        return round(self.end - self.start)


def day_of(now: float) -> Window:
    """The UTC day that contains a moment, in seconds since the epoch."""
    moment = datetime.fromtimestamp(now, UTC)
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    period = start.year * 10_000 + start.month * 100 + start.day
    return Window(period, start.timestamp(), (start + timedelta(days=1)).timestamp())


def month_of(now: float) -> Window:
    """The UTC month that contains a moment, in seconds since the epoch."""
    moment = datetime.fromtimestamp(now, UTC)
    start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + timedelta(days=32)).replace(day=1)
    return Window(start.year * 100 + start.month, start.timestamp(), end.timestamp())
