"""What is wrong with a setting's value, and the mend: pydantic's findings in the operator's words. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_interface
from pathlib import PurePath
from typing import Any, Final

from gateway.errors import MASK

_NUMBER: Final = re.compile(r"[+-]?[0-9_]+\Z")
_FLOAT: Final = re.compile(r"[+-]?[0-9.]+[eE]\+?[0-9]{1,2}\Z")
_WHERE: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):([0-9]{1,5})\Z")
_FILLED_IN: Final = re.compile(r"\$(\{[A-Za-z_]\w*\}|[A-Z_]\w*)")
_CURLY: Final = re.compile("[\u2018\u2019\u201c\u201d]")  # quotation marks of word processors
_LISTED: Final = re.compile(r"[\w.:/*-]{1,60}\Z")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}\Z")
_WORD: Final = re.compile(r"[A-Z]{1,24}[0-9]{0,3}\Z")  # of keys in base32 or hexadecimal hardly any is one
_PATH: Final = re.compile(
    r"(?:~|\.{0,2})(?:/[\w .,:@~-]{0,64})+\Z|(?:[\w .,-]{1,64}/)+[\w .,-]{1,64}\.[a-z0-9]{1,8}\Z"
)
_LONGEST_PATH: Final = 255
_NO_SECRET: Final = re.compile(
    r"(?:true|false|-?[0-9]{1,5}(?:\.[0-9]{1,3})?(?: ?(?:ms|s|m|h|d|B|KB|MB|GB))?)\Z", re.IGNORECASE
)
_FILES: Final = frozenset(
    {"file", "certificate", "private_key", "client_ca", "ca", "public_key", "jwks", "spool_dir"}
)
_HIDDEN: Final = object()
_SHORTEST: Final = 4
_PARTS: Final = re.compile(r"[/%@:?]")
_PART: Final = 8
_REQUIRED: Final = {
    "network": "is required: at least allow, the networks of your clients, such as allow: [10.0.0.0/8]",
    "network.allow": "is required: list the networks of your clients, such as [10.0.0.0/8]; there is no default",
}
_Words = Callable[[str, Any, Mapping[str, Any]], str]


def fault_words(path: str, kind: str, said: str, context: Mapping[str, Any], value: Any) -> str:
    """Says what is wrong with the value at a path; `kind` and `said` are pydantic's type and message."""
    if kind == "missing":
        return _REQUIRED.get(path, "is required")
    if kind in _BY_KIND:
        message = _BY_KIND[kind](path, value, context)
    else:
        message = _lowered(said.removeprefix("Value error, "))
    return message + hint(path, value)


def _lowered(message: str) -> str:
    """The message without a capital at its beginning, but for that of a file's path."""
    first = message.partition(" ")[0]
    return message if "/" in first else message[:1].lower() + message[1:]


def plain_words(path: str, kind: str, said: str, context: Mapping[str, Any], value: Any) -> str:
    """The same for the log: without what stands there, if it may be a secret in the wrong place."""
    if may_be_logged(value):
        return fault_words(path, kind, said, context, value)
    return fault_words(path, kind, masked_words(path, said, value), context, value if value is None else _HIDDEN)


def masked_words(path: str, words: str, value: Any) -> str:
    """Words without those texts of the value at a path that may be secrets in the wrong place."""
    for text in _secretive(value, path.rpartition(".")[2].partition("[")[0]):
        parts = [part for part in _PARTS.split(text) if len(part) >= _PART]  # as ipaddress repeats what it refuses
        for form in (text, repr(text)[1:-1], str(PurePath(text)), *parts):
            words = words.replace(form, MASK)
    return words


def may_be_logged(value: Any) -> bool:
    """Whether a value is no secret, wherever it stands: a switch, a short number, a span, a size, a network."""
    return isinstance(value, bool | int | float | str) and (
        _NO_SECRET.match(str(value)) is not None or _is_network(str(value))
    )


def _is_network(text: str) -> bool:
    try:
        ip_interface(text)
    except ValueError:
        return False
    return not text.isdigit() and "%" not in text  # behind it any text may stand


def _secretive(value: Any, name: str) -> Iterator[str]:
    """The texts that are neither a variable's name nor, where one may be, a file's path; `name` is the setting's."""
    if isinstance(value, dict):
        for inner, entry in value.items():
            yield from _secretive(entry, str(inner))
    elif isinstance(value, list):
        for entry in value:
            yield from _secretive(entry, name)
    elif isinstance(value, str) and len(value) >= _SHORTEST and not _is_name(value, name):
        yield value


def _is_name(text: str, name: str) -> bool:
    return is_variable_name(text) or (name in _FILES and is_path(text))


def is_variable_name(text: str) -> bool:
    """Whether it may be repeated as a variable's name: words in capitals. All else may be the secret itself."""
    return _VARIABLE.match(text) is not None and ("_" in text or _WORD.match(text) is not None)


