"""Requests that were refused, counted by minute, caller and reason. Pure.

A stranger has no name here, so all strangers together make one record a minute for each reason, however many they
are; and past `most` callers and reasons the rest of them count as `others`.
"""

from collections.abc import Callable
from typing import Final

from gateway.model.audit import Action, Entry
from gateway.model.reasons import Reason

ANYONE: Final = "anyone"
OTHERS: Final = "others"
_MINUTE: Final = 60
_Counted = tuple[int, str, Reason]


class Refusals:
    """What was refused in minutes that were not taken yet."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._counts: dict[_Counted, int] = {}

    def add(self, key_id: str | None, reason: Reason, now: float) -> None:
        """Counts a request of a key, token or certificate, or of nobody known; `now` is seconds since the epoch."""
        counted = (_minute(now), actor_of(key_id), reason)
        if counted not in self._counts and len(self._counts) >= self._most:
            counted = (counted[0], OTHERS, reason)
        self._counts[counted] = self._counts.get(counted, 0) + 1

    def over(self, now: float) -> list[Entry]:
        """Takes the records of all minutes but the one that runs."""
        running = _minute(now)
        return self._take(lambda minute: minute != running)

    def all(self) -> list[Entry]:
        """Takes all there is, at the end."""
        return self._take(lambda _: True)

    def _take(self, is_due: Callable[[int], bool]) -> list[Entry]:
        due = [counted for counted in self._counts if is_due(counted[0])]
        return [_entry(*counted, self._counts.pop(counted)) for counted in due]


def actor_of(key_id: str | None) -> str:
    """Who it was, as accounts are named: `key:ci`, `jwt:…`, `cert:…`; ids of keys have no colon."""
    if key_id is None:
        return ANYONE
    return key_id if ":" in key_id else f"key:{key_id}"


def _entry(minute: int, actor: str, reason: Reason, count: int) -> Entry:
    return Entry(minute, actor, Action.REFUSED, str(reason), {"count": count})


def _minute(now: float) -> int:
    return int(now) // _MINUTE * _MINUTE
