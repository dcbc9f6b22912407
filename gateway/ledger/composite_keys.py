"""Rows by many keys of several columns, in one statement that finds them by an index on both engines."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, tuple_


def is_one_of(columns: Sequence[Column[Any]], keys: Collection[tuple[Any, ...]]) -> ColumnElement[bool]:
    """Whether the columns have the values of one of these keys.

    SQLite goes through the whole table for a list of tuples alone; it uses an index for lists of single values.
    """
    each = (column.in_({key[place] for key in keys}) for place, column in enumerate(columns))
    return and_(*each, tuple_(*columns).in_(keys))