def is_path(text: str) -> bool:
    """Whether it may be repeated as the path of a file: a whole one, one from here, or one that ends as files do.

    A slash alone says nothing: a private key has some.
    """
    has_login = ":" in text and "@" in text  # as //user:password@host has
    return len(text) <= _LONGEST_PATH and not has_login and _PATH.match(text) is not None


def hint(path: str, value: Any) -> str:
    """What else the value shows: quotes of a word processor, a variable that nobody fills in."""
    if not isinstance(value, str):
        return ""
    if _CURLY.search(value):
        return '; its quotes are curly: write "..."'
    if _FILLED_IN.search(value):
        name = "GATEWAY__" + path.upper().replace(".", "__")
        instead = "" if "[" in path else f": set it by the variable {name}"
        return f"; variables are not filled in{instead}, or a secret by {{env: NAME}}"
    return ""


def _whole_number(_: str, value: Any, __: Mapping[str, Any]) -> str:
    if isinstance(value, str) and _NUMBER.match(value):
        return f"must be a whole number: write {value} without quotes"
    if isinstance(value, str) and _FLOAT.match(value):
        return f"must be a whole number: write {float(value):.0f}"
    return "must be a whole number"


def _number(_: str, value: Any, __: Mapping[str, Any]) -> str:
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return f"must be a number: write {value} without quotes"
    return "must be a number"


def _switch(_: str, value: Any, __: Mapping[str, Any]) -> str:
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return f"must be true or false: write {value.lower()} without quotes"
    return "must be true or false"


def _text(_: str, value: Any, __: Mapping[str, Any]) -> str:
    if isinstance(value, bool | int | float):
        return f'must be a text: write "{str(value).lower()}" with quotes'
    if isinstance(value, dict | list):
        return 'must be a text: quote what has { or [ in it: "..."'
    return "must be a text"


def _list(_: str, value: Any, __: Mapping[str, Any]) -> str:
    if isinstance(value, str) and _LISTED.match(value):
        return f"must be a list: write [{value}]"
    if isinstance(value, dict):
        return 'must be a list: begin each entry with "- "'
    return 'must be a list: write [...], or each entry in a line that begins with "- "'


def _section(path: str, value: Any, _: Mapping[str, Any]) -> str:
    if value is None:
        return "is empty: write its settings in the lines below, indented, or leave it out"
    if isinstance(value, str) and path in {"listen", "admin"} and (found := _WHERE.match(value)):
        return f"must be a section: write {path}: {{address: {_quoted(found[1].strip('[]'))}, port: {found[2]}}}"
    return "must be a section: write its settings in the lines below, indented, each as name: value"


def _quoted(address: str) -> str:
    return f'"{address}"' if ":" in address else address


def _words(text: str) -> _Words:
    return lambda _, __, context: text.format(**context)


def _short(_: str, __: Any, context: Mapping[str, Any]) -> str:
    return "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']}"


def _short_text(_: str, __: Any, context: Mapping[str, Any]) -> str:
    least = context["min_length"]
    return "must not be empty" if least == 1 else f"must have at least {least} characters"


def _choice(_: str, __: Any, context: Mapping[str, Any]) -> str:
    return f"must be {context['expected'].replace(chr(39), '')}"


_BY_KIND: Final[Mapping[str, _Words]] = {
    "int_type": _whole_number,
    "int_from_float": _whole_number,
    "int_parsing": _whole_number,
    "float_type": _number,
    "float_parsing": _number,
    "decimal_type": _number,
    "decimal_parsing": _number,
    "bool_type": _switch,
    "bool_parsing": _switch,
    "string_type": _text,
    "path_type": _text,
    "list_type": _list,
    "dict_type": _section,
    "model_type": _section,
    "model_attributes_type": _section,
    "literal_error": _choice,
    "enum": _choice,
    "too_short": _short,
    "too_long": _words("must have at most {max_length}"),
    "greater_than": _words("must be more than {gt}"),
    "greater_than_equal": _words("must be at least {ge}"),
    "less_than": _words("must be less than {lt}"),
    "less_than_equal": _words("must be at most {le}"),
    "string_too_short": _short_text,
    "string_too_long": _words("must have at most {max_length} characters"),
    "string_pattern_mismatch": _words("must match {pattern}"),
    "timezone_aware": _words("needs a time zone, such as 2027-01-31T00:00:00Z"),
    "datetime_type": _words("must be a moment, such as 2027-01-31T00:00:00Z"),
    "datetime_parsing": _words("must be a moment, such as 2027-01-31T00:00:00Z"),
    "datetime_from_date_parsing": _words("must be a moment, such as 2027-01-31T00:00:00Z"),
    "invalid_key": _words("the name of a setting must be a text"),
}
