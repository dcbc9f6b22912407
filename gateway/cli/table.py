"""Rows for people: a table on a terminal; elsewhere aligned text without a frame, the same whatever reads it.

What stands in a cell may have come from outside (the claims of a token): it never reaches a terminal as a command.
"""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """The text, with a mark in the place of each character that would move a cursor or ring a bell."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def show_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: frozenset[str] = frozenset(),
    total: Sequence[object] | None = None,
) -> None:
    """Prints rows below headings; `numbers` names the columns that are aligned to the right."""
    cells = [[printable("-" if cell is None else str(cell)) for cell in row] for row in rows]
    sums = None if total is None else [printable(str(cell)) for cell in total]
    if sys.stdout.isatty():  # rich's own answer would be another one in CI, by FORCE_COLOR
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
