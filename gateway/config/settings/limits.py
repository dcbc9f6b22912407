"""The settings of limits: profiles, a key's overrides, prices."""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from gateway.config.settings.fields import CIDR, Bound, Count, Name, Section, Size, default


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise ValueError("is a currency's code, three capital letters such as USD or EUR")
    return text


Money = Annotated[Decimal, Field(ge=0, max_digits=15, decimal_places=3)]
Currency = Annotated[str, AfterValidator(_currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]
Share = Annotated[float, Field(gt=0, le=1)]


class ProfileSettings(Section):
    """Limits that keys share: each key has them for itself. Windows are calendar days and months in UTC."""

    requests_per_minute: Count = 200
    """Submits a minute; all of them may come at once, then they are earned back evenly."""
    polls_per_minute: Count = 6000
    """All other requests a minute, counted by each replica for itself."""
    concurrent_requests: Count = 400
    """Submits that have no answer yet; as many requests of kind plain, in each replica."""
    concurrent_downloads: Count = 100
    """Answers about jobs that its clients have not taken yet, in each replica; not those that came at once."""
    pages_in_flight: Count = 20_000
    """Pages of jobs that are not settled yet."""
    pages_per_request: Count = 5000
    """Most pages of one job, and what is reserved for a document whose pages can't be counted."""
    body_limit: Size = default("200MB")
    """Largest request body; multipart framing may add 0.1 %, at most 8 KB."""
    pages_per_day: Bound | None = None
    """Pages a day; null: any number."""
    pages_per_month: Bound | None = None
    """Pages a month; null: any number."""
    requests_per_day: Bound | None = None
    """Submits a day; null: any number."""
    requests_per_month: Bound | None = None
    """Submits a month; null: any number."""
    spend_per_month: Money | None = None
    """What the pages of a month may cost, by prices; null: any sum."""
    soft_limit: Share = 0.8
    """The share of a budget from which on it is reported: by an event, a metric and a header."""
    page_range: Literal["optional", "required"] = "optional"
    """required: a submit without page_range is refused."""
    networks: list[CIDR] = []
    """Networks its keys may be used from, within network.allow; empty: all of these."""
    routes: list[Name] = []
    """Names of the routes its keys may use; empty: all."""


class LimitOverrides(Section):
    """Limits of one key that differ from its profile's; what is left out is the profile's."""

    requests_per_minute: Count | None = None
    polls_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    concurrent_downloads: Count | None = None
    pages_in_flight: Count | None = None
    pages_per_request: Count | None = None
    body_limit: Size | None = None
    pages_per_day: Bound | None = None
    pages_per_month: Bound | None = None
    requests_per_day: Bound | None = None
    requests_per_month: Bound | None = None
    spend_per_month: Money | None = None
    soft_limit: Share | None = None
    page_range: Literal["optional", "required"] | None = None

    @model_validator(mode="after")
    def _only_budgets_end(self) -> "LimitOverrides":
        for name in self.model_fields_set:
            if getattr(self, name) is None and name not in BUDGETS:
                raise ValueError(f"{name} can't be none (null), as budgets of a day or a month can: leave it out")
        return self

    def given(self) -> dict[str, Any]:
        """The overrides of the profile; a budget that is None here is unlimited."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


BUDGETS = frozenset({"pages_per_day", "pages_per_month", "requests_per_day", "requests_per_month", "spend_per_month"})


def _known_modes(prices: dict[str, Decimal]) -> dict[str, Decimal]:
    return {"fast": Decimal(0), "balanced": Decimal(0), "accurate": Decimal(0), **prices}


class Prices(Section):
    """What turns pages into spend, in a currency of your choice."""

    per_1000_pages: Annotated[dict[Literal["fast", "balanced", "accurate"], Money], AfterValidator(_known_modes)] = (
        default({"fast": 0, "balanced": 0, "accurate": 0})
    )
    """Price of 1000 pages by mode, in steps of 0.001."""
    default_mode: Literal["fast", "balanced", "accurate"] | None = None
    """The mode of a submit that names none; null: priced as the dearest."""
    currency: Currency | None = None
    """What the prices are in, such as USD (ISO 4217), for commands that show sums; null: these stand alone."""
