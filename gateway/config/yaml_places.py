"""Where settings stand: the line of each in the file, and what stands there, as far as it may be shown. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

_SECRET: Final = frozenset(
    {"secret", "previous_secret", "secrets", "token", "url", "default_url", "env", "sha256", "private_key"}
)
_ORIGINS: Final = ("upstream.url", "upstreams.", "public_url")
_LONGEST: Final = 60


def lines_of(node: yaml.Node | None) -> dict[str, int]:
    """The line of each setting by its path, as `keys[0].id`."""
    return {} if node is None else dict(_walk(node, ""))


def _walk(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}".lstrip(".")
            yield here, key.start_mark.line + 1
            yield from _walk(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield f"{path}[{i}]", value.start_mark.line + 1
            yield from _walk(value, f"{path}[{i}]")


def line_near(lines: Mapping[str, int], path: str) -> int | None:
    """The line of a setting, or of the section that it should be in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None


def value_at(document: Any, location: tuple[Any, ...]) -> Any:
    """What stands there; None where nothing does."""
    for part in location:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return None
    return document


def shown(path: str, value: Any) -> str | None:
    """A single value as it stands in the file; None for what is none, is long, or may be a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value) if len(str(value)) <= _LONGEST and _may_show(path, str(value)) else None
    if not isinstance(value, str) or not value.isprintable() or len(value) > _LONGEST or not _may_show(path, value):
        return None
    return f'"{value}"'


def _may_show(path: str, value: str) -> bool:
    if path.startswith(_ORIGINS):
        return _is_without_login(value)
    return not _SECRET.intersection(path.replace("[", ".").split(".")) and "://" not in value


def _is_without_login(url: str) -> bool:
    try:
        parts = urlsplit(url.strip("\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"))
    except ValueError:
        return False
    return "@" not in url and not parts.query
