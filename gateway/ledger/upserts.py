"""INSERT with a rule for a row that is there already: both engines can, each with its own words.

A dialect is imported when the first statement for it is made: PostgreSQL's takes 2 MB, which SQLite never needs.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from sqlalchemy import Connection, Insert, Table, bindparam

from gateway.ledger.statement import Statement

_DIALECTS: Final = "sqlalchemy.dialects."


class Upsert:
    """An INSERT into a table, ended by `rule`: made once for each engine that asks for it."""

    def __init__(self, table: Table, rule: Callable[[Any], Insert]) -> None:
        self._table = table
        self._rule = rule
        self._made: dict[str, Insert] = {}

    def for_(self, connection: Connection) -> Insert:
        """The statement in the words of this connection's engine."""
        name = connection.dialect.name
        if name not in self._made:
            self._made[name] = self._rule(import_module(_DIALECTS + name).insert(self._table))
        return self._made[name]


def or_nothing(statement: Any) -> Insert:
    """A rule: a row that is there stays as it is."""
    kept: Insert = statement.on_conflict_do_nothing()
    return kept


def or_add(
    table: Table, keys: list[str], added: tuple[str, ...], rows: Sequence[Mapping[str, str]] = ({},)
) -> Statement:
    """INSERT, or add these columns to the row that has these keys.

    Each of several `rows` says which values it has under another name than its column's; all have different keys.
    """
    columns = [table.c[name] for name in (*keys, *added)]
    values = [
        {column: bindparam(row.get(column.name, column.name), type_=column.type) for column in columns}
        for row in rows
    ]

    def rule(statement: Any) -> Insert:
        more = {column: table.c[column] + statement.excluded[column] for column in added}
        changed: Insert = statement.on_conflict_do_update(index_elements=keys, set_=more)
        return changed

    def of(dialect: str) -> Insert:
        return rule(import_module(_DIALECTS + dialect).insert(table).values(values))

    return Statement(of("sqlite"), other=lambda: of("postgresql"))
