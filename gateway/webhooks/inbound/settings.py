"""What must be known of the configuration to take a webhook."""

from typing import Protocol


class InboundSettings(Protocol):
    """One of webhooks.in. Times are in seconds."""

    @property
    def name(self) -> str:
        """The last part of the path they come to."""

    @property
    def known(self) -> tuple[bytes, ...]:
        """The secrets that are believed."""

    @property
    def forward_to(self) -> str:
        """Where they are handed on to."""

    @property
    def body_limit(self) -> int:
        """Largest body, in bytes."""

    @property
    def timeout(self) -> float:
        """Longest wait for forward_to."""

    @property
    def remember(self) -> float:
        """How long a request_id that was handed on is not handed on again."""

    @property
    def accept_body_secret(self) -> bool:
        """Whether the secret itself in the body is enough."""
