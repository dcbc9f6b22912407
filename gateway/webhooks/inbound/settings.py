"""The settings that receiving webhooks needs."""

from typing import Protocol


class InboundSettings(Protocol):
    """One of webhooks.in. Times are in seconds."""

    @property
    def name(self) -> str:
        """The last part of the path that they are sent to."""

    @property
    def known(self) -> tuple[bytes, ...]:
        """The accepted secrets."""

    @property
    def forward_to(self) -> str:
        """The URL that they are forwarded to."""

    @property
    def body_limit(self) -> int:
        """Largest body, in bytes."""

    @property
    def timeout(self) -> float:
        """Timeout of forward_to."""

    @property
    def remember(self) -> float:
        """How long a forwarded message is not forwarded again."""

    @property
    def accept_body_secret(self) -> bool:
        """Whether the secret itself in the body is enough."""
