"""Slots for the deletions that each upstream is asked for: one that is silent or refuses delays no other. Pure.

Deletions that an upstream was never asked for go first; of four slots one goes to those that failed before, so that
they come to an end however many new ones there are. An upstream that fails gets what it may have at once only once
in a turn: it would get thousands else.

Of many upstreams a few are looked at together, those first that were not for longest: a question about hundreds is
too long for the ledger, and what they all would get at once too much for the loop.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

_REPEATED_EVERY: Final = 4
TOGETHER: Final = 8
"""Upstreams that are looked at together."""


class DueDeletion(Protocol):
    """A deletion that is due."""

    @property
    def upstream(self) -> str:
        """Who has to delete."""

    @property
    def is_repeated(self) -> bool:
        """Whether it was asked to before."""


T = TypeVar("T", bound=DueDeletion)


class DeletionSlots:
    """How many slots of each upstream are taken, and which upstreams have failed last."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._resting: set[str] = set()
        self._looked_at: dict[str, int] = {}
        self._looks = self._looks_before = 0
        self._is_more = False

    def __repr__(self) -> str:
        return f"<DeletionSlots taken={self._taken.total()} failing={len(self._failing)}>"

    def begin_turn(self) -> None:
        """Lets upstreams that rest be asked again."""
        self._resting.clear()
        self._looks_before = self._looks

    def free(self, upstreams: Iterable[str], most: int) -> dict[str, int]:
        """The next upstreams that may be asked now, and for how many deletions, of `most` at once."""
        free = {name: most - self._taken[name] for name in upstreams if name not in self._resting}
        able = sorted((name for name, number in free.items() if number > 0), key=self._last_look)
        self._is_more = any(self._last_look(name) <= self._looks_before for name in able[TOGETHER:])
        for name in able[:TOGETHER]:
            self._looks += 1
            self._looked_at[name] = self._looks
        return {name: free[name] for name in able[:TOGETHER]}

    def choose(self, due: Sequence[T], free: Mapping[str, int]) -> list[T]:
        """The deletions that go next."""
        chosen: list[T] = []
        for upstream, most in free.items():
            mine = [one for one in due if one.upstream == upstream]
            repeated = [one for one in mine if one.is_repeated]
            first = [one for one in mine if not one.is_repeated]
            share = max(self._share(upstream, most), most - len(first))
            taken = first[: most - min(share, len(repeated))] + repeated[:share]
            self._given[upstream] += len(taken)
            chosen += taken
        return chosen

    def may_go_on(self, claimed: Mapping[str, int], free: Mapping[str, int]) -> bool:
        """Whether upstreams may have more in this turn: such as got all they might at once, or no look."""
        self._resting |= self._failing & claimed.keys()
        return self._is_more or any(
            number >= free[name] and name not in self._resting for name, number in claimed.items()
        )

    def rest(self, upstream: str) -> None:
        """Gives an upstream no more in this turn."""
        self._resting.add(upstream)

    def take(self, upstream: str) -> None:
        """Takes a slot."""
        self._taken[upstream] += 1

    def give_back(self, upstream: str, *, is_deleted: bool) -> None:
        """Frees a slot."""
        self._taken[upstream] -= 1
        if is_deleted:
            self._failing.discard(upstream)
        else:
            self._failing.add(upstream)
            self._resting.add(upstream)

    def _last_look(self, upstream: str) -> int:
        return self._looked_at.get(upstream, 0)

    def _share(self, upstream: str, most: int) -> int:
        """How many of the next slots are for what failed before."""
        given = self._given[upstream]
        return (given + most) // _REPEATED_EVERY - given // _REPEATED_EVERY
