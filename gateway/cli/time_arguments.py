"""Times as they are typed in: durations, dates and ISO 8601, all in UTC. Pure; see words for how they are shown."""

import re
from datetime import UTC, datetime
from typing import Final

from gateway.units import seconds

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?\Z", re.ASCII)
_WANTED: Final = (
    "write a duration such as 90d or 12h, or a date such as 2027-01-31 or 2027-01-31T12:00:00Z (UTC); units of a "
    "duration: ms, s, m, h, d"
)


def coming(text: str, now: float) -> float:
    """Parses a moment in the future, in seconds since the epoch: a duration counts from now, a date is its 00:00 UTC.

    Raises:
        ValueError: it is neither.
    """
    return _moment(text, now, 1)


def gone(text: str, now: float) -> float:
    """Parses a moment in the past: a duration counts back from now.

    Raises:
        ValueError: it is neither a duration nor a date, or before 1970.
    """
    moment = _moment(text, now, -1)
    if moment < 0:
        raise ValueError("that is before 1970")
    return moment


def _moment(text: str, now: float, direction: int) -> float:
    if _FORM.match(text):
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"there is no such date; {_WANTED}") from None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    try:
        return now + direction * seconds(text)
    except ValueError:
        raise ValueError(_WANTED) from None
