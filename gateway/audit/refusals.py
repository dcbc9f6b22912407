"""Counts refused requests by minute, caller and reason, each with its first and its last moment. Pure.

Unauthenticated clients have no name here: together they make one record a minute for each reason, however many they
are. Past `most` combinations of caller and reason, the rest counts as `others`.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.model.account_names import ANYONE, qualified
from gateway.model.audit import Action, Entry
from gateway.model.reasons import Reason
from gateway.observe.refusal_sampling import OTHERS

_MINUTE: Final = 60
_Counted = tuple[int, str, Reason]


class _Tally(NamedTuple):
    """How many, and when; moments are in seconds since the epoch."""

    times: int
    first_at: int
    last_at: int

    def and_at(self, now: float) -> "_Tally":
        """With one more."""
        return _Tally(self.times + 1, min(self.first_at, int(now)), max(self.last_at, int(now)))


class Refusals:
    """The refusals that were not taken out yet, by minute."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._tallies: dict[_Counted, _Tally] = {}

    def add(self, key_id: str | None, reason: Reason, now: float) -> None:
        """Counts a refusal of a key, token, certificate or unknown client; `now` is in seconds since the epoch."""
        counted = (_minute(now), actor_of(key_id), reason)
        if counted not in self._tallies and len(self._tallies) >= self._most:
            counted = (counted[0], OTHERS, reason)
        self._tallies[counted] = self._tallies.get(counted, _Tally(0, int(now), int(now))).and_at(now)

    def over(self, now: float) -> list[Entry]:
        """Takes out the records of all minutes except the current one."""
        running = _minute(now)
        return self._take(lambda minute: minute != running)

    def all(self) -> list[Entry]:
        """Takes out all records, at shutdown."""
        return self._take(lambda _: True)

    def _take(self, is_due: Callable[[int], bool]) -> list[Entry]:
        due = [counted for counted in self._tallies if is_due(counted[0])]
        return [_entry(actor, reason, self._tallies.pop((minute, actor, reason))) for minute, actor, reason in due]


def actor_of(key_id: str | None) -> str:
    """The actor, named like an account: `key:ci`, `jwt:…`, `cert:…`."""
    return ANYONE if key_id is None else qualified(key_id)


def _entry(actor: str, reason: Reason, tally: _Tally) -> Entry:
    """Of the last moment: so it stands behind what an administrator did that refused it."""
    detail = {"count": tally.times, "first_at": tally.first_at}
    return Entry(tally.last_at, actor, Action.REFUSED, str(reason), detail)


def _minute(now: float) -> int:
    return int(now) // _MINUTE * _MINUTE
