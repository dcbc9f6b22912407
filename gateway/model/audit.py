"""One record of the audit trail."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class Action(StrEnum):
    """What the gateway itself records. Changes of keys and webhooks have their own names (`key.create`)."""

    READ = "job.read"
    REFUSED = "request.refused"
    SECRET_SET = "secret.set"  # noqa: S105 -- not a secret, but an event
    SECRET_REMOVED = "secret.removed"  # noqa: S105 -- likewise


class Entry(NamedTuple):
    """Who did what to what. `at` is in seconds since the epoch; `detail` never holds a secret or content."""

    at: int
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
