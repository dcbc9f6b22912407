"""API keys: maps a secret to an identity by its SHA-256.

Keys are random and 256 bits long, so a plain digest is enough: an offline attack would be brute force over all 256
bits. A look-up by digest takes the same time for every wrong secret, as far as its bytes are concerned, and what is
found is compared in constant time.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

from gateway.model.identity import Identity
from gateway.model.networks import Networks


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A live key: the digest of its secret, its identity, and the networks it may be used from (empty: anywhere)."""

    digest: bytes
    identity: Identity
    networks: Networks


def digest_of(secret: bytes) -> bytes:
    """The SHA-256 under which a secret is stored and compared."""
    return hashlib.sha256(secret).digest()


class KeyTable(Protocol):
    """Keys by the digests of their secrets: a mapping, or the ledger's ring."""

    def get(self, digest: bytes, /) -> ApiKey | None:
        """The key with this secret; None: there is none."""


def find_key(credential: bytes, *tables: KeyTable) -> ApiKey | None:
    """Finds the key with this secret, in the first table that has it; None when no table does."""
    digest = digest_of(credential)
    for keys in tables:
        key = keys.get(digest)
        if key is not None and hmac.compare_digest(key.digest, digest):
            return key
    return None
