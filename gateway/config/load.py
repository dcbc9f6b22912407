"""From a YAML file and the environment to frozen settings: reports all faults at once, each with its path.

`GATEWAY__LISTEN__PORT=9443` overrides `listen.port`; environment over file over default. Values from the environment
are parsed as YAML, so `GATEWAY__NETWORK__ALLOW='[10.0.0.0/8]'` is a list.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.consistency import Document, inconsistencies
from gateway.config.document import override, read_file, require_content
from gateway.config.faults import faults_of, place
from gateway.config.origins import SettingOrigin, origins
from gateway.config.settings import Settings
from gateway.errors import ConfigurationError, Fault


def load(path: Path, environ: Mapping[str, str], *, goes_without_secrets: bool = False) -> Settings:
    """Reads a configuration, applies overrides and checks it.

    `goes_without_secrets`: one that can't be read here is taken to be some other text, if the caller needs none.

    Raises:
        ConfigurationError: with every fault.
    """
    document, lines = read_file(path)
    variables, faults = override(document, environ)
    if not faults:
        require_content(path, document)
    try:
        return validate(document, {"environ": environ, "goes_without_secrets": goes_without_secrets}, faults)
    except ConfigurationError as error:
        raise ConfigurationError([place(fault, document, lines, variables) for fault in error.faults]) from None


def load_for_ledger(path: Path, environ: Mapping[str, str]) -> Settings:
    """The same for a command that needs only the ledger's URL: other secrets may be out of reach, as under systemd.

    Raises:
        ConfigurationError: with every fault, among them another than such secrets.
    """
    try:
        return load(path, environ)
    except ConfigurationError as error:
        with suppress(ConfigurationError):
            return load(path, environ, goes_without_secrets=True)
        raise error from None


def explained(path: Path, environ: Mapping[str, str]) -> list[SettingOrigin]:
    """Every setting of a valid configuration with its value and where that comes from.

    Raises:
        ConfigurationError: with every fault.
    """
    load(path, environ)
    document, lines = read_file(path)
    variables, _ = override(document, environ)
    return origins(document, lines, variables)


def check_merged(settings: Settings) -> None:
    """Checks settings merged from two configurations as if they came from one file.

    Single settings are valid in both; only the rules between settings are checked again.

    Raises:
        ConfigurationError: with every fault.
    """
    faults = [*inconsistencies(settings.model_dump(mode="json", exclude_unset=True)), *_same_secret(settings)]
    try:
        Settings.model_validate({name: value for name, value in settings})  # noqa: C416 -- a field is called keys
    except ValidationError as error:
        faults += faults_of(error, {})
    if faults:
        raise ConfigurationError(faults)


def validate(document: Document, context: Mapping[str, Any], faults: list[Fault]) -> Settings:
    """Validates a document as a whole.

    Raises:
        ConfigurationError: with these faults and all others.
    """
    faults = [*faults, *inconsistencies(document)]
    try:
        settings = Settings.model_validate(document, context=context)
    except ValidationError as error:
        faults += faults_of(error, document)
    if faults:
        raise ConfigurationError(faults)
    repeated = _same_secret(settings)
    if repeated:
        raise ConfigurationError(repeated)
    return settings


def _same_secret(settings: Settings) -> list[Fault]:
    first: dict[bytes, int] = {}
    others = [first.setdefault(key.secret.digest, i) for i, key in enumerate(settings.keys)]
    return [
        Fault(f"keys[{i}].secret", f"is the same as that of {settings.keys[other].id}")
        for i, other in enumerate(others)
        if other != i
    ]
