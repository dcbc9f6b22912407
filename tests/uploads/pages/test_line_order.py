"""Which of many that wait is next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.pages import line_order
from gateway.uploads.pages.line_order import LineOrder, LineStanding, QueueLine

Ways = tuple[int, int, bool]  # rank, places, whether it is dear
WAYS = st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans())


class Lines:
    """Lines with what they stand by; `seen` counts how often one was looked at."""

    def __init__(self) -> None:
        self.ways: dict[QueueLine, Ways] = {}
        self.seen = 0
        self.order = LineOrder[QueueLine](self.standing)

    def standing(self, line: QueueLine) -> LineStanding:
        self.seen += 1
        rank, at_work, is_dear = self.ways[line]
        return LineStanding((rank, 0, 0), at_work, line, is_dear)

    def put_last(self, name: str, ways: Ways) -> None:
        line = QueueLine(name, name)
        self.ways.pop(line, None)
        self.ways[line] = ways
        self.order.put_last(line)

    def note(self, line: QueueLine, ways: Ways) -> None:
        self.ways[line] = ways
        self.order.note(line)

    def drop(self, line: QueueLine) -> None:
        del self.ways[line]
        self.order.drop(line)

    def first(self, *, may_be_dear: bool = True) -> QueueLine | None:
        found = self.order.first(may_be_dear=may_be_dear)
        return None if found is None else found.line

    def first_of_all(self, *, may_be_dear: bool) -> QueueLine | None:
        able = [(ways[:2], line) for line, ways in self.ways.items() if may_be_dear or not ways[2]]
        return min(able, key=lambda one: one[0])[1] if able else None


@given(
    st.lists(st.tuples(st.sampled_from(["put", "note", "drop", "ask", "ask"]), st.integers(0, 9), WAYS), max_size=80)
)
def test_it_is_the_one_that_a_look_at_all_of_them_finds(steps: list[tuple[str, int, Ways]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_order, "LEAST", 0)
        lines = Lines()
        for what, number, ways in steps:
            line = QueueLine(str(number), str(number))
            if what == "put":
                lines.put_last(str(number), ways)
            elif what == "note" and line in lines.ways:
                lines.note(line, ways)
            elif what == "drop" and line in lines.ways:
                lines.drop(line)
            for may_be_dear in (True, False):
                assert lines.first(may_be_dear=may_be_dear) == lines.first_of_all(may_be_dear=may_be_dear)
        assert len(lines.order) == len(lines.ways)


def test_where_a_thousand_wait_few_are_looked_at_for_each_turn() -> None:
    """All were looked at: the documents of 3000 owners took the loop ten seconds, in pieces of some milliseconds."""
    lines = Lines()
    for name in range(1000):
        lines.put_last(str(name), (0, 0, False))
    for turn in range(1000):
        line = lines.first()
        assert line == QueueLine(str(turn), str(turn))
        lines.drop(line)
    assert lines.first() is None
    assert lines.seen < 20_000


def test_a_dear_one_at_the_head_stays_there_for_when_it_may_be_served() -> None:
    lines = Lines()
    for number in range(40):
        lines.put_last(str(number), (0, 0, number < 20))
    assert lines.first(may_be_dear=False) == QueueLine("20", "20")
    assert lines.first() == QueueLine("0", "0")
