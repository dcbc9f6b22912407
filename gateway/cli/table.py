"""Rows and facts for people: on a terminal framed, in words that people write; otherwise aligned and exact.

What is piped is the same for every reader. A cell may hold outside text (claims of a token): control characters are
replaced, so it can't command a terminal.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.output import is_terminal, is_wide, print_lines, say
from gateway.cli.words import Shown

# What names a row by itself, and what does so where nothing else does.
_NAMES: Final = frozenset({"id", "caller", "request id", "setting", "subject"})
_IDS: Final = _NAMES | {"day", "key", "submit"}
_FOLDED: Final = frozenset({"value", "detail"})
_WRAPPED: Final = "why"  # at its blanks: two words are as good in two lines
_ACTION: Final = "action"  # what was done; beside it the moment may be wrapped, into day and time
_STAYS: Final = frozenset({"value", _WRAPPED, _ACTION})
_LAST_TO_GO: Final = ("key", "status")  # beside a `why`: who, and then with what status
_LEAST: Final = 16


class _Rows(NamedTuple):
    headings: list[str]
    cells: list[list[str]]
    total: list[str] | None
    numbers: frozenset[str]

    def widths(self) -> list[int]:
        """Of each column."""
        lines = [self.headings, *self.cells, *([self.total] if self.total else [])]
        return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]

    def needs(self) -> list[int]:
        """The same, where what may be wrapped is."""
        words = [self._longest_word(i) if self.wraps(name) else 0 for i, name in enumerate(self.headings)]
        return [word or width for word, width in zip(words, self.widths(), strict=True)]

    def wraps(self, heading: str) -> bool:
        """Whether this column may take several lines, broken at blanks."""
        return heading == _WRAPPED or (heading == "at" and _ACTION in self.headings)

    def _longest_word(self, i: int) -> int:
        return max(cell_len(word) for row in (self.headings, *self.cells) for word in row[i].split())

    def only(self, kept: Sequence[int]) -> "_Rows":
        """The same with some columns alone."""
        cells = [[row[i] for i in kept] for row in self.cells]
        total = None if self.total is None else [self.total[i] for i in kept]
        return _Rows([self.headings[i] for i in kept], cells, total, self.numbers)


def printable(text: str) -> str:
    """Replaces each character that could move a cursor or ring a bell."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def shown(value: object) -> str:
    """A value as this output shows it: in words on a terminal, else exact."""
    if isinstance(value, Shown):
        value = value.words if is_terminal() else value.exact
    return printable("-" if value is None else str(value))


def show_facts(facts: Mapping[str, object]) -> None:
    """Prints names and values, a line each; what is None is left out."""
    width = max(map(len, facts), default=0) + 1
    for name, value in facts.items():
        if value is not None:
            print_lines(f"{name:<{width}} {shown(value)}")


def show_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: frozenset[str] = frozenset(),
    total: Sequence[object] | None = None,
    none: str = "",
) -> None:
    """Prints rows below headings; `numbers` names the right-aligned columns.

    `none` is what is said where there are no rows: on a terminal in place of the table, else beside its headings, for
    what reads a pipe finds the same columns always.
    """
    if none and not rows:
        say(none)
        if is_terminal() and total is None:
            return
    cells = [list(map(shown, row)) for row in rows]
    whole = _Rows(list(headings), cells, None if total is None else list(map(shown, total)), numbers)
    if is_terminal():
        _fitted(Console(), whole)
    else:
        print_lines(*_aligned(whole))


def fitting(headings: Sequence[str], widths: Sequence[int], room: int) -> list[int]:
    """The columns that a terminal has room for; none when it has none for those that tell rows apart.

    The last ones go first, then ids that a row can do without; what then has room all the same comes back. Of what
    was refused, who it was and with what status go last; what was done always stays. What folds needs a part of its
    width.
    """
    needed = [min(width, _LEAST) if name in _FOLDED else width for name, width in zip(headings, widths, strict=True)]
    kept, gone = list(range(len(headings))), list[int]()
    for i in _expendable(headings):
        if _frame([needed[k] for k in kept]) <= room:
            break
        kept.remove(i)
        gone.append(i)
    for i in sorted(gone):
        if _frame([needed[k] for k in (*kept, i)]) <= room:
            kept.append(i)
    return sorted(kept) if _frame([needed[k] for k in kept]) <= room else []


def _expendable(headings: Sequence[str]) -> Iterator[int]:
    ids = [i for i, heading in enumerate(headings) if heading in _IDS]
    names = [i for i in ids if headings[i] in _NAMES][:1] or ids
    last = [headings.index(name) for name in _LAST_TO_GO if _WRAPPED in headings and name in headings]
    kept = (*ids, *last)
    yield from (i for i in reversed(range(1, len(headings))) if i not in kept and headings[i] not in _STAYS)
    yield from (i for i in reversed(ids) if i and i not in (*names, *last))
    yield from last


def _fitted(console: Console, rows: _Rows) -> None:
    """A framed table that fits the terminal: columns that have no room are left out, and named below.

    Where there is no room even for ids, each row is a block of lines.
    """
    widths = rows.widths()
    if is_wide():
        _framed(Console(width=max(console.width, _frame(widths))), rows)
        return
    kept = fitting(rows.headings, rows.needs(), console.width)
    if not kept:
        _in_blocks(rows)
        return
    _framed(console, rows.only(kept))
    if len(kept) < len(widths):
        gone = ", ".join(heading for i, heading in enumerate(rows.headings) if i not in kept)
        say(f"Left out, for want of room: {gone} (--wide shows all).")


def _frame(widths: Sequence[int]) -> int:
    return sum(widths) + 3 * len(widths) + 1


def _framed(console: Console, rows: _Rows) -> None:
    table = Table(show_footer=rows.total is not None)
    for i, heading in enumerate(rows.headings):
        footer = "" if rows.total is None else rows.total[i]
        side: Literal["left", "right"] = "right" if heading in rows.numbers else "left"
        folds = heading in _FOLDED or rows.wraps(heading)
        table.add_column(heading, footer=Text(footer), justify=side, overflow="fold", no_wrap=not folds)
    for row in rows.cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _in_blocks(rows: _Rows) -> None:
    width = max(map(len, rows.headings))
    for number, row in enumerate([*rows.cells, *([rows.total] if rows.total else [])]):
        block = [f"{name:<{width}}  {cell}" for name, cell in zip(rows.headings, row, strict=True) if cell]
        print_lines(*([""] if number else []), *block)


def _aligned(rows: _Rows) -> list[str]:
    to_the_right = [name in rows.numbers for name in rows.headings]
    lines = [rows.headings, *rows.cells, *([rows.total] if rows.total else [])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_the_right, strict=True)
        ).rstrip()
        for line in lines
    ]
