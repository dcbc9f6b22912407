"""Grants of pages, of keys and of callers alike: what one may be of, and ending it before its time."""

from typing import Any

from sqlalchemy import Connection

from gateway.ledger import usage
from gateway.ledger.keys import KeyProblem
from gateway.units import MOST_COUNTED


def check_pages(pages: int) -> None:
    """Checks of how many pages a grant is.

    Raises:
        KeyProblem: of none, or of more than can be counted.
    """
    if not 0 < pages <= MOST_COUNTED:
        raise KeyProblem("a grant is of one page or more", "invalid", "pages")


def ended_grants(connection: Connection, account: str, grant_id: int | None, now: float) -> list[usage.GrantRow]:
    """Ends one present grant, or all, within a transaction of the ledger; returns which.

    Raises:
        KeyProblem: there is no such grant now.
    """
    ended = usage.end_grants(connection, account, grant_id, now)
    if grant_id is not None and not ended:
        raise KeyProblem(f"{account} has no grant {grant_id} now", "not_found")
    return ended


def detail_of(grant: usage.GrantRow) -> dict[str, Any]:
    """What the audit record says of a grant that was ended: until when it would have been."""
    return {"pages": grant.pages, "until": grant.until}
