"""Cache of recently verified tokens, so that a signature is checked once and not at every poll: pure.

Keyed by SHA-256, so that no token stays in memory longer than its request. Only a caller with a valid token can add
an entry; beyond `most` the least recently used one is evicted (LRU). The cache belongs to one State: every change of
the keys or the configuration starts an empty one. The old one is then freed at once, so its scopes are bounded, too:
a token of 8 KB may name two thousand.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from gateway.model.identity import Identity

_MOST_SCOPES: Final = 100_000  # of all tokens: some 10 MB, which are freed in three milliseconds


class TokenCache:
    """Identities by token, each until it expires. Times are seconds since the epoch."""

    __slots__ = ("_identities", "_most", "_scopes")

    def __init__(self, most: int = 10_000) -> None:
        self._identities: OrderedDict[bytes, Identity] = OrderedDict()
        self._most = most
        self._scopes = 0

    def __len__(self) -> int:
        return len(self._identities)

    def get(self, token: bytes, now: float) -> Identity | None:
        """The identity of a cached token; None when it is not cached or has expired."""
        digest = sha256(token).digest()
        identity = self._identities.get(digest)
        if identity is None:
            return None
        if identity.expires_at is None or now >= identity.expires_at:
            self._remove(digest)
            return None
        self._identities.move_to_end(digest)
        return identity

    def put(self, token: bytes, identity: Identity) -> None:
        """Caches a token's identity, unless it has no expiry."""
        if identity.expires_at is None:
            return
        digest = sha256(token).digest()
        self._remove(digest)
        self._identities[digest] = identity
        self._scopes += len(identity.scopes)
        while len(self._identities) > self._most or self._scopes > _MOST_SCOPES:
            self._remove(next(iter(self._identities)))

    def _remove(self, digest: bytes) -> None:
        former = self._identities.pop(digest, None)
        self._scopes -= 0 if former is None else len(former.scopes)
