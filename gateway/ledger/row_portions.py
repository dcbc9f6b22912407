"""Thousands of rows become values some at a time.

On PostgreSQL a transaction runs on the event loop: between two portions the loop may go on (loop_time.py). It is one
statement all the same, so one snapshot and one round trip, in a transaction or without one.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Select

PORTION: Final = 100  # rows: a millisecond of the costliest
LOOP_TIME: Final = "loop_time"
"""In the `info` of a connection whose transactions run on the event loop: its LoopTime."""
T = TypeVar("T")


def read_in_portions(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    """A query's rows, as they become values."""
    for rows in _in_turns(connection, connection.execute(query).partitions(PORTION)):
        yield from rows


def in_portions(connection: Connection, rows: Sequence[T]) -> Iterator[T]:
    """The same of what was read already."""
    for some in portions_of(connection, rows, PORTION):
        yield from some


def portions_of(connection: Connection, rows: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The portions themselves, of so many rows at most, as for a statement each."""
    return _in_turns(connection, (rows[start : start + most] for start in range(0, len(rows), most)))


def _in_turns(connection: Connection, portions: Iterable[Sequence[T]]) -> Iterator[Sequence[T]]:
    loop_time = connection.info.get(LOOP_TIME)
    for number, portion in enumerate(portions):
        if number and loop_time is not None:
            loop_time.share()
        yield portion
