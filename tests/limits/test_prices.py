from decimal import Decimal

import pytest

from gateway.limits.prices import Pricing, make_pricing


def test_prices_of_a_thousand_pages_are_whole_millionths_of_one() -> None:
    made = make_pricing({"fast": Decimal("2.5"), "accurate": Decimal("6.001"), "free": Decimal(0)}, "fast")
    assert made == Pricing({"fast": 2500, "accurate": 6001, "free": 0}, "fast")


@pytest.mark.parametrize(
    ("mode", "default", "price"),
    [
        ("fast", None, 2),
        ("accurate", "fast", 6),
        (None, "fast", 2),
        ("", "fast", 6),  # an empty field is a mode that nobody knows
        (None, None, 6),  # nobody knows: the dearest
        ("new", "fast", 6),
        (None, "gone", 6),
    ],
)
def test_what_nobody_knows_costs_what_the_dearest_does(mode: str | None, default: str | None, price: int) -> None:
    assert Pricing({"fast": 2, "accurate": 6}, default).of(mode) == price


def test_without_prices_all_is_free() -> None:
    assert make_pricing({}, None).of("fast") == 0
