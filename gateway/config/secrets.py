"""Fingerprints of the secrets in a configuration, so that the audit trail can record when one changes. Pure.

A fingerprint is the first eight hexadecimal digits of the secret's SHA-256: enough to see that a secret changed, or
is the one at hand. A secret of less than 32 bytes has none: a fingerprint would let an attacker check guesses.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.config.settings import SecretDigest, SecretValue, Settings

_DIGITS: Final = 8
_LONG: Final = 32
_Secret = SecretDigest | SecretValue | None


class Declared(NamedTuple):
    """A secret's SHA-256, only for comparisons in memory, and the fingerprint that may be shown."""

    digest: bytes
    fingerprint: str | None


def declared_secrets(settings: Settings) -> dict[str, Declared]:
    """The secrets by the setting's path; list entries are named, so that their order has no meaning."""
    return {path: _declared(secret) for path, secret in _secrets(settings) if secret is not None}


def _secrets(settings: Settings) -> Iterator[tuple[str, _Secret]]:
    out = settings.webhooks.out
    yield "admin.token", settings.admin.token
    for key in settings.keys:
        yield f"keys[{key.id}].secret", key.secret
    for issuer in settings.authentication.jwt:
        yield f"authentication.jwt[{issuer.issuer}].secret"[:600], issuer.secret
    yield "webhooks.out.secret", out.secret
    yield "webhooks.out.previous_secret", out.previous_secret
    for own in out.secrets:
        yield f"webhooks.out.secrets[{own.owner}].secret"[:600], own.secret
        yield f"webhooks.out.secrets[{own.owner}].previous_secret"[:600], own.previous_secret
    for received in settings.webhooks.in_:
        yield f"webhooks.in[{received.name}].secret", received.secret
        yield f"webhooks.in[{received.name}].previous_secret", received.previous_secret


def _declared(secret: SecretDigest | SecretValue) -> Declared:
    if isinstance(secret, SecretDigest):
        digest, length = secret.digest, secret.length
    else:
        digest, length = sha256(secret.value).digest(), len(secret.value)
    return Declared(digest, digest.hex()[:_DIGITS] if length >= _LONG else None)
