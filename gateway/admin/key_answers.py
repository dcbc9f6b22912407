"""What the admin API says of keys, by its fields. Pure."""

from typing import Literal

from pydantic import Field

from gateway.admin.answer import Answer, GrantedUntil, LimitState, Moment


class Generation(Answer):
    """One secret of a key."""

    generation: int
    state: Literal["live", "ended", "revoked"]
    """Of the secret alone: its key may be disabled."""
    created_at: Moment
    live_until: Moment | None
    """When it ends, by a rotation or with its key."""
    revoked_at: Moment | None
    last_used_at: Moment | None
    """When it was last used, some seconds late."""


class Key(Answer):
    """A key of the ledger."""

    id: str
    state: Literal[
        "live", "disabled", "expired", "without a secret", "without a profile", "unreadable", "in the file, too"
    ]
    profile: str
    owner: str
    scopes: list[str]
    networks: list[str]
    limits: dict[str, int | float | str | None]
    """What differs from its profile, as it may be sent again (LimitOverrides)."""
    created_at: Moment
    expires_at: Moment | None
    disabled_at: Moment | None
    generations: list[Generation]


class ListedKey(Key):
    """A key in a list."""

    standing: dict[str, LimitState] | None = None
    """Its limits by name, if that was asked for; empty when its profile is gone."""
    granted: int | None = None
    """Pages that grants add to its budgets now, if that was asked for."""
    granted_until: Moment | None = None
    """When the first of its grants ends."""
    granted_last_until: Moment | None = None
    """When the last of its grants ends; the same if all end at once."""


class ConfiguredKey(Answer):
    """A key of the configuration: it is changed there, and may have grants and resets."""

    id: str
    state: Literal["live", "disabled", "expired"]
    profile: str
    owner: str
    scopes: list[str]
    networks: list[str]
    expires_at: Moment | None
    last_seen_at: Moment | None
    """When this replica saw it last; null: not since its start."""
    standing: dict[str, LimitState]
    """Its limits by name; empty when it is disabled."""
    granted: int
    """Pages that grants add to its budgets now."""
    granted_until: Moment | None
    """When the first of its grants ends."""
    granted_last_until: Moment | None
    """When the last of its grants ends; the same if all end at once."""


class ConfiguredKeys(Answer):
    """Keys of the configuration, in its order."""

    keys: list[ConfiguredKey]


class KeyInFull(Key):
    """A key of the ledger, with its account's usage."""

    standing: dict[str, LimitState]
    """Its limits by name; empty when its profile is gone."""
    grants: list[GrantedUntil]
    """Pages on top of its budgets of pages, those that end first before the others."""


class Keys(Answer):
    """Keys of the ledger, by id."""

    keys: list[ListedKey]
    next: str | None
    """`after` of the next request; null: these were the last."""


class NewSecret(Answer):
    """A secret that was made."""

    id: str
    generation: int
    secret: str | None = Field(repr=False)
    """The secret itself, this once; null: the operation had been done before, and nobody knows it any more."""
    previous_ends_at: Moment | None
    """When the secret before it ends."""


class Revoked(Answer):
    """The secrets that ended."""

    id: str
    generations: list[int]


class Granted(Answer):
    """Pages that were added."""

    id: str
    pages: int
    until: Moment
    budgets: list[str]
    """The budgets that it adds to; empty: the key has none of pages, so it changes nothing."""


class GrantsEnded(Answer):
    """The grants that ended."""

    id: str
    grants: list[GrantedUntil]
    """With the moment until which each would have been."""


class Forgotten(Answer):
    """What the windows that were reset had counted this month."""

    id: str
    requests: int
    pages: int
    spend: float
