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
_MAX_DIGITS_IN_ALL: Final = 100_000  # 4000 doubles of the costliest, which take three milliseconds
MAX_MARKS: Final = 10_000
"""Limit on quotation marks, commas, backslashes and opening brackets in a text: reading so many takes at most ten
milliseconds, a megabyte of them a quarter of a second."""


def read_object(text: bytes) -> dict[str, Any] | None:
    """Reads a JSON object in UTF-8 (RFC 8259); None if it is not one, has a duplicate member or too many marks."""
    if has_too_many_marks(text):
        return None
    numbers = _DigitBudget() if len(text) > MAX_MARKS else None
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_int=numbers.integer if numbers else None,
            parse_float=numbers.float if numbers else None,
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


class _DigitBudget:
    """Converts the numbers of one long text, as long as each is short, and all of them together are."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MAX_DIGITS_IN_ALL

    def integer(self, text: str) -> int:
        """Called by json for each integer."""
        return int(self._spent(text, _MAX_DIGITS))

    def float(self, text: str) -> float:
        """Called by json for each number with a fraction or an exponent."""
        return float(self._spent(text, _MAX_OF_FLOAT))

    def _spent(self, text: str, most: int) -> str:
        self._left -= len(text)
        if len(text) > most or self._left < 0:  # one of a kilobyte may take 0.1 milliseconds, and many may follow it
            raise ValueError("numbers are too long")
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
