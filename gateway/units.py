"""Durations and sizes as people write them, with a unit: pure."""

import re
from datetime import UTC, datetime
from typing import Final

DAY: Final = 86_400  # seconds
_QUANTITY: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,3})?) ?(?P<unit>[A-Za-z]+)\Z")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": float(DAY)}
_BYTES: Final = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


def seconds(text: object) -> float:
    """Reads a duration such as `500ms`, `5s` or `1h`.

    Raises:
        ValueError: the text is not a duration, or has no unit.
    """
    return _quantity(text, _SECONDS, "a duration with its unit, such as 5s, 500ms or 1h")


def size(text: object) -> int:
    """Reads a size such as `200MB`, in bytes; 1KB is 1024 bytes.

    Raises:
        ValueError: the text is not a size, or has no unit.
    """
    return int(_quantity(text, _BYTES, "a size with its unit, such as 200MB or 1KB"))


def _quantity(text: object, units: dict[str, int] | dict[str, float], wanted: str) -> float:
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None or match["unit"] not in units:
        raise ValueError(f"write {wanted} (units: {', '.join(units)})")
    return float(match["number"]) * units[match["unit"]]


MOST_COUNTED: Final = 10**12  # of anything that is counted: sums of it still fit the ledger's 64 bits
LATEST: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def milliseconds(seconds: float) -> int:
    """A time in seconds as the ledger keeps those that have to be finer: whole milliseconds, rounded down."""
    return int(seconds * 1000)


def moment(seconds: float) -> str:
    """Formats a moment given in seconds since the epoch; one out of the range of dates becomes the nearest in it."""
    return f"{datetime.fromtimestamp(max(0, min(seconds, LATEST)), UTC):%Y-%m-%dT%H:%M:%SZ}"


def maybe_moment(seconds: float | None) -> str | None:
    """A moment, if there is one."""
    return None if seconds is None else moment(seconds)


def day(period: int) -> str:
    """A day such as 20261123, as 2026-11-23."""
    return f"{period // 10_000:04}-{period // 100 % 100:02}-{period % 100:02}"
