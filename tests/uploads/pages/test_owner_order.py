"""Which line of many owners is next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.pages import line_order
from gateway.uploads.pages.line_order import LineStanding, QueueLine
from gateway.uploads.pages.owner_order import OwnerOrder

WHAT = st.sampled_from(["add", "note", "owner", "served", "drop", "ask", "ask"])
STEPS = st.lists(
    st.tuples(WHAT, st.integers(0, 2), st.integers(0, 3), st.tuples(st.integers(0, 2), st.booleans())), max_size=60
)


class OwnersWaiting:
    """Lines with what they stand by, and in what order they and their owners are."""

    def __init__(self) -> None:
        self.ways: dict[QueueLine, tuple[int, bool]] = {}  # those of an owner in order
        self.owners: dict[str, int] = {}  # in order, with their places at work
        self.order = OwnerOrder(self.standing)

    def standing(self, line: QueueLine) -> LineStanding:
        rank, is_dear = self.ways[line]
        return LineStanding((rank, 0, 0), self.owners[line.owner], line, is_dear)

    def add(self, line: QueueLine, ways: tuple[int, bool]) -> None:
        self.ways[line] = ways
        self.owners.setdefault(line.owner, 0)
        self.order.add(line)

    def do(self, what: str, line: QueueLine, ways: tuple[int, bool]) -> None:
        match what:
            case "note":
                self.ways[line] = ways
                self.order.note(line)
            case "owner":
                self.owners[line.owner] = ways[0]
                self.order.note_owner(line.owner)
            case "served":
                self.ways[line] = self.ways.pop(line)
                self.owners[line.owner] = self.owners.pop(line.owner)
                self.order.note_served(line)
            case "drop":
                del self.ways[line]
                if all(one.owner != line.owner for one in self.ways):
                    del self.owners[line.owner]
                self.order.drop(line)

    def first(self, *, may_be_dear: bool) -> QueueLine | None:
        found = self.order.first(may_be_dear=may_be_dear)
        return None if found is None else found.line

    def first_of_all(self, *, may_be_dear: bool) -> QueueLine | None:
        able = [
            (rank, at_work, line)
            for owner, at_work in self.owners.items()
            for line, (rank, is_dear) in self.ways.items()
            if line.owner == owner and (may_be_dear or not is_dear)
        ]
        return min(able, key=lambda one: one[:2])[2] if able else None


@given(STEPS)
def test_it_is_the_one_that_a_look_at_all_of_them_finds(
    steps: list[tuple[str, int, int, tuple[int, bool]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_order, "LEAST", 0)
        waiting = OwnersWaiting()
        for what, owner, account, ways in steps:
            line = QueueLine(str(owner), str(account))
            if line in waiting.ways:
                waiting.do(what, line, ways)
            elif what == "add":
                waiting.add(line, ways)
            for may_be_dear in (True, False):
                expected = waiting.first_of_all(may_be_dear=may_be_dear)
                assert waiting.first(may_be_dear=may_be_dear) == expected


def test_what_does_not_wait_is_passed_over() -> None:
    waiting = OwnersWaiting()
    waiting.order.note_owner("nobody")
    waiting.order.note_served(QueueLine("nobody", "a"))
    assert waiting.first(may_be_dear=True) is None
    waiting.add(QueueLine("key:a", "b"), (0, False))
    waiting.order.note_served(QueueLine("key:a", "a"))  # that was its only one
    assert waiting.first(may_be_dear=True) == QueueLine("key:a", "b")
