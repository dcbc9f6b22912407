"""Sizes, spans, moments and money as people write them, which is what a terminal shows. Pure.

Each is a Shown: the exact value, for pipes, and its words. What people type is read by gateway.units and times.
"""

from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Final, NamedTuple

from gateway.limits.prices import MILLION
from gateway.units import DAY

_SIZES: Final = ("B", "KB", "MB", "GB")
_SPANS: Final = (("d", DAY), ("h", 3600), ("min", 60), ("s", 1))
_SYMBOLS: Final = {"EUR": "€", "GBP": "£", "USD": "$"}
_SHORT: Final = 60


class Shown(NamedTuple):
    """A value as it is, and as people write it."""

    exact: object
    words: str


def size(count: int) -> Shown:
    """Bytes: `1.2 GB`, of 1024 MB each, as the configuration writes them."""
    return Shown(count, in_bytes(count))


def at(moment: str | None, now: float | None = None, zone: tzinfo | None = None) -> Shown | None:
    """A moment in ISO 8601: `2026-11-23 17:31:22+01:00`, in the zone of this machine or of `zone`.

    With `now`, in seconds since the epoch, it also says how far away that is: `(in 3 h 20 min)`.
    """
    if moment is None:
        return None
    found = datetime.fromisoformat(moment)
    away = "" if now is None else f" ({away_from(found.timestamp(), now)})"
    return Shown(moment, f"{_local(found, zone)}{away}")


def away(moment: str | None, now: float) -> Shown | None:
    """A moment in ISO 8601 as `in 3 h 20 min` or `2 d ago`; `now` is in seconds since the epoch."""
    return None if moment is None else Shown(moment, away_from(datetime.fromisoformat(moment).timestamp(), now))


def spend(millionths: int, currency: str | None) -> Shown:
    """A sum, exact with at least two decimals, and as `$12.30` or `12.30 CHF`."""
    return Shown(money(millionths), in_currency(millionths, currency))


def pages_of(count: int) -> str:
    """`1 page`, `2 pages`."""
    return f"{count} page" if count == 1 else f"{count} pages"


def in_bytes(count: int) -> str:
    """Bytes in words."""
    power = 0
    while power < len(_SIZES) - 1 and round(count / 1024**power, 1) >= 1024:  # noqa: PLR2004 -- of a unit in the next
        power += 1
    return f"{count / 1024**power:.1f}".removesuffix(".0") + f" {_SIZES[power]}"


def in_seconds(seconds: float) -> str:
    """A span in its two largest units: `3 h 20 min`, `20 ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _SHORT:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    place = next(i for i, (_, length) in enumerate(_SPANS) if seconds >= length)
    (unit, length), (lesser, part) = _SPANS[place : place + 2]
    whole, rest = divmod(int(seconds), length)
    return f"{whole} {unit} {rest // part} {lesser}" if rest >= part else f"{whole} {unit}"


def away_from(moment: float, now: float) -> str:
    """How far a moment is from now."""
    seconds = abs(moment - now)
    if seconds < 1:
        return "now"
    return f"in {in_seconds(seconds)}" if moment > now else f"{in_seconds(seconds)} ago"


def why_of(reason: str, why: str | None) -> str:
    """A refusal in one word or two: `token_invalid: audience`, `upstream_unreachable`."""
    return f"{reason}: {why}" if why else reason


def money(millionths: int) -> str:
    """A sum in millionths of a currency, written exactly, with at least two decimals."""
    whole, _, rest = f"{Decimal(millionths) / MILLION:.6f}".partition(".")
    return f"{whole}.{rest[:2]}{rest[2:].rstrip('0')}"


def in_currency(millionths: int, currency: str | None) -> str:
    """A sum in words; without a currency it stands alone."""
    whole, _, rest = money(abs(millionths)).partition(".")
    text, sign = f"{int(whole):,}.{rest}", "-" if millionths < 0 else ""
    symbol = _SYMBOLS.get(currency or "", "")
    return f"{sign}{symbol}{text}" if symbol or currency is None else f"{sign}{text} {currency}"


def _local(moment: datetime, zone: tzinfo | None) -> str:
    try:
        found = moment.astimezone(zone)
    except OverflowError:  # the last day there is, east of Greenwich
        found = moment
    return found.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
