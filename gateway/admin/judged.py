"""The judgement of a credential that is named or shown, for its operator. Pure."""

from typing import NamedTuple

from gateway.model.identity import Identity
from gateway.model.reasons import Denial


class Judged(NamedTuple):
    """The result: an identity and how it was found; or why it is refused, what would help, and what is answered.

    `is_known` is false where nobody who was asked could tell.
    """

    identity: Identity | None
    text: str
    help: str = ""
    denial: Denial | None = None
    is_known: bool = True
