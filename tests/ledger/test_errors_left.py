"""An error of a transaction holds nothing of it, but tells where it was raised."""

import gc
import re
import weakref
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection, insert

from gateway.errors import whereabouts
from gateway.ledger.engine import Engine
from gateway.ledger.schema import accounts
from gateway.model.networks import parse_address


class Held:
    """What a transaction works with."""


def misread(_: Held, __: Connection) -> None:
    parse_address("canary")


def insert_half(_: Held, connection: Connection) -> None:
    connection.execute(insert(accounts).values(account="key:ci"))


async def _fails(engine: Engine, work: Callable[[Connection], None]) -> str:
    try:
        await engine.write(work)
    except Exception as error:  # noqa: BLE001 -- whatever it is
        return whereabouts(error)
    return "nothing"


@pytest.mark.parametrize(
    ("work", "place"),
    [
        (misread, r"ValueError at gateway/model/networks\.py:\d+"),
        (insert_half, r"IntegrityError at gateway/ledger/\w+\.py:\d+"),
    ],
)
async def test_it(engine: Engine, work: Callable[[Held, Connection], None], place: str) -> None:
    held = Held()
    kept = weakref.ref(held)
    gc.disable()
    try:
        assert re.fullmatch(place, await _fails(engine, partial(work, held)))
        await engine.write(lambda _: None)  # a thread holds the last work until the next
        del held
        assert kept() is None
    finally:
        gc.enable()
