"""What counting each account's documents has cost: how much in all, and how much one usually does. Pure.

What it cost in all is forgotten by one CPU second a minute: much more slowly than a budget (cpu_budget.py), for where
many accounts wait, a cost that is forgotten before an account's next turn ranks it beside those that cost nothing.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

_FORGOTTEN: Final = 1 / 60  # CPU seconds a second
_WEIGHT: Final = 0.3  # of the last document, in what one usually costs
DEAR: Final = 0.1
"""CPU seconds: a usual document takes a few milliseconds."""

LARGE: Final = 1_048_576
"""Bytes: a larger document of an account without a history may take long, and is taken for dear."""

MAX: Final = 10_000


class _Cost(NamedTuple):
    total: float
    at: float
    usual: float


class CountHistory:
    """The recent accounts. Costs are in CPU seconds, times in seconds of any clock."""

    def __init__(self) -> None:
        self._costs: OrderedDict[str, _Cost] = OrderedDict()

    def __len__(self) -> int:
        return len(self._costs)

    def add(self, account: str, seconds: float, now: float) -> None:
        """Adds a document's cost. Keeps at most MAX accounts, and drops those charged longest ago."""
        last = self._costs.get(account)
        usual = seconds if last is None else last.usual + _WEIGHT * (seconds - last.usual)
        self._costs[account] = _Cost(self.total(account, now) + seconds, now, usual)
        self._costs.move_to_end(account)
        if len(self._costs) > MAX:
            self._costs.popitem(last=False)

    def total(self, account: str, now: float) -> float:
        """What its documents have cost, as far as it is not forgotten."""
        last = self._costs.get(account)
        return 0.0 if last is None else max(0.0, last.total - (now - last.at) * _FORGOTTEN)

    def is_dear(self, account: str, size: int) -> bool:
        """Whether the next document of an account, of so many bytes, probably takes long."""
        last = self._costs.get(account)
        return size > LARGE if last is None else last.usual > DEAR
