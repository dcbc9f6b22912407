"""Faults of single settings: each told once, with the nearest right name, its place and its value. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.config.consistency import Document, near
from gateway.config.fault_words import fault_words, masked_words, may_be_logged, plain_words
from gateway.config.sections import fields_of, section_of
from gateway.config.settings import Settings
from gateway.config.yaml_places import line_near, shown, value_at
from gateway.errors import Fault


class _Found(NamedTuple):
    """A fault, and the path of the setting that was perhaps meant; `is_missing`: nothing stands there."""

    fault: Fault
    meant: str = ""
    is_missing: bool = False


def faults_of(error: ValidationError, document: Document) -> list[Fault]:
    """All faults that a document has; where a name is misspelt, its right one is not called missing, too."""
    found = [_found(details, document) for details in error.errors(include_url=False, include_input=False)]
    meant = {entry.meant for entry in found} - {""}
    return [entry.fault for entry in found if not (entry.is_missing and entry.fault.path in meant)]


def place(fault: Fault, document: Document, lines: Mapping[str, int], variables: Mapping[str, str]) -> Fault:
    """Adds where it stands, and what stands there."""
    variable = next((name for path, name in variables.items() if _is_within(fault.path, path)), None)
    line = line_near(lines, fault.path) if variable is None else None
    where = variable or (f"line {line}" if line else None)
    if where is None:
        return fault
    found = value_at(document, parts_of(fault.path))
    value, may = None if fault.says_value else shown(fault.path, found), may_be_logged(found)
    plain = fault.plain if fault.plain or may else masked_words(fault.path, fault.message, found)
    return replace(fault, where=where, value=value or "", is_for_log=may, plain=plain)


def parts_of(path: str) -> tuple[str | int, ...]:
    """The parts of a path such as `keys[0].id`."""
    parts: list[str | int] = []
    for name in path.split("."):
        first, *indexes = name.replace("]", "").split("[")
        parts += [first, *(int(index) for index in indexes if index.isdigit())]
    return tuple(parts)


def _is_within(path: str, section: str) -> bool:
    return path == section or path.startswith((f"{section}.", f"{section}["))


def _found(details: Any, document: Document) -> _Found:
    location = [part for part in details["loc"] if part != "[key]"]
    path = _path_of(location)
    if details["type"] == "extra_forbidden":
        return _unknown(path, location, document)
    value = value_at(document, tuple(location))
    facts = (path, details["type"], str(details["msg"]), details.get("ctx", {}), value)
    told, plain = fault_words(*facts), plain_words(*facts)
    fault = Fault(path, told, says_value="[key]" in details["loc"], plain="" if plain == told else plain)
    return _Found(fault, is_missing=value is None)


def _path_of(location: list[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _unknown(path: str, location: list[Any], document: Document) -> _Found:
    wrong = str(location[-1])
    closest = near(wrong, _siblings(location[:-1]))
    elsewhere = next(_sections_with(wrong, document), None) if len(location) == 1 else None
    if elsewhere is not None:
        told = f"there is no such setting here; did you mean {elsewhere}.{wrong}? Then indent it below {elsewhere}"
        return _Found(Fault(path, told, says_value=True), elsewhere if document.get(elsewhere) is None else "")
    meant = "" if closest is None else f"; did you mean {closest}?"
    right = "" if closest is None else _path_of([*location[:-1], closest])
    return _Found(Fault(path, f"there is no such setting{meant}", says_value=True), right)


def _sections_with(name: str, document: Document) -> Iterator[str]:
    """The sections that have a setting of this name; those of the document that stand before it first."""
    written = list(document)
    before = [*reversed(written[: written.index(name)])] if name in written else []
    for section in dict.fromkeys((*before, *fields_of(Settings))):
        field = fields_of(Settings).get(section)
        annotation = None if field is None else field.annotation
        if name in fields_of(annotation):
            yield section


def _siblings(location: list[Any]) -> set[str]:
    """The settings of the section at this place."""
    section: Any = Settings
    for part in location:
        # A part that is not a field is a mapping's key (as in profiles) or a list index: the section stays the same.
        fields = fields_of(section)
        if part in fields:
            section = section_of(fields[str(part)].annotation)
    return set(fields_of(section))
