"""API keys: maps a secret to an identity by its SHA-256.

Keys are random and 256 bits long, so a plain digest is enough: an offline attack would be brute force over all 256
bits. A look-up by digest takes the same time for every wrong secret, as far as its bytes are concerned.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

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


def find_key(credential: bytes, *tables: Mapping[bytes, ApiKey]) -> ApiKey | None:
    """Finds the key with this secret, in the first table that has it; None when no table does."""
    digest = digest_of(credential)
    for keys in tables:
        key = keys.get(digest)
        if key is not None and hmac.compare_digest(key.digest, digest):
            return key
    return None
