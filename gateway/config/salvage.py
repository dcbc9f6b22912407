"""What is well of a faulty configuration, for commands that need little of it: a leaked key is stopped all the same.

A section with a fault is left out as a whole, and so is what names something in it. Which ledger is meant has to be
written: what is wrong may be where it was to stand, and the default is another one. Of a file that is no YAML nothing
is known: a variable has to name the ledger then.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.config.consistency import near
from gateway.config.document import LEDGER_VARIABLE, override, read_file
from gateway.config.faults import parts_of
from gateway.config.load import load_for_ledger, validate
from gateway.config.settings import Settings
from gateway.config.yaml_places import value_at
from gateway.errors import ConfigurationError, Fault

LEDGER_URL: Final = "ledger.url"
LEDGER: Final = frozenset({"ledger"})
_NOWHERE: Final = "sqlite:////dev/null/none"  # nothing can be made or read there
_OTHERS: Final = frozenset(Settings.model_fields) - LEDGER
_LAST: Final = ".secret"
"""Two keys of one secret are looked for once all else is right. Other faults of later passes come of leaving out."""
_NOBODY: Final = {"allow": ["127.0.0.1/32"]}  # network has no default; a command lets nobody in
_WITHOUT_DEFAULT: Final = frozenset({"network", "tls"})  # or one that is wrong where these files are not


class Salvaged(NamedTuple):
    """Settings; what was wrong with the file, and the sections that are left out for it.

    `unknown_ledger` says why the ledger is not known; then that of the settings is none.
    """

    settings: Settings
    faults: tuple[Fault, ...] = ()
    without: tuple[str, ...] = ()
    unknown_ledger: str = ""


def salvage(path: Path, environ: Mapping[str, str], needs: frozenset[str]) -> Salvaged:
    """Reads a configuration for a command that needs only these sections and settings, and no other secrets.

    Such a setting has to be written, as ledger.url has; it stays where the rest of its section is left out.

    Raises:
        ConfigurationError: with every fault, one of them in what is needed, or in no section.
    """
    try:
        return Salvaged(load_for_ledger(path, environ))
    except ConfigurationError as error:
        document = _document(path)
        found = _without_faulty({} if document is None else document, environ, needs)
        if found is None or (document is None and not needs <= LEDGER):
            raise
        if document is None:
            return found._replace(faults=tuple(error.faults), without=tuple(sorted(_OTHERS)))
        first = [fault for fault in error.faults if _section(fault) in found.without]
        seen = {fault.path for fault in first}
        hidden = [fault for fault in found.faults if fault.path.endswith(_LAST) and fault.path not in seen]
        return found._replace(faults=(*first, *hidden))


def salvage_for_look(path: Path, environ: Mapping[str, str], needs: frozenset[str]) -> Salvaged:
    """The same for a command that goes on where it is not told the ledger: its variable is set for the gateway alone.

    Raises:
        ConfigurationError: as above.
    """
    try:
        return salvage(path, environ, needs | LEDGER)
    except ConfigurationError as error:
        unknown = next((fault for fault in error.faults if fault.path == LEDGER_URL), None)
        if unknown is None:
            raise
        with suppress(ConfigurationError):
            found = salvage(path, {**environ, LEDGER_VARIABLE: _NOWHERE}, needs)
            return found._replace(unknown_ledger=str(unknown))
        raise


def _document(path: Path) -> dict[str, Any] | None:
    """What the file says; None when it is there and is no YAML."""
    try:
        return read_file(path).document
    except ConfigurationError:
        with suppress(OSError):  # its directory may not be looked into
            if not path.is_file():
                raise
        return None


def _without_faulty(document: dict[str, Any], environ: Mapping[str, str], needs: frozenset[str]) -> Salvaged | None:
    _, wrong = override(document, environ)
    kept = {name: value_at(document, parts_of(name)) for name in needs | {LEDGER_URL} if "." in name}
    if wrong or None in kept.values():
        return None
    context: dict[str, Any] = {"environ": environ, "goes_without_secrets": True}
    without, faults = set[str](), list[Fault]()
    while True:
        try:
            return Salvaged(validate(document, context, []), tuple(faults), tuple(sorted(without)))
        except ConfigurationError as error:
            faults += error.faults
            faulty = {_section(fault) for fault in error.faults}
            is_left = faulty <= document.keys() | _WITHOUT_DEFAULT and not faulty <= without
            is_needed = faulty & needs or any(_is_of(fault.path, kept) for fault in error.faults)
            if is_needed or not is_left or _may_mean(faulty, needs - document.keys()):
                return None
            _leave_out(document, faulty, kept)
            without |= faulty
            context["goes_without_files"] = "tls" in without


def _is_of(path: str, kept: Mapping[str, Any]) -> bool:
    """Whether a fault is of one of these settings, or of what it stands in."""
    return any(f"{name}.".startswith(f"{path}.") for name in kept)


def _may_mean(faulty: set[str], missing: frozenset[str]) -> bool:
    """Whether a section is misspelt that is needed: its default would say something else."""
    return any(near(name, missing) for name in faulty - Settings.model_fields.keys())


def _leave_out(document: dict[str, Any], sections: set[str], kept: Mapping[str, Any]) -> None:
    for name in sections:
        document.pop(name, None)
    if "network" in sections:
        document["network"] = _NOBODY
    for name, value in kept.items():
        *parents, last = parts_of(name)
        if parents[0] in sections:
            place = document
            for parent in parents:
                place = place.setdefault(str(parent), {})
            place[str(last)] = value


def _section(fault: Fault) -> str:
    return str(parts_of(fault.path)[0])
