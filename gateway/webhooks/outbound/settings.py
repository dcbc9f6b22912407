"""What must be known of the configuration to send webhooks."""

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
        """PEM file of CAs that receivers' certificates may be of."""

    @property
    def timeout(self) -> float:
        """Longest attempt."""

    @property
    def give_up_after(self) -> float:
        """How long after the job's end it is still tried."""

    @property
    def most_in_flight(self) -> int:
        """Most attempts at once."""

    @property
    def most_in_flight_per_destination(self) -> int:
        """Most attempts at once to one host and port."""

    @property
    def is_on(self) -> bool:
        """Whether there is a secret for anybody."""

    def secrets_for(self, owner: str, now: float) -> Secrets | None:
        """What webhooks of an owner are signed with; `now` in seconds since the epoch."""
