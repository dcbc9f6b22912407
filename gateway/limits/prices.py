"""What pages cost, in millionths of a currency and whole numbers: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MILLION: Final = 1_000_000
SPEND: Final = "spend_per_month"  # the limit that is in millionths; all others count
_PAGES_OF_A_PRICE: Final = 1000


@dataclass(frozen=True, slots=True)
class Pricing:
    """The price of one page by mode, in millionths. An unknown mode costs as much as the dearest."""

    per_page: Mapping[str, int]
    default_mode: str | None = None

    def of(self, mode: str | None) -> int:
        """The price of one page of a submit with this mode, as it was sent; None if it names no mode."""
        price = self.per_page.get((self.default_mode or "") if mode is None else mode)
        return price if price is not None else max(self.per_page.values(), default=0)


def make_pricing(per_1000_pages: Mapping[str, Decimal], default_mode: str | None) -> Pricing:
    """Converts prices of 1000 pages, in steps of 0.001, to prices of one page."""
    per_page = {mode: int(price * MILLION / _PAGES_OF_A_PRICE) for mode, price in per_1000_pages.items()}
    return Pricing(per_page, default_mode)
