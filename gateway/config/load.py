"""From a YAML file and the environment to frozen settings: reports all faults at once, each with its path.

`GATEWAY__LISTEN__PORT=9443` overrides `listen.port`; environment over file over default. Values from the environment
are parsed as YAML, so `GATEWAY__NETWORK__ALLOW='[10.0.0.0/8]'` is a list.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gateway.aio.named_files import read_named
from gateway.config.consistency import Document, inconsistencies, nearest
from gateway.config.settings import Settings
from gateway.errors import ConfigurationError, Fault, FileUnusable

_PREFIX: Final = "GATEWAY__"
_MAX_BYTES: Final = 1_048_576
_QUOTING: Final = {
    "found unknown escape character": "a backslash begins an unknown escape: use single quotes",
    "could not determine a constructor": "tags (!name) are not supported here: quote the value",
    "found character '@'": "a value can't begin with @: quote it",
    "found character '`'": "a value can't begin with `: quote it",
    "found character '%'": "a value can't begin with %: quote it",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys (a silent loss) and aliases (which can expand hugely)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                mark = node.value[i][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {key} is there twice", problem_mark=mark)
        return super().construct_mapping(node, deep=deep)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Reads a configuration, applies overrides and checks it.

    Raises:
        ConfigurationError: with every fault.
    """
    document = read_file(path)
    faults = list(_override(document, environ))
    settings = validate(document, environ, faults)
    repeated = _same_secret(settings)
    if repeated:
        raise ConfigurationError(repeated)
    return settings


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
        faults += [_fault(details) for details in error.errors(include_url=False, include_input=False)]
    if faults:
        raise ConfigurationError(faults)


def read_file(path: Path) -> Document:
    """Reads the YAML of a configuration file.

    Raises:
        ConfigurationError: it can't be read or is not a mapping.
    """
    try:
        text = read_named(path, _MAX_BYTES)
    except FileUnusable as error:
        raise ConfigurationError([Fault("", f"{path} {error}")]) from None
    document = _parse(text, str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError([Fault("", f"{path} is no mapping of settings")])
    return document


def _parse(text: str | bytes, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 -- a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{origin}, line {mark.line + 1}" if mark else origin
        raise ConfigurationError([Fault("", f"{where}: {_in_words(error.problem)}")]) from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # PyYAML's constructors raise all kinds of errors, such as KeyError for `!!bool x`.
        raise ConfigurationError([Fault("", f"{origin} is no YAML")]) from None


def _in_words(problem: str | None) -> str:
    """What is wrong with a text, without the values that PyYAML quotes: one may be a URL with a password."""
    for known, words in _QUOTING.items():
        if problem is not None and problem.startswith(known):
            return words
    return str(problem)


def _override(document: Document, environ: Mapping[str, str]) -> Iterator[Fault]:
    for name, text in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        *parents, last = name[len(_PREFIX) :].lower().split("__")
        place = _place(document, parents) if all((*parents, last)) else None
        if place is None:
            yield Fault(name, "names no setting; values and whole lists can be overridden, not parts of a list")
            continue
        try:
            place[last] = _parse(text, name)
        except ConfigurationError as error:
            yield from error.faults


def _place(document: Document, parents: list[str]) -> Document | None:
    """The section at a path, created if missing; None when something else is there."""
    place: Any = document
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            return None
    return place  # type: ignore[no-any-return] # the loop has looked


def validate(document: Document, environ: Mapping[str, str], faults: list[Fault]) -> Settings:
    """Validates a document as a whole.

    Raises:
        ConfigurationError: with these faults and all others.
    """
    faults = [*faults, *inconsistencies(document)]
    try:
        settings = Settings.model_validate(document, context={"environ": environ})
    except ValidationError as error:
        faults += [_fault(details) for details in error.errors(include_url=False, include_input=False)]
    if faults:
        raise ConfigurationError(faults)
    return settings


def _same_secret(settings: Settings) -> list[Fault]:
    digests = [key.secret.digest for key in settings.keys]
    return [
        Fault(f"keys[{i}].secret", f"is the same as that of {settings.keys[digests.index(digest)].id}")
        for i, digest in enumerate(digests)
        if digest in digests[:i]
    ]


def _fault(details: Any) -> Fault:
    location = [part for part in details["loc"] if part != "[key]"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if details["type"] == "extra_forbidden":
        return Fault(path, f"there is no such setting{nearest(str(location[-1]), _siblings(location[:-1]))}")
    if details["type"] == "missing":
        return Fault(path, _missing(path))
    message = str(details["msg"]).removeprefix("Value error, ")
    return Fault(path, message[0].lower() + message[1:])


def _missing(path: str) -> str:
    if path == "network":
        return "is required: at least allow, the networks of your clients, such as allow: [10.0.0.0/8]"
    if path == "network.allow":
        return "is required: list the networks of your clients, such as [10.0.0.0/8]; there is no default"
    return "is required"


def _siblings(location: list[Any]) -> set[str]:
    """The settings of the section at this place."""
    place: Any = Settings
    for part in location:
        # A part that is not a field is a mapping's key (as in profiles) or a list index: the section stays the same.
        fields = _fields_of(place)
        if part in fields:
            place = _section_of(fields[str(part)].annotation)
    return set(_fields_of(place))


def _fields_of(place: Any) -> dict[str, FieldInfo]:
    """The fields of a section by their names in the file."""
    fields = place.model_fields if isinstance(place, type) and issubclass(place, BaseModel) else {}
    return {field.alias or name: field for name, field in fields.items()}


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _section_of(arg))), None)
