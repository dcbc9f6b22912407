"""From YAML, in a file or a variable, to a document: plain mappings, lists and values, not yet checked."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import yaml

from gateway.aio.named_files import read_named
from gateway.config.consistency import Document
from gateway.config.yaml_places import lines_of
from gateway.config.yaml_words import Broken, not_utf8, syntax_fault
from gateway.errors import ConfigurationError, Fault, FileUnusable

PREFIX: Final = "GATEWAY__"
LEDGER_VARIABLE: Final = f"{PREFIX}LEDGER__URL"
_MAX_BYTES: Final = 1_048_576
_MAX_DIGITS: Final = 100
_NO_TEXT: Final = re.compile("[\ud800-\udfff]")
_NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_EMPTY: Final = "is empty: gateway config init writes one that works"


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys (a silent loss) and aliases (which can expand hugely)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        """Refuses numbers and texts that nothing takes: Python raises errors, some only when they are shown."""
        if isinstance(node.value, str) and _NO_TEXT.search(node.value):
            words = "half a character (\\ud800 to \\udfff), which no text in UTF-8 has"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=node.start_mark)
        if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
            words = f"a number of more than {_MAX_DIGITS} characters"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=node.start_mark)
        return super().construct_scalar(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        first: dict[Hashable, int] = {}
        for written, _ in node.value:
            key, mark = self.construct_object(written, deep=True), written.start_mark
            if not isinstance(key, Hashable):
                break  # PyYAML says so
            if key in first:
                words = f"the key {key} is there twice, first in line {first[key]}"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=mark)
            first[key] = mark.line + 1
        return super().construct_mapping(node, deep=deep)


class Written(NamedTuple):
    """What a file says: its document, and the line of each setting by its path."""

    document: Document
    lines: Mapping[str, int]


def read_file(path: Path) -> Written:
    """Reads the YAML of a configuration file.

    Raises:
        ConfigurationError: it can't be read or is not a mapping.
    """
    try:
        content = read_named(path, _MAX_BYTES)
    except FileUnusable as error:
        raise ConfigurationError([Fault("", f"{path} {error}")]) from None
    document, node = _parse(content, str(path))
    if document is None:
        return Written({}, {})
    if not isinstance(document, dict):
        raise ConfigurationError([Fault("", f"{path} is not a mapping of settings")])
    return Written(document, lines_of(node))


def require_content(path: Path, document: Document) -> None:
    """Refuses a document without any setting: all its faults would be those of defaults.

    Raises:
        ConfigurationError: it is empty.
    """
    if not document:
        raise ConfigurationError([Fault("", f"{path} {_EMPTY}")])


def override(document: Document, environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """Puts variables in their places; returns the variable of each setting by its path, and what is wrong."""
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        place = _place(document, parts[:-1]) if all(parts) else None
        if place is None:
            words = "names no setting; values and whole lists can be overridden, not parts of a list"
            faults.append(Fault(name, words))
            continue
        try:
            place[parts[-1]] = _parse(text, name)[0]
            variables[".".join(parts)] = name
        except ConfigurationError as error:
            faults += error.faults
    return variables, faults


def _parse(content: str | bytes, origin: str) -> tuple[Any, yaml.Node | None]:
    loader: _Loader | None = None
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except yaml.MarkedYAMLError as error:
        text = content if isinstance(content, str) else content.decode(errors="replace")
        _give_up(origin, syntax_fault(error, text))
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        # PyYAML's constructors raise all kinds of errors, such as KeyError for `!!bool x`.
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        _give_up(origin, not_utf8(raw))
    finally:
        if loader is not None:
            loader.dispose()


def _give_up(origin: str, broken: Broken | None) -> NoReturn:
    words = f"{origin} is not YAML"
    if broken is not None:
        words = f"{origin}{f', line {broken.line}' if broken.line else ''}: {broken.text}"
    raise ConfigurationError([Fault("", words)]) from None


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
