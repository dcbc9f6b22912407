"""Which ledger a transaction is in: a copy has the same number, and is another one all the same."""

from gateway.ledger.engine import Engine
from gateway.ledger.tables_place import identity_of, number_of, place_of_tables
from tests.support.ledgers import Postgres, open_engine


async def test_a_ledger_stays_the_same(engine: Engine) -> None:
    first = await engine.read(identity_of)
    await engine.write(lambda _: None)
    assert await engine.read(identity_of) == first
    assert len(first) > 1


async def test_each_ledger_has_a_number_of_its_own(engine: Engine, tmp_path: object) -> None:
    other = open_engine(f"sqlite:///{tmp_path}/other.db")
    assert await other.write(number_of) != await engine.read(number_of)
    await other.close()


async def test_a_copy_of_the_same_number_is_another_one(postgres: Postgres) -> None:
    name = postgres.database()
    engine = open_engine(postgres.url_of(name))
    first = await engine.write(identity_of)
    await engine.close()
    postgres.sql(f"CREATE DATABASE {name}copy TEMPLATE {name}")
    copy = open_engine(postgres.url_of(f"{name}copy"))
    found = await copy.write(identity_of)
    await copy.close()
    assert (found[0], found != first) == (first[0], True)


async def test_a_file_that_is_gone_has_no_place(tmp_path: object) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    assert await engine.write(place_of_tables) is None
    await engine.close()
