"""The settings that sending webhooks needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gateway.webhooks.signature import Secrets


class OutboundSettings(Protocol):
    """webhooks.out. Times are in seconds."""

    @property
    def allow(self) -> Sequence[str]:
        """Where they may go."""

    @property
    def default_url(self) -> str | None:
        """Where they go when a submit names no URL."""

    @property
    def ca(self) -> Path | None:
        """PEM file of CAs that may sign receivers' certificates."""

    @property
    def timeout(self) -> float:
        """Timeout of an attempt."""

    @property
    def give_up_after(self) -> float:
        """How long after the job's end it is still tried."""

    @property
    def most_in_flight(self) -> int:
        """Maximum number of concurrent attempts."""

    @property
    def most_in_flight_per_destination(self) -> int:
        """Maximum number of concurrent attempts to one host and port."""

    @property
    def is_on(self) -> bool:
        """Whether any signing secret is configured."""

    def secrets_for(self, owner: str, now: float) -> Secrets | None:
        """Secrets that sign an owner's webhooks; `now` in seconds since the epoch."""
