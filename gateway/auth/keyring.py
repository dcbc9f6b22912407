"""The keys of the ledger as every request sees them: an immutable snapshot, replaced as a whole. Pure.

A key has up to two live secrets (generations), so that the old and the new one overlap in a rotation and the rest of
the key stays the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from gateway.auth.api_keys import ApiKey
from gateway.model.account_names import key_account
from gateway.model.identity import Identity, Profile
from gateway.model.keys import Generation, KeyRecord
from gateway.model.networks import Networks


class Closed(NamedTuple):
    """A known secret that is not accepted: its key, and why."""

    key_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of the ledger by the digest of each secret that was not revoked, and the records they are made of.

    `closed` holds the secrets that are not accepted, so that their bearer and the log get the reason. `profiles` are
    the profiles that the keys were made with: other profiles need another ring.
    """

    profiles: Mapping[str, Profile]
    records: Mapping[str, KeyRecord] = field(default_factory=dict)
    keys: Mapping[bytes, ApiKey] = field(default_factory=dict)
    closed: Mapping[bytes, Closed] = field(default_factory=dict)

    def changed(self, records: Iterable[KeyRecord]) -> "Keyring":
        """The ring with these records in place of their old versions."""
        known, keys, closed = dict(self.records), dict(self.keys), dict(self.closed)
        for record in records:
            old = known.get(record.id)
            for generation in old.generations if old else ():
                keys.pop(generation.digest, None)
                closed.pop(generation.digest, None)
            known[record.id] = record
            opened = {key.digest: key for key in keys_of(record, self.profiles)}
            keys |= opened
            closed |= {
                generation.digest: Closed(record.id, _why_closed(record, generation))
                for generation in record.generations
                if generation.digest not in opened
            }
        return Keyring(self.profiles, known, keys, closed)

    def under(self, profiles: Mapping[str, Profile]) -> "Keyring":
        """The same records under other profiles."""
        return self if profiles == self.profiles else Keyring(profiles).changed(self.records.values())


def profile_for(record: KeyRecord, profiles: Mapping[str, Profile]) -> Profile | None:
    """A key's limits; None when its profile no longer exists, or the key can't be read."""
    profile = None if record.unreadable else profiles.get(record.profile)
    return replace(profile, **record.limits) if profile is not None and record.limits else profile


def keys_of(record: KeyRecord, profiles: Mapping[str, Profile]) -> list[ApiKey]:
    """The live keys of a record: none when it is disabled or unreadable, or its profile no longer exists."""
    profile = profile_for(record, profiles)
    if profile is None or record.disabled_at is not None:
        return []
    networks = Networks(record.networks)
    return [
        ApiKey(generation.digest, _identity(record, generation, profile), networks)
        for generation in record.generations
        if generation.revoked_at is None
    ]


def _identity(record: KeyRecord, generation: Generation, profile: Profile) -> Identity:
    return Identity(
        key_id=record.id,
        owner=key_account(record.owner),
        profile=profile,
        scopes=frozenset(record.scopes),
        account=key_account(record.id),
        generation=generation.number,
        expires_at=_end(record, generation),
        replaced_until=_replaced_until(record, generation),
    )


def _why_closed(record: KeyRecord, generation: Generation) -> str:
    if generation.revoked_at is not None:
        return "This secret was revoked."
    if record.unreadable:
        return "This key can't be read by this release of the gateway."
    return "This key is disabled." if record.disabled_at is not None else "This key's profile is not there any more."


def _end(record: KeyRecord, generation: Generation) -> float | None:
    ends = [end for end in (record.expires_at, generation.not_after) if end is not None]
    return float(min(ends)) if ends else None


def _replaced_until(record: KeyRecord, generation: Generation) -> float | None:
    newer = any(
        found.number > generation.number and found.revoked_at is None and found.not_after is None
        for found in record.generations
    )
    if generation.not_after is None or not newer:
        return None
    return inf if record.expires_at is None else float(record.expires_at)
