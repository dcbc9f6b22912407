"""What every setting is and where that comes from: a variable, a line of the file, or the default. Pure.

Values are those that were written, units and all. Where a secret could be, only the reference to it is told; of a URL
neither its password nor any value of its query nor, for a webhook, its path.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config.consistency import Document
from gateway.config.sections import fields_of, is_plain_section, section_of
from gateway.config.settings import SecretDigest, SecretValue, Settings
from gateway.errors import MASK

_PROFILES: Final = "profiles"
_SHOWN_OF_A_DIGEST: Final = 8


class SettingOrigin(NamedTuple):
    """A setting: its path, its value as it may be shown, and where it comes from."""

    path: str
    value: Any
    source: str

    @property
    def is_default(self) -> bool:
        """Whether neither the file nor a variable says it."""
        return self.source == "default"


def origins(document: Document, lines: Mapping[str, int], variables: Mapping[str, str]) -> list[SettingOrigin]:
    """All settings in the order of docs/configuration.md."""
    return [
        SettingOrigin(path, value, _source(path, lines, variables) if is_written else "default")
        for path, value, is_written in _section(Settings, document, "")
    ]


def _section(section: Any, written: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    document = written if isinstance(written, dict) else {}
    for name, field in fields_of(section).items():
        here = f"{path}.{name}".lstrip(".")
        if not field.exclude:
            yield from _setting(field, here, document.get(name), name in document)


def _setting(field: FieldInfo, path: str, value: Any, is_written: bool) -> Iterator[tuple[str, Any, bool]]:
    section = section_of(field.annotation)
    if path == _PROFILES:
        value, is_written = {"default": {}, **(value or {})}, True  # the default one is always there
    if is_plain_section(field.annotation) and (value is not None or not _may_be_left_out(field)):
        yield from _section(section, value, path)
    elif not is_written:
        yield path, masked(path, _default(field)), False
    elif section in {None, SecretDigest, SecretValue} or not value:
        yield path, masked(path, value), True
    elif get_origin(field.annotation) is dict:
        for name, entry in value.items():
            yield from _section(section, entry, f"{path}.{name}")
    else:
        for i, entry in enumerate(value):
            yield from _section(section, entry, f"{path}[{i}]")


def _may_be_left_out(field: FieldInfo) -> bool:
    return field.default is None


def _default(field: FieldInfo) -> Any:
    value = field.default
    if value is PydanticUndefined:
        made = field.get_default(call_default_factory=True) if field.default_factory is not None else None
        return [_plain(entry) for entry in made] if isinstance(made, list) else None
    return _plain(value)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def _source(path: str, lines: Mapping[str, int], variables: Mapping[str, str]) -> str:
    for place, name in variables.items():
        if path == place or path.startswith((f"{place}.", f"{place}[")):
            return name
    line = lines.get(path)
    return "file" if line is None else f"file, line {line}"


def masked(path: str, value: Any) -> Any:
    """A value without what may be a secret."""
    if isinstance(value, dict):
        return {
            name: _mask_digest(entry) if name == "sha256" else masked(path, entry) for name, entry in value.items()
        }
    if isinstance(value, list):
        return [masked(path, entry) for entry in value]
    return _url(path, value) if isinstance(value, str) and "://" in value else value


def _mask_digest(digest: Any) -> str:
    return f"{str(digest)[:_SHOWN_OF_A_DIGEST]}{MASK}"


def _url(path: str, url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    login = f"{user}:{MASK}@" if "@" in parts.netloc else ""
    if path.startswith("webhooks."):
        return f"{parts.scheme}://{login}{host}/{MASK}" if parts.path.strip("/") or parts.query else url
    query = f"?{'&'.join(map(_without_value, parts.query.split('&')))}" if parts.query else ""
    return f"{parts.scheme}://{login}{host}{parts.path}{query}"


def _without_value(parameter: str) -> str:
    """A parameter by its name alone: an API key of an identity provider has any name."""
    name, is_named, _ = parameter.partition("=")
    return f"{name}={MASK}" if is_named else MASK
