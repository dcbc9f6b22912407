"""Where the keys of an issuer come from, according to the configuration: pure."""

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
        raise ValueError("is not a URL") from None
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return url
    is_odd = "%" in parts.netloc  # a zone or an escape: two parsers would not read the same host
    if parts.scheme != "https" or not parts.hostname or is_odd or parts.username is not None or parts.fragment:
        raise ValueError("needs the form https://host/path; http is for this machine alone")
    return url


def described_source(issuer: "KeySource") -> str:
    """Where the keys of an issuer are, in words: of a URL no query, which may be a secret, of a secret nothing."""
    if issuer.discovery:
        return f"discovery at {issuer.issuer}"
    if issuer.jwks is not None:
        return issuer.jwks.partition("?")[0]
    return "a shared secret" if issuer.public_key is None else str(issuer.public_key)


class Shared(Protocol):
    """A shared secret, in plain."""

    @property
    def value(self) -> bytes:
        """Its bytes."""


class KeySource(Protocol):
    """An issuer and where its keys are. Times are in seconds."""

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""

    @property
    def algorithms(self) -> Collection[str]:
        """The algorithms its tokens may be signed with."""

    @property
    def jwks(self) -> str | None:
        """Its keys: a URL, or a file."""

    @property
    def discovery(self) -> bool:
        """Whether its keys are found by its discovery document."""

    @property
    def public_key(self) -> Path | None:
        """The file of its one public key."""

    @property
    def secret(self) -> Shared | None:
        """The secret it shares with the gateway."""

    @property
    def refresh(self) -> float:
        """The age at which its keys are fetched again."""

    @property
    def stale(self) -> float:
        """How long its last keys stay in use while fetches fail."""
