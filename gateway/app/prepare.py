"""Builds all that a configuration file means, before any of it is in force; names the files that a reload watches."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.auth.jwks.files import read_local_keys
from gateway.auth.jwt.key_set import KeySet
from gateway.config.compile import compile_settings
from gateway.config.load import check_merged, load
from gateway.config.restart import with_what_stays
from gateway.config.settings import SecretDigest, SecretValue, Section, Settings
from gateway.config.state import State, with_names
from gateway.errors import ConfigurationError, Fault
from gateway.tls.contexts import LoadedPair, fingerprint, hosts_of, load_admin_pairs, load_pairs
from gateway.tls.file_ends import FileEnd, file_ends
from gateway.webhooks.outbound.sender import require_ca


class Prepared(NamedTuple):
    """All that a reload puts into force.

    `written` is what the file says, `files` those to watch, `waiting` the settings that wait for a restart.
    `ends` tells when files end.
    """

    state: State
    pairs: list[LoadedPair]
    admin_pairs: list[LoadedPair]
    fingerprint: str
    local_keys: Mapping[str, KeySet]
    written: Settings
    files: tuple[Path, ...]
    waiting: tuple[str, ...]
    ends: tuple[FileEnd, ...]


def prepare(
    path: Path, environ: Mapping[str, str], in_force: Settings | None = None, before: Settings | None = None
) -> Prepared:
    """Builds everything that a configuration file means; reads files, so it runs on a thread.

    Beside settings that are in force, what only a restart can change stays as it is there; `before` are those when an
    exposure setting began to wait for one.

    Raises:
        SetupError: with all that is wrong.
    """
    # The fingerprint is taken between two readings: what changes after it is in the next one, what changed before it
    # is in the second reading. A change can be read twice, never missed.
    found = fingerprint(watched(path, load(path, environ)))
    written = load(path, environ)
    settings, waiting = _beside(in_force, before, written)
    local_keys = read_local_keys(settings.authentication.jwt)
    if settings.webhooks.out.ca is not None:
        require_ca(settings.webhooks.out.ca)
    admin_pairs = load_admin_pairs(settings)
    pairs = load_pairs(settings)
    state = with_names(compile_settings(settings), hosts_of(pairs))
    if state.origins.fault is not None:
        raise ConfigurationError([Fault("public_url", state.origins.fault)])
    files = tuple(watched(path, written))  # here: for thousands of keys it would hold the loop
    return Prepared(state, pairs, admin_pairs, found, local_keys, written, files, waiting, file_ends(settings))


def _beside(
    in_force: Settings | None, before: Settings | None, written: Settings
) -> tuple[Settings, tuple[str, ...]]:
    """What can be put in force of what is written, and what waits: nobody has written the two together."""
    if in_force is None:
        return written, ()
    settings, waiting = with_what_stays(in_force, written, before)
    try:
        check_merged(settings)
    except ConfigurationError as error:
        told = f"needs a restart, for {', '.join(waiting)} can't change before, and beside what is in force "
        raise ConfigurationError([Fault("", f"{told}{fault.for_log}") for fault in error.faults]) from None
    return settings, waiting


def watched(path: Path, settings: Settings) -> Iterator[Path]:
    """The file itself and every file it names."""
    yield path
    for pair in (settings.tls, *settings.tls.certificates, settings.admin.tls):
        if pair is not None:
            yield pair.certificate
            yield pair.private_key
    if settings.tls.client_ca is not None:
        yield settings.tls.client_ca
    if settings.webhooks.out.ca is not None:
        yield settings.webhooks.out.ca
    for issuer in settings.authentication.jwt:
        if issuer.jwks is not None and "://" not in issuer.jwks:
            yield Path(issuer.jwks)
        if issuer.public_key is not None:
            yield issuer.public_key
    yield from (secret.file for secret in _secrets(settings) if secret.file is not None)


def _secrets(value: Any) -> Iterator[SecretDigest | SecretValue]:
    """Every reference to a secret in settings, however deep."""
    if isinstance(value, SecretDigest | SecretValue):
        yield value
    elif isinstance(value, Section):
        for _, inner in value:
            yield from _secrets(inner)
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _secrets(inner)
