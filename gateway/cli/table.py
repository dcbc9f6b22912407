"""Rows for people: a framed table on a terminal, otherwise aligned text without a frame, the same for every reader.

A cell may hold outside text (claims of a token): control characters are replaced, so it can't command a terminal.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.output import is_terminal, is_wide, say, tell

_IDS: Final = frozenset({"id", "key", "request id", "submit", "subject", "day", "setting"})


def printable(text: str) -> str:
    """Replaces each character that could move a cursor or ring a bell."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def show_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: frozenset[str] = frozenset(),
    total: Sequence[object] | None = None,
) -> None:
    """Prints rows below headings; `numbers` names the right-aligned columns."""
    cells = [[printable("-" if cell is None else str(cell)) for cell in row] for row in rows]
    sums = None if total is None else [printable(str(cell)) for cell in total]
    if is_terminal():
        _fitted(Console(), headings, cells, numbers, sums)
        return
    for line in _aligned([list(headings), *cells, *([sums] if sums else [])], [name in numbers for name in headings]):
        tell(line)


def show_facts(facts: Mapping[str, object]) -> None:
    """Prints names and values, a line each; what is None is left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value is not None:
            tell(f"{name:<{width}} {printable(str(value))}")


def _fitted(
    console: Console,
    headings: Sequence[str],
    cells: list[list[str]],
    numbers: frozenset[str],
    total: list[str] | None,
) -> None:
    """A framed table that fits the terminal: columns that have no room are left out, and named below."""
    widths = [max(map(len, column)) for column in zip(headings, *cells, *([total] if total else []), strict=True)]
    kept = list(range(len(headings))) if is_wide() else fitting(headings, widths, console.width)
    chosen = [[row[i] for i in kept] for row in cells]
    sums = None if total is None else [total[i] for i in kept]
    if is_wide():
        console = Console(width=max(console.width, _frame(widths)))
    _framed(console, [headings[i] for i in kept], chosen, numbers, sums)
    if len(kept) < len(headings):
        gone = ", ".join(heading for i, heading in enumerate(headings) if i not in kept)
        say(f"Left out, for want of room: {gone} (--wide shows all).")


def fitting(headings: Sequence[str], widths: Sequence[int], room: int) -> list[int]:
    """The columns that a terminal has room for: the last ones go first, what tells rows apart stays."""
    kept = list(range(len(headings)))
    for i in reversed(range(1, len(headings))):
        if _frame([widths[k] for k in kept]) <= room:
            break
        if headings[i] not in _IDS:
            kept.remove(i)
    return kept


def _frame(widths: Sequence[int]) -> int:
    return sum(widths) + 3 * len(widths) + 1


def _framed(
    console: Console,
    headings: Sequence[str],
    cells: list[list[str]],
    numbers: frozenset[str],
    total: list[str] | None,
) -> None:
    table = Table(show_footer=total is not None)
    for i, heading in enumerate(headings):
        footer = "" if total is None else total[i]
        side: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, footer=Text(footer), justify=side, overflow="fold", no_wrap=heading in _IDS)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _aligned(lines: list[list[str]], to_the_right: list[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_the_right, strict=True)
        ).rstrip()
        for line in lines
    ]
