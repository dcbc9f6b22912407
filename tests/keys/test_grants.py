"""Grants of pages: what one may be of, and what ending some before their time takes away."""

import pytest
from sqlalchemy import Connection

from gateway.keys.grants import check_pages, detail_of, ended_grants
from gateway.ledger import usage
from gateway.ledger.engine import Engine
from gateway.ledger.keys import KeyProblem
from gateway.units import MOST_COUNTED
from tests.support.ledgers import NOON

ANN, BOB = "jwt:ann", "key:bob"
NOW = int(NOON)


@pytest.mark.parametrize("pages", [1, 2, MOST_COUNTED])
def test_a_grant_is_of_one_page_or_more(pages: int) -> None:
    check_pages(pages)


@pytest.mark.parametrize("pages", [0, -1, -MOST_COUNTED, MOST_COUNTED + 1])
def test_a_grant_of_none_or_of_more_than_can_be_counted_is_refused(pages: int) -> None:
    with pytest.raises(KeyProblem) as caught:
        check_pages(pages)
    assert caught.value.kind == "invalid"


def given(connection: Connection) -> None:
    """Ann has three grants, one of which is over; Bob has one."""
    for account, pages, until in ((ANN, 5, NOW - 1), (ANN, 7, NOW + 60), (ANN, 11, NOW + 90), (BOB, 13, NOW + 60)):
        usage.grant(connection, account, pages, until, NOON - 100)


def left(connection: Connection, now: float = NOON) -> dict[str, list[int]]:
    return {of: [found.pages for found in usage.grants_of(connection, of, now)] for of in (ANN, BOB)}


async def test_all_present_grants_of_one_account_end_together(engine: Engine) -> None:
    await engine.write(given)
    ended = await engine.write(lambda c: ended_grants(c, ANN, None, NOON))
    assert sorted(found.pages for found in ended) == [7, 11]
    assert await engine.read(left) == {ANN: [], BOB: [13]}
    assert await engine.read(lambda c: usage.read_counts_of_many(c, [ANN, BOB], NOON)[BOB].granted) == 13
    assert await engine.write(lambda c: ended_grants(c, ANN, None, NOON)) == []


async def test_one_grant_ends_alone_and_only_once(engine: Engine) -> None:
    await engine.write(given)
    seven = (await engine.read(lambda c: usage.grants_of(c, ANN, NOON)))[0]
    assert seven.pages == 7
    (ended,) = await engine.write(lambda c: ended_grants(c, ANN, seven.id, NOON))
    assert detail_of(ended) == {"pages": 7, "until": NOW + 60}  # until when it would have been
    assert await engine.read(left) == {ANN: [11], BOB: [13]}
    with pytest.raises(KeyProblem) as caught:
        await engine.write(lambda c: ended_grants(c, ANN, seven.id, NOON))
    assert caught.value.kind == "not_found"


async def test_nobody_ends_a_grant_of_another_account_or_one_that_is_over(engine: Engine) -> None:
    await engine.write(given)
    of_bob = (await engine.read(lambda c: usage.grants_of(c, BOB, NOON)))[0]
    over = (await engine.read(lambda c: usage.grants_of(c, ANN, NOON - 50)))[0]
    assert over.pages == 5
    for grant_id in (of_bob.id, over.id, 10**9):
        with pytest.raises(KeyProblem) as caught:
            await engine.write(lambda c, one=grant_id: ended_grants(c, ANN, one, NOON))  # type: ignore[misc]
        assert caught.value.kind == "not_found"
    assert await engine.read(left) == {ANN: [7, 11], BOB: [13]}
