"""Where the next page of a list begins that has the newest first (keyset pagination)."""

from typing import Any

from sqlalchemy import ColumnElement, Select, or_


def behind(query: Select[Any], at: ColumnElement[int], moment: int, is_later: ColumnElement[bool]) -> Select[Any]:
    """Continues after a mark: with older rows, and of its own moment with those that come later in the list.

    The first condition says nothing new, but an index can start at it.
    """
    return query.where(at <= moment, or_(at < moment, is_later))
