"""Keys in a ledger, each with one secret, whose digest is made of a text."""

from typing import Any, Final

from gateway.ledger.engine import Engine
from gateway.ledger.keys import NewKeyRow, create, rotate
from gateway.model.keys import KeyRecord
from tests.support.ledgers import NOON

NOW: Final = int(NOON)
DAY: Final = 86_400


def digest(text: str) -> bytes:
    return text.encode().ljust(32, b".")


def new(key_id: str = "ci", **values: Any) -> NewKeyRow:
    """A key that is to be made."""
    return NewKeyRow(key_id, "default", "owner", **values)


async def make(engine: Engine, key_id: str = "ci", **values: Any) -> KeyRecord:
    """Makes a key, with its id for a secret."""
    return await engine.write(lambda c: create(c, new(key_id, **values), digest(key_id), NOON))


async def turn(
    engine: Engine, text: str, at: float = NOON, overlap: float = DAY, operation: str | None = None
) -> Any:
    """Rotates the key `ci`."""
    return await engine.write(lambda c: rotate(c, "ci", digest(text), overlap, at, operation))
