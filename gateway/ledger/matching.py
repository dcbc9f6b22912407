"""Searching: rows in whose columns a text occurs, upper or lower case alike."""

from sqlalchemy import ColumnElement, or_


def can_be_stored(*values: str | int | None) -> bool:
    """Whether the ledger can store these: PostgreSQL takes no NUL, and neither engine a lone surrogate."""
    texts = [value for value in values if isinstance(value, str)]
    return not any("\0" in text or any("\ud800" <= character <= "\udfff" for character in text) for text in texts)


def holds(text: str, *columns: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether one of the columns has the text in it; % and _ are characters like any other."""
    return or_(*(column.icontains(text, autoescape=True) for column in columns))
