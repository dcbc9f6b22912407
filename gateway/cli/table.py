"""Rows for people: a framed table on a terminal, otherwise aligned text without a frame, the same for every reader.

A cell may hold outside text (claims of a token): control characters are replaced, so it can't command a terminal.
"""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


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
    if sys.stdout.isatty():  # rich's own check differs in CI, because of FORCE_COLOR
        _framed(Console(), headings, cells, numbers, sums)
        return
    for line in _aligned([list(headings), *cells, *([sums] if sums else [])], [name in numbers for name in headings]):
        click.echo(line)


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
        table.add_column(
            heading, footer=Text(footer), justify="right" if heading in numbers else "left", overflow="fold"
        )
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
