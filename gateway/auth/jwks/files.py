"""Issuers' keys that need no network: JWKS files, PEM files and shared secrets.

Read before a configuration is put into force: `gateway check` shows a bad file, and a reload with one changes
nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.aio.named_files import read_named
from gateway.auth.jwks.source import KeySource
from gateway.auth.jwt.key_set import MAX_DOCUMENT, KeySet, NoKeys, read_jwks, read_pem, read_secret
from gateway.errors import ConfigurationError, Fault, FileUnusable


def is_fetched(issuer: KeySource) -> bool:
    """Whether the keys of an issuer come over the network."""
    return issuer.discovery or (issuer.jwks is not None and "://" in issuer.jwks)


def read_local_keys(issuers: Sequence[KeySource]) -> Mapping[str, KeySet]:
    """Reads the keys that need no network: JWKS files, PEM files, shared secrets. Blocks: call it on a thread.

    Raises:
        ConfigurationError: lists all files without a usable key, each by its setting.
    """
    keys: dict[str, KeySet] = {}
    faults = []
    for i, issuer in enumerate(issuers):
        source = next((name for name in ("secret", "public_key", "jwks") if getattr(issuer, name) is not None), "")
        try:
            if not is_fetched(issuer):
                keys[issuer.issuer] = _read(issuer)
        except (NoKeys, FileUnusable) as error:
            faults.append(Fault(f"authentication.jwt[{i}].{source}", str(error)))
    if faults:
        raise ConfigurationError(faults)
    return keys


def _read(issuer: KeySource) -> KeySet:
    if issuer.secret is not None:
        return read_secret(issuer.secret.value, issuer.algorithms)
    path, read = (issuer.public_key, read_pem) if issuer.public_key else (Path(issuer.jwks or ""), read_jwks)
    return read(read_named(path, MAX_DOCUMENT), issuer.algorithms)
