"""A statement on either engine: its text is SQLAlchemy's own, and so are its rows, counts and faults."""

from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from gateway.ledger import accounts, jobs, reservations
from gateway.ledger.engine import Engine
from gateway.ledger.schema import accounts as table
from gateway.ledger.statement import Statement

ROW = {"account": "key:a", "tat": 1, "concurrent": 2, "pages_in_flight": 3, "reset_at": 0}
INSERT = Statement(insert(table), tuple(ROW))
FIND = Statement(select(table).where(table.c.account == bindparam("of")))
NAMED = Statement(select(table.c.tat.label("then"), table.c.concurrent).where(table.c.tat >= 1).order_by(table.c.tat))
SET = Statement(update(table).where(table.c.account == bindparam("of")).values(tat=bindparam("new_tat"), reset_at=7))


async def test_rows_have_their_columns_by_name(engine: Engine) -> None:
    def work(connection: Connection) -> Any:
        INSERT.run(connection, **ROW)
        INSERT.run(connection, **{**ROW, "account": "key:b", "tat": 5})
        first = FIND.first(connection, of="key:b")
        return first._asdict(), FIND.first(connection, of="key:c"), [row.then for row in NAMED.all(connection)]

    assert await engine.write(work) == ({**ROW, "account": "key:b", "tat": 5}, None, [1, 5])


async def test_a_change_tells_how_many_rows_it_met_and_keeps_what_its_text_fixes(engine: Engine) -> None:
    def work(connection: Connection) -> Any:
        INSERT.run(connection, **ROW)
        counts = [SET.run(connection, of=name, new_tat=9) for name in ("key:a", "key:b")]
        row = FIND.first(connection, of="key:a")
        return counts, row.tat, row.reset_at

    assert await engine.write(work) == ([1, 0], 9, 7)


async def test_a_row_that_exists_is_the_same_fault_as_sqlalchemys(engine: Engine) -> None:
    def work(connection: Connection) -> None:
        INSERT.run(connection, **ROW)
        INSERT.run(connection, **ROW)

    with pytest.raises(IntegrityError):
        await engine.write(work)
    assert await engine.read(lambda connection: FIND.first(connection, of="key:a")) is None


async def test_what_goes_by_either_way_is_one_transaction(engine: Engine) -> None:
    def work(connection: Connection, *, fails: bool) -> None:
        INSERT.run(connection, **ROW)
        connection.execute(insert(table), {**ROW, "account": "key:b"})
        INSERT.run(connection, **{**ROW, "account": "key:c"})
        if fails:
            raise KeyError

    async def found() -> int:
        return len(await engine.read(NAMED.all))

    with pytest.raises(KeyError):
        await engine.write(lambda connection: work(connection, fails=True))
    assert await found() == 0
    await engine.write(lambda connection: work(connection, fails=False))
    assert await found() == 3


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_a_value_that_is_missing_is_a_fault(engine: Engine) -> None:
    with pytest.raises(KeyError):
        await engine.write(lambda connection: INSERT.run(connection, account="key:a"))


def test_the_text_is_what_sqlalchemy_compiles() -> None:
    made = [value for module in (accounts, jobs, reservations) for value in vars(module).values()]
    statements = [value for value in made if isinstance(value, Statement)]
    assert len(statements) > 10
    for statement in statements:
        clause: Any = statement.of_postgresql()
        names = sorted(set(statement.names))
        if "ON CONFLICT" not in statement.text:
            assert statement.text == str(clause.compile(dialect=sqlite.dialect(), column_keys=names or None))
