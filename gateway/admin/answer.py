"""What all answers of the admin API have in common: their fields, of which none has room for a digest. Pure."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, RootModel, WithJsonSchema

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Day = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class Answer(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Document(RootModel[dict[str, Any]]):
    """The OpenAPI document."""


class LimitState(Answer):
    """One limit of an account, and how much of it is used; null: it is not counted, or has no window."""

    limit: int | float
    used: int | float | None = None
    remaining: int | float | None = None
    resets_at: Moment | None = None
    soft_limit_crossed: bool = False


class GrantedUntil(Answer):
    """Pages that the budgets have on top, and until when."""

    id: int
    """What it is called to end it early."""
    pages: int
    until: Moment


class AmountUsed(Answer):
    """What was used in a window."""

    requests: int
    pages: int
    spend: float
