"""Who called since the start, and who was refused: two bounded tables in memory. Pure.

Names of strangers are addresses, of which they may have any number; so strangers have a table of their own, and push
no known caller out. In each table the one that was seen longest ago gives way. Times are seconds since the epoch.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.model.account_names import qualified, unqualified
from gateway.model.reasons import REFUSALS, Reason, Why
from gateway.model.request import Exchange

MOST: Final = 2000
_MAX_DETAIL: Final = 300
_RefusalKey = tuple[str, Reason, Why | None]


@dataclass(slots=True)
class Refusal:
    """One caller refused for one reason, and of his credential for one `why`.

    `who` is a key's account, an owner, or a stranger's address. Client, route, detail and audience are of the last
    time. The owner of a refused token is shown by name, but the row gives way as a stranger's.
    """

    who: str
    is_stranger: bool
    reason: Reason
    why: Why | None
    first_at: float
    last_at: float = 0.0
    count: int = 0
    client: str = ""
    route: str = ""
    detail: str = ""
    audience: str | None = None


@dataclass(slots=True)
class Sighting:
    """One caller with a known credential, as this process last saw him."""

    account: str
    first_at: float
    last_at: float = 0.0
    profile: str | None = None
    client: str = ""
    requests: int = 0
    refusals: int = 0


class CallersSeen:
    """Both tables, kept by the observer; `dropped` counts the rows of refusals that had to give way."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._refusals: dict[bool, OrderedDict[_RefusalKey, Refusal]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }
        self._sightings: OrderedDict[str, Sighting] = OrderedDict()
        self.dropped = 0

    def note(self, exchange: Exchange, now: float) -> None:
        """Takes a finished request."""
        name = exchange.key_id
        is_refused = exchange.reason in REFUSALS
        if is_refused:
            self._refuse(exchange, now)
        if name is not None:
            self._see(name, exchange, now, is_refused=is_refused)

    def refusals(self) -> Iterator[Refusal]:
        """All rows, those of known callers first."""
        yield from self._refusals[False].values()
        yield from self._refusals[True].values()

    def sighting(self, account: str) -> Sighting | None:
        """How a caller was last seen."""
        return self._sightings.get(unqualified(account))

    def callers(self) -> list[str]:
        """The accounts of those that came with a token or a certificate."""
        return [name for name in self._sightings if ":" in name]

    def _see(self, name: str, exchange: Exchange, now: float, *, is_refused: bool) -> None:
        seen = self._sightings.get(name)
        if seen is None:
            seen = self._sightings[name] = Sighting(qualified(name), now)
        self._sightings.move_to_end(name)
        seen.last_at, seen.client, seen.profile = now, exchange.client_ip, exchange.profile or seen.profile
        seen.requests += 1
        seen.refusals += is_refused
        if len(self._sightings) > self._most:
            self._sightings.popitem(last=False)

    def _refuse(self, exchange: Exchange, now: float) -> None:
        name, bearer = exchange.name, exchange.bearer
        who = exchange.client_ip if name is None else qualified(name)
        rows = self._refusals[exchange.key_id is None]
        key = who, exchange.reason, exchange.why
        row = rows.get(key)
        if row is None:
            row = rows[key] = Refusal(who, name is None, exchange.reason, exchange.why, now)
        rows.move_to_end(key)
        row.last_at, row.client, row.route = now, exchange.client_ip, exchange.route
        row.count += 1
        row.audience = bearer.audience if bearer else None
        row.detail = (exchange.detail or "")[:_MAX_DETAIL]
        if len(rows) > self._most:
            rows.popitem(last=False)
            self.dropped += 1
