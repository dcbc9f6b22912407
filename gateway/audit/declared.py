"""The secrets that a configuration names, by their fingerprints: when one changes, the audit trail says so. Pure.

A fingerprint is the first eight hexadecimal digits of the secret's SHA-256: enough to see that it is another one, or
the one you have at hand; of no use to find it.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from gateway.settings import SecretDigest, SecretValue, Settings

_DIGITS: Final = 8
_Secret = SecretDigest | SecretValue | None


def declared_secrets(settings: Settings) -> dict[str, str]:
    """Fingerprints by the setting's path; list entries are named, so that their order means nothing."""
    return {path: _fingerprint(secret) for path, secret in _secrets(settings) if secret is not None}


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


def _fingerprint(secret: SecretDigest | SecretValue) -> str:
    digest = secret.digest if isinstance(secret, SecretDigest) else sha256(secret.value).digest()
    return digest.hex()[:_DIGITS]
