"""Callers by token and certificate: who has an account, and who is blocked. Each function is one transaction.

A block counts as a change of keys: it takes the next revision of them, so that every replica sees it as soon as one
of a key.
"""

import json
from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, Connection, Select, String, delete, func, insert, literal, or_, select, union

from gateway.ledger.engine import is_postgres
from gateway.ledger.key_revisions import next_revision
from gateway.ledger.keys import KeyProblem
from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.row_portions import read_in_portions
from gateway.ledger.schema import accounts, blocks
from gateway.model.account_names import OF_CALLERS

MAX_BLOCKS: Final = 10_000
_FULL: Final = f"there are {MAX_BLOCKS} blocked callers already; let go of some first"


class CallerRow(NamedTuple):
    """One caller; `blocked_at` is in seconds since the epoch, None: not blocked. `is_known`: he has an account."""

    account: str
    blocked_at: int | None
    is_known: bool


def callers(  # noqa: PLR0913 -- filters, most by name
    connection: Connection,
    most: int,
    after: str | None = None,
    text: str | None = None,
    *,
    blocked: bool = False,
    among: Collection[str] | None = None,
    seen: Collection[str] = (),
) -> list[CallerRow]:
    """Callers by name, after one of them, with a text in their name; all, or the blocked ones, or some of them.

    `seen` are names of others, who have no account yet.
    """
    if not can_be_stored(after, text):
        return []
    found = select(blocks.c.account)
    names = (found if blocked else union(_known(), found, *_given(connection, seen))).subquery()
    joined = names.outerjoin(blocks, blocks.c.account == names.c.account)
    joined = joined.outerjoin(accounts, accounts.c.account == names.c.account)
    query = select(names.c.account, blocks.c.created_at, accounts.c.account.is_not(None)).select_from(joined)
    if after is not None:
        query = query.where(names.c.account > after)
    if text:
        query = query.where(holds(text, names.c.account))
    if among is not None:
        query = query.where(names.c.account.in_(among))
    rows = read_in_portions(connection, query.order_by(names.c.account).limit(most))
    return [CallerRow(account, at, bool(is_known)) for account, at, is_known in rows]


def _known() -> Select[tuple[str]]:
    return select(accounts.c.account).where(or_(*(accounts.c.account.startswith(name) for name in OF_CALLERS)))


def _given(connection: Connection, names: Collection[str]) -> list[Select[tuple[str]]]:
    """A table of these names: so that the engine sorts them among its own. They are one value, however many."""
    if not names:
        return []
    if is_postgres(connection):
        return [select(func.unnest(literal(list(names), ARRAY(String))).label("account"))]
    return [select(func.json_each(json.dumps(list(names))).table_valued("value").c.value.label("account"))]


def caller(connection: Connection, account: str) -> CallerRow | None:
    """One caller; None if the ledger has no account of him and no block."""
    if not can_be_stored(account):
        return None
    at = connection.execute(select(blocks.c.created_at).where(blocks.c.account == account)).scalar()
    known = connection.execute(select(accounts.c.account).where(accounts.c.account == account)).first()
    return None if at is None and known is None else CallerRow(account, at, known is not None)


def blocked_accounts(connection: Connection) -> frozenset[str]:
    """All that are blocked."""
    return frozenset(row.account for row in read_in_portions(connection, select(blocks.c.account)))


def block(connection: Connection, account: str, now: float) -> bool:
    """Blocks a caller; returns whether that changed anything.

    Raises:
        KeyProblem: there are too many.
    """
    next_revision(connection)
    if _is_blocked(connection, account):
        return False
    if connection.execute(select(func.count()).select_from(blocks)).scalar_one() >= MAX_BLOCKS:
        raise KeyProblem(_FULL)
    connection.execute(insert(blocks), {"account": account, "created_at": int(now)})
    return True


def unblock(connection: Connection, account: str) -> bool:
    """Lets a caller in again; returns whether that changed anything."""
    next_revision(connection)
    return connection.execute(delete(blocks).where(blocks.c.account == account)).rowcount > 0


def _is_blocked(connection: Connection, account: str) -> bool:
    return connection.execute(select(blocks.c.account).where(blocks.c.account == account)).first() is not None
