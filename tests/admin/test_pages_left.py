"""Whether what a budget of pages refused would be refused now, too."""

import pytest

from gateway.admin.pages_left import is_short
from gateway.ledger.refusals import RefusalRow

NEEDS_SIX = "5 of 10 are used or reserved and this needs 6 (pages_per_month); it resets on 2026-12-01."


@pytest.mark.parametrize(
    ("detail", "left", "is_refused"),
    [
        (NEEDS_SIX, {"acme": 5}, True),
        (NEEDS_SIX, {"acme": 6}, False),
        (NEEDS_SIX, {"acme": None}, False),
        (NEEDS_SIX, {"other": 6}, True),
        ("Words of another release.", {"acme": 0}, True),
        ("Words of another release.", {"acme": 1}, False),
        (None, {"acme": 0}, True),
    ],
)
def test_it_is_refused_while_less_is_left_than_was_asked(
    detail: str | None, left: dict[str, int | None], is_refused: bool
) -> None:
    row = RefusalRow("r", 0, 1, 403, "budget_exhausted", None, "submit", "POST", "acme", "::1", detail)
    assert is_short(row, left) is is_refused
