"""What the output of commands says of grants of pages. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.ledger.usage import GrantRow
from gateway.units import moment


def as_written(grants: Sequence[GrantRow]) -> list[dict[str, Any]]:
    """Grants as JSON has them."""
    return [{"pages": grant.pages, "until": moment(grant.until)} for grant in grants]


def told_ended(name: str, ended: Sequence[GrantRow]) -> str:
    """What is told of grants that were ended now."""
    if not ended:
        return f"{name} has no grants now."
    pages = sum(grant.pages for grant in ended)
    return f"The grants of {name} are ended: {pages} pages less, each day and each month; what was used stays used."
