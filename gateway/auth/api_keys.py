"""API keys: a secret becomes an identity by its SHA-256.

Keys are random and long, so a plain digest is enough: there is nothing to guess offline that brute force over 256
bits would find. A look-up by digest takes the same time for every wrong secret, as far as its bytes are concerned.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model.caller import Identity
from gateway.model.networks import Networks


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A live key: the digest of its secret, whom it stands for, and where it may be used from (empty: anywhere)."""

    digest: bytes
    identity: Identity
    networks: Networks


def digest_of(secret: bytes) -> bytes:
    """The SHA-256 that a secret is stored and compared as."""
    return hashlib.sha256(secret).digest()


def find_key(credential: bytes, *tables: Mapping[bytes, ApiKey]) -> ApiKey | None:
    """Finds the key whose secret this is, in the first table that has it; None when it is no key of ours."""
    digest = digest_of(credential)
    for keys in tables:
        key = keys.get(digest)
        if key is not None and hmac.compare_digest(key.digest, digest):
            return key
    return None
