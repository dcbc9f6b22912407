"""Keys as they are read from the ledger: whole, page by page, and with what can't be read of them."""

from ipaddress import ip_network

import pytest
from sqlalchemy import update

from gateway.ledger.engine import Engine
from gateway.ledger.key_records import all_keys, keys_page
from gateway.ledger.keys import NewKeyRow, create, one_key
from gateway.ledger.schema import keys
from tests.support.ledgerkeys import DAY, NOW, digest, make, new
from tests.support.ledgers import NOON


async def test_a_key_is_read_as_it_was_made(engine: Engine) -> None:
    limits = {"pages_per_day": 5, "soft_limit": 0.5}
    made = await make(
        engine, scopes=("a", "b"), networks=("10.0.0.0/8", "::1/128"), limits=limits, expires_at=NOW + DAY
    )
    assert made == await engine.read(lambda c: one_key(c, "ci"))
    assert made.scopes == ("a", "b")
    assert made.networks == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (made.limits, made.expires_at, made.disabled_at, made.revision) == (limits, NOW + DAY, None, 1)
    (first,) = made.generations
    assert (first.number, first.digest, first.created_at, first.last_used_at) == (1, digest("ci"), NOW, None)


async def test_keys_come_in_pages_and_are_found_by_what_they_are_called(engine: Engine) -> None:
    for number, name in enumerate(["a", "a-b", "ab", "b", "z9"]):
        row = NewKeyRow(name, "gold" if name == "b" else "default", f"Team{number}")
        await engine.write(lambda c, row=row: create(c, row, row.id.encode().ljust(32), NOON))  # type: ignore[misc] # its defaults are the values
    found, after = [], None
    while page := await engine.read(lambda c, after=after: keys_page(c, 2, after)):  # type: ignore[misc] # its defaults are the values
        found += [record.id for record in page]
        after = found[-1]
    assert sorted(found) == ["a", "a-b", "ab", "b", "z9"]
    assert len(found) == 5
    for text, ids in [("gol", ["b"]), ("team4", ["z9"]), ("Z", ["z9"]), ("_", []), ("a-", ["a-b"])]:
        page = await engine.read(lambda c, text=text: keys_page(c, 9, text=text))  # type: ignore[misc] # its defaults are the values
        assert [record.id for record in page] == ids
    assert page[0].generations[0].number == 1


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("limits", '{"limit_of_the_next_release": 1}'),
        ("limits", '{"pages_per_day": "5"}'),
        ("limits", '{"requests_per_minute": null}'),
        ("limits", '{"needs_page_range": 1}'),
        ("limits", '{"name": "x"}'),
        ("limits", "[1]"),
        ("limits", "{"),
        ("networks", '["nowhere"]'),
        ("networks", "{}"),
        ("scopes", "[[]]"),
        ("scopes", "null"),
    ],
)
async def test_what_can_not_be_read_of_a_key_is_named_and_leaves_the_others(
    engine: Engine, column: str, text: str
) -> None:
    for name in ("a", "b"):
        await engine.write(lambda c, name=name: create(c, new(name), digest(name), NOON))  # type: ignore[misc]
    await engine.write(lambda c: c.execute(update(keys).where(keys.c.id == "a").values({column: text})))
    broken, sound = await engine.read(all_keys)
    assert (broken.id, broken.unreadable, bool(getattr(broken, column))) == ("a", (column,), False)
    assert (sound.id, sound.unreadable) == ("b", ())
    assert [found.number for found in broken.generations] == [1]
