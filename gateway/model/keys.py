"""A key of the ledger, with its generations of secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any


@dataclass(frozen=True, slots=True)
class Generation:
    """One secret of a key. Times are seconds since the epoch; `digest` is its SHA-256."""

    number: int
    digest: bytes
    created_at: int
    not_after: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None

    def is_live(self, now: float) -> bool:
        """Whether it is accepted."""
        return self.revoked_at is None and (self.not_after is None or self.not_after > now)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key of the ledger. `limits` are its overrides of its profile, by the names of Profile's fields.

    `unreadable` names what this release can't read of it and has left empty: such a key opens nothing.
    """

    id: str
    profile: str
    owner: str
    created_at: int
    revision: int
    scopes: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    expires_at: int | None = None
    disabled_at: int | None = None
    generations: tuple[Generation, ...] = ()
    unreadable: tuple[str, ...] = ()
