"""Strict base64url and JSON that can be read in one way only: pure.

The program that signs a token and the one that verifies it differ. Where a text can be read in two ways (padding and
stray bits of base64url, duplicate members, NaN), they may disagree, so such texts are refused. The functions return
None instead of raising: json's own errors contain the text, and a token must not appear in an error.

JSON is read in one piece that can't be interrupted. So its marks, which cause the cost, are limited.
"""

import json
from typing import Any, Final, NoReturn

_MARKS: Final = (b'"', b",", b"[", b"{", b"\\")
_MAX_DIGITS: Final = 64
_MAX_OF_FLOAT: Final = 25  # no double needs more, and the smallest ones take long to read from many digits
MAX_MARKS: Final = 10_000
"""Limit on quotation marks, commas, backslashes and opening brackets in a text: reading so many takes at most ten
milliseconds, a megabyte of them a quarter of a second."""


def read_object(text: bytes) -> dict[str, Any] | None:
    """Reads a JSON object in UTF-8 (RFC 8259); None if it is not one, has a duplicate member or too many marks."""
    if has_too_many_marks(text):
        return None
    is_long = len(text) > MAX_MARKS
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_int=_integer if is_long else None,
            parse_float=_float if is_long else None,
        )
    except (ValueError, RecursionError):
        # ValueError: not UTF-8, not JSON, a duplicate member, or an integer of more digits than Python converts.
        return None
    return value if isinstance(value, dict) else None


def has_too_many_marks(text: bytes) -> bool:
    """Whether reading this JSON would take too long."""
    return len(text) > MAX_MARKS and marks_of(text) > MAX_MARKS


def marks_of(text: bytes) -> int:
    """Counts quotation marks, commas, backslashes and opening brackets: each costs about a microsecond."""
    return sum(map(text.count, _MARKS))


def member_twice(text: bytes) -> str | None:
    """The name of a duplicate member in any object of this JSON, at any depth; else None, also if it is not JSON.

    It accepts any number, NaN too: for parsers that check all else themselves, but silently take the last duplicate.
    """
    try:
        json.loads(text.decode(), object_pairs_hook=_members, parse_int=str, parse_float=str)
    except _MemberTwiceError as error:
        return error.name
    except (ValueError, RecursionError):
        return None
    return None


class _MemberTwiceError(ValueError):
    """An object has this member more than once."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__("a member is there twice")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _MemberTwiceError(name)
        members[name] = value
    return members


def _integer(text: str) -> int:
    return int(_short(text))


def _float(text: str) -> float:
    return float(_short(text, _MAX_OF_FLOAT))


def _short(text: str, most: int = _MAX_DIGITS) -> str:
    if len(text) > most:  # a number of a kilobyte may take a tenth of a millisecond, and there may be many
        raise ValueError("a number is too long")
    return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
