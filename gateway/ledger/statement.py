"""A statement that is built and compiled once; on SQLite the driver itself runs its text.

SQLAlchemy takes 100 to 200 us to run a statement that it knows, SQLite's driver 5 to 10 (measured), and a submit runs
fifteen. The text is the one that SQLAlchemy compiles, so the tables stay defined in schema.py alone. On PostgreSQL
SQLAlchemy runs it: there a round trip takes longer than either.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from gateway.ledger.engine import is_postgres

_SQLITE: Final = sqlite.dialect()
_DRIVER: Final = "driver_connection"  # an execution option of our own
Clause = Select[Any] | Insert | Update | Delete


class Statement:
    """A statement with named values. `columns` are those that an INSERT writes, if it does not say so itself.

    `other` makes its form on PostgreSQL, where that has words of its own. Values are passed as SQLite takes them:
    its types need no conversion here.
    """

    __slots__ = ("_clause", "_constants", "_make", "_other", "names", "text")

    def __init__(
        self, clause: Clause, columns: Sequence[str] | None = None, other: Callable[[], Clause] | None = None
    ) -> None:
        compiled = clause.compile(dialect=_SQLITE, column_keys=columns)
        names: Any = getattr(compiled, "positiontup", None)
        self._other = other or (lambda: clause)
        self._clause: Clause | None = None
        self.names: tuple[str, ...] = tuple(names or ())
        binds: Any = getattr(compiled, "binds", {})
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._make = _row_class(clause)
        self.text = str(compiled)

    def __repr__(self) -> str:
        return f"<Statement {self.text.split(maxsplit=1)[0]}>"

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Runs it; returns its rows, whose columns are attributes."""
        raw = _driver(connection)
        if raw is None:
            return list(connection.execute(self.of_postgresql(), values))
        return list(map(self._make, self._run(raw, values).fetchall()))

    def first(self, connection: Connection, **values: Any) -> Any:
        """Runs it; returns its first row, or None."""
        raw = _driver(connection)
        if raw is None:
            return connection.execute(self.of_postgresql(), values).first()
        row = self._run(raw, values).fetchone()
        return None if row is None else self._make(row)

    def run(self, connection: Connection, **values: Any) -> int:
        """Runs it; returns how many rows it changed."""
        raw = _driver(connection)
        if raw is None:
            return connection.execute(self.of_postgresql(), values).rowcount
        return self._run(raw, values).rowcount

    def of_postgresql(self) -> Clause:
        """What PostgreSQL is asked, compiled when it is first needed."""
        if self._clause is None:
            self._clause = self._other()
        return self._clause

    def _run(self, raw: sqlite3.Connection, values: dict[str, Any]) -> sqlite3.Cursor:
        given = {**self._constants, **values} if self._constants else values
        try:
            return raw.execute(self.text, [given[name] for name in self.names])
        except sqlite3.Error as error:
            raise DBAPIError.instance(self.text, None, error, sqlite3.Error) from error


def with_driver(connection: Connection) -> Connection:
    """The same connection, of SQLite, on which statements find the driver's own at once."""
    return connection.execution_options(**{_DRIVER: raw_of(connection)})


def _driver(connection: Connection) -> sqlite3.Connection | None:
    """The driver's own connection; None on PostgreSQL."""
    known: sqlite3.Connection | None = connection.get_execution_options().get(_DRIVER)
    return known if known is not None or is_postgres(connection) else raw_of(connection)


def raw_of(connection: Connection) -> sqlite3.Connection:
    """SQLite's own connection."""
    raw: Any = connection.connection.driver_connection
    return raw  # type: ignore[no-any-return] # SQLAlchemy does not know the driver's type


def _row_class(clause: Clause) -> Any:
    """Makes rows of what the driver returns: a class with the columns' names."""
    columns: Any = clause.selected_columns if isinstance(clause, Select) else clause.exported_columns
    row: Any = namedtuple("Row", columns.keys())  # type: ignore[misc]  # noqa: PYI024 -- known only here
    return row._make
