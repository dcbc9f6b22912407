"""Which line of many owners is next, where an owner may have thousands. Pure.

An owner's turn changes how all of its lines stand, and none of them against another of it. So each owner has an order
of its own lines, and stands among the owners as the first of these does.
"""

from collections.abc import Callable
from functools import partial

from gateway.uploads.pages.line_order import LineOrder, LineStanding, QueueLine


class OwnerOrder:
    """The order of the owners that wait, and of each one's lines. `standing` says how a line stands now."""

    def __init__(self, standing: Callable[[QueueLine], LineStanding]) -> None:
        self._standing = standing
        self._lines: dict[str, LineOrder[QueueLine]] = {}
        # Twice: the first line of an owner may be dear, where another one of it is not.
        self._of_plain = LineOrder[str](partial(self._first_of, may_be_dear=False))
        self._of_all = LineOrder[str](partial(self._first_of, may_be_dear=True))

    def add(self, line: QueueLine) -> None:
        """A line is new: behind the others of its owner, which is behind the other owners if it is new, too."""
        lines = self._lines.get(line.owner)
        if lines is None:
            lines = self._lines[line.owner] = LineOrder(self._standing)
            self._put_owner_last(line.owner)
        lines.put_last(line)
        self.note_owner(line.owner)

    def note(self, line: QueueLine) -> None:
        """Another document of a line is its first."""
        self._lines[line.owner].note(line)
        self.note_owner(line.owner)

    def note_owner(self, owner: str) -> None:
        """An owner has fewer places, and maybe other costs."""
        if owner in self._lines:
            self._of_plain.note(owner)
            self._of_all.note(owner)

    def note_served(self, line: QueueLine) -> None:
        """A line was served, which may wait still: it is the last of its owner's, and its owner that of all."""
        lines = self._lines.get(line.owner)
        if lines is None:
            return
        if line in lines:
            lines.put_last(line)
        self._put_owner_last(line.owner)

    def drop(self, line: QueueLine) -> None:
        """A line waits no more."""
        lines = self._lines[line.owner]
        lines.drop(line)
        if len(lines):
            self.note_owner(line.owner)
            return
        del self._lines[line.owner]
        self._of_plain.drop(line.owner)
        self._of_all.drop(line.owner)

    def first(self, *, may_be_dear: bool) -> LineStanding | None:
        """The next line, if there is one; one that is dear only if that may be."""
        return (self._of_all if may_be_dear else self._of_plain).first(may_be_dear=may_be_dear)

    def _put_owner_last(self, owner: str) -> None:
        self._of_plain.put_last(owner)
        self._of_all.put_last(owner)

    def _first_of(self, owner: str, *, may_be_dear: bool) -> LineStanding | None:
        return self._lines[owner].first(may_be_dear=may_be_dear)
