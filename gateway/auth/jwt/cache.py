"""Tokens that were verified lately, so that a signature is checked once and not with every poll: pure.

Kept by SHA-256, so that no token lies in memory for longer than its request. Only who holds a good token can put
anything in; past `most` the one that was used longest ago goes. It belongs to one State: whatever changes the keys or
the configuration begins with an empty one.
"""

from collections import OrderedDict
from hashlib import sha256

from gateway.model.caller import Identity


class TokenCache:
    """Identities by their token, each until it expires. Times are seconds since the epoch."""

    __slots__ = ("_identities", "_most")

    def __init__(self, most: int = 10_000) -> None:
        self._identities: OrderedDict[bytes, Identity] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._identities)

    def get(self, token: bytes, now: float) -> Identity | None:
        """The identity of a token that was put in; None when there is none, or when it has expired."""
        digest = sha256(token).digest()
        identity = self._identities.get(digest)
        if identity is None:
            return None
        if identity.expires_at is None or now >= identity.expires_at:
            del self._identities[digest]
            return None
        self._identities.move_to_end(digest)
        return identity

    def put(self, token: bytes, identity: Identity) -> None:
        """Remembers whose a token is; one without an end is not remembered."""
        if identity.expires_at is None:
            return
        self._identities[sha256(token).digest()] = identity
        if len(self._identities) > self._most:
            self._identities.popitem(last=False)
