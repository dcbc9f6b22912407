"""Where the keys of an issuer come from, as the configuration says it: pure."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_fetched(url: str) -> str:
    """Checks that a URL may be fetched from: https, or http on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return url
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("needs the form https://host/path; http is for this machine alone")
    return url


class Shared(Protocol):
    """A secret as it is."""

    @property
    def value(self) -> bytes:
        """Its bytes."""


class KeySource(Protocol):
    """An issuer, by where its keys are. Times are in seconds."""

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""

    @property
    def algorithms(self) -> Collection[str]:
        """What its tokens may be signed with."""

    @property
    def jwks(self) -> str | None:
        """Its keys: a URL, or a file."""

    @property
    def discovery(self) -> bool:
        """Whether its keys are found by its discovery document."""

    @property
    def public_key(self) -> Path | None:
        """Its one public key."""

    @property
    def secret(self) -> Shared | None:
        """The secret that is shared with it."""

    @property
    def refresh(self) -> float:
        """How old its keys may be before they are fetched again."""

    @property
    def stale(self) -> float:
        """How long keys are used on while they can't be fetched."""
