"""The keys of the ledger as every request sees them: a snapshot, replaced as a whole. Pure.

A key has up to two live secrets (generations), so that the old and the new one overlap in a rotation and the rest of
the key stays the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from gateway.auth.api_keys import ApiKey
from gateway.auth.secret_index import SecretIndex
from gateway.model.account_names import key_account
from gateway.model.identity import Identity, Profile
from gateway.model.keys import Generation, KeyRecord
from gateway.model.networks import Networks


class Closed(NamedTuple):
    """A known secret that is not accepted: its key, and why."""

    key_id: str
    why: str


class RecordedSecret(NamedTuple):
    """A secret with the record of its key."""

    record: KeyRecord
    generation: Generation


@dataclass(frozen=True, slots=True)
class Keyring:
    """The records of the ledger's keys, and which of them has a secret (`secrets`).

    `profiles` are the profiles that the keys are made with: other profiles need another ring. A key is made when it
    is first asked for: made all at once, ten thousand would hold the loop for a fifth of a second at each reload.
    """

    profiles: Mapping[str, Profile]
    records: Mapping[str, KeyRecord] = field(default_factory=dict)
    secrets: SecretIndex = field(default_factory=SecretIndex)
    _made: dict[bytes, ApiKey] = field(default_factory=dict, compare=False, repr=False)

    def get(self, digest: bytes) -> ApiKey | None:
        """The key with this secret; None if no secret has this digest, or it is not accepted."""
        key = self._made.get(digest)
        if key is None:
            known = self._recorded(digest)
            key = key_of(known, self.profiles) if known is not None else None
            if key is not None:
                self._made[digest] = key
        return key

    def closed(self, digest: bytes) -> Closed | None:
        """Why a known secret is not accepted, for its bearer and the log."""
        known = self._recorded(digest)
        return Closed(known.record.id, _why_closed(known)) if known and self.get(digest) is None else None

    def live_keys(self) -> list[ApiKey]:
        """All keys that are accepted. Makes them all: for commands, and tests."""
        return [key for digest in self.secrets if (key := self.get(digest)) is not None]

    def changed(self, records: Iterable[KeyRecord]) -> "Keyring":
        """The ring with these records in place of their old versions."""
        known = dict(self.records)
        owners: dict[bytes, str | None] = {}
        for record in records:
            old = known.get(record.id)
            now = {generation.digest for generation in record.generations}
            for digest in {generation.digest for generation in old.generations} - now if old else ():
                owner = owners[digest] if digest in owners else self.secrets.get(digest)
                if owner == record.id:  # else it has moved to another key
                    owners[digest] = None
            owners |= {
                digest: record.id for digest in now if digest in owners or self.secrets.get(digest) != record.id
            }
            known[record.id] = record
        return Keyring(self.profiles, known, self.secrets.changed(owners))

    def _recorded(self, digest: bytes) -> RecordedSecret | None:
        key_id = self.secrets.get(digest)
        if key_id is None:
            return None
        record = self.records[key_id]
        return next(RecordedSecret(record, found) for found in record.generations if found.digest == digest)

    def under(self, profiles: Mapping[str, Profile]) -> "Keyring":
        """The same records under other profiles."""
        return self if profiles == self.profiles else Keyring(profiles, self.records, self.secrets)


def profile_for(record: KeyRecord, profiles: Mapping[str, Profile]) -> Profile | None:
    """A key's limits; None when its profile no longer exists, or the key can't be read."""
    profile = None if record.unreadable else profiles.get(record.profile)
    return replace(profile, **record.limits) if profile is not None and record.limits else profile


def key_of(known: RecordedSecret, profiles: Mapping[str, Profile]) -> ApiKey | None:
    """The key of a secret; None if it is revoked, or its key is disabled or unreadable or has no profile any more."""
    record, generation = known
    profile = profile_for(record, profiles)
    if profile is None or record.disabled_at is not None or generation.revoked_at is not None:
        return None
    return ApiKey(generation.digest, _identity(record, generation, profile), Networks(record.networks))


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


def _why_closed(known: RecordedSecret) -> str:
    record, generation = known
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
