"""Counts refused requests by minute, caller and reason. Pure.

Unauthenticated clients have no name here: together they make one record a minute for each reason, however many they
are. Past `most` combinations of caller and reason, the rest counts as `others`.
"""

from collections.abc import Callable
from typing import Final

from gateway.model.account_names import ANYONE, qualified
from gateway.model.audit import Action, Entry
from gateway.model.reasons import Reason
from gateway.observe.refusal_sampling import OTHERS

_MINUTE: Final = 60
_Counted = tuple[int, str, Reason]


class Refusals:
    """The refusals that were not taken out yet, by minute."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._counts: dict[_Counted, int] = {}

    def add(self, key_id: str | None, reason: Reason, now: float) -> None:
        """Counts a refusal of a key, token, certificate or unknown client; `now` is in seconds since the epoch."""
        counted = (_minute(now), actor_of(key_id), reason)
        if counted not in self._counts and len(self._counts) >= self._most:
            counted = (counted[0], OTHERS, reason)
        self._counts[counted] = self._counts.get(counted, 0) + 1

    def over(self, now: float) -> list[Entry]:
        """Takes out the records of all minutes except the current one."""
        running = _minute(now)
        return self._take(lambda minute: minute != running)

    def all(self) -> list[Entry]:
        """Takes out all records, at shutdown."""
        return self._take(lambda _: True)

    def _take(self, is_due: Callable[[int], bool]) -> list[Entry]:
        due = [counted for counted in self._counts if is_due(counted[0])]
        return [_entry(*counted, self._counts.pop(counted)) for counted in due]


def actor_of(key_id: str | None) -> str:
    """The actor, named like an account: `key:ci`, `jwt:…`, `cert:…`."""
    return ANYONE if key_id is None else qualified(key_id)


def _entry(minute: int, actor: str, reason: Reason, count: int) -> Entry:
    return Entry(minute, actor, Action.REFUSED, str(reason), {"count": count})


def _minute(now: float) -> int:
    return int(now) // _MINUTE * _MINUTE
