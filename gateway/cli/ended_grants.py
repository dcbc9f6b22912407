"""What the output of commands says of grants of pages. Pure."""

from collections.abc import Collection, Sequence
from typing import Any

from gateway.cli.words import pages_of
from gateway.ledger.usage import GrantRow
from gateway.units import moment


def as_written(grants: Sequence[GrantRow]) -> list[dict[str, Any]]:
    """Grants as JSON has them."""
    return [{"pages": grant.pages, "until": moment(grant.until)} for grant in grants]


def told_granted(name: str, pages: int, until: str, budgets: Collection[str] | None) -> str:
    """What a grant changes; `budgets` of pages are those that the account has, None where that is not known."""
    if budgets is None:
        return f"{name} has {pages_of(pages)} more in each budget of pages that its profile has, until {until}."
    if not budgets:
        return f"{name} is granted {pages_of(pages)} until {until}; it has no budget of pages: nothing changes now."
    spans = " and ".join(f"each {budget.removeprefix('pages_per_')}" for budget in budgets)
    return f"{name} has {pages_of(pages)} more {spans}, until {until}."


def told_ended(name: str, ended: Sequence[GrantRow]) -> str:
    """What is told of grants that were ended now."""
    if not ended:
        return f"{name} has no grants now."
    pages = sum(grant.pages for grant in ended)
    return f"The grants of {name} are ended: {pages_of(pages)} less; what was used stays used."
