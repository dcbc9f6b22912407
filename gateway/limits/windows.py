"""Calendar windows in UTC, computed from the clock whenever needed: pure. No job resets a counter."""

from datetime import date
from typing import Final, NamedTuple

from gateway.units import DAY

_EPOCH: Final = date(1970, 1, 1).toordinal()


class Window(NamedTuple):
    """A day or a month: `period` is 20261123 or 202611; `start` and `end` are in seconds since the epoch."""

    period: int
    start: float
    end: float

    @property
    def seconds(self) -> int:
        """Its length."""
        return round(self.end - self.start)


def periods_at(now: float) -> tuple[int, int]:
    """The day and the month that contain a moment, in seconds since the epoch, as `Window.period` names them."""
    day = date.fromordinal(_EPOCH + int(now // DAY))
    month = day.year * 100 + day.month
    return month * 100 + day.day, month


def day_of(now: float) -> Window:
    """The UTC day that contains a moment, in seconds since the epoch."""
    number = now // DAY
    return Window(periods_at(now)[0], number * DAY, (number + 1) * DAY)


def month_of(now: float) -> Window:
    """The UTC month that contains a moment, in seconds since the epoch."""
    number = int(now // DAY)
    day = date.fromordinal(_EPOCH + number)
    first = number + 1 - day.day
    following = date(day.year + day.month // 12, day.month % 12 + 1, 1).toordinal() - _EPOCH
    return Window(day.year * 100 + day.month, float(first * DAY), float(following * DAY))
