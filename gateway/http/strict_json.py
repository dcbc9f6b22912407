"""Base64url and JSON with one reading only: pure.

What signs a token and what believes it are two programs. Wherever a text has two readings (padding and stray bits of
base64url, a member that is there twice, NaN), they may differ, so such texts are refused. The functions answer None
instead of raising: json's own errors carry the text they failed on, and a token belongs into no error.

JSON is read in one piece, which nobody may interrupt: so it has a bound on its marks, which are what costs.
"""

import json
from typing import Any, Final, NoReturn

_MARKS: Final = (b'"', b",", b"[", b"{", b"\\")
_MAX_DIGITS: Final = 64
_MAX_OF_FLOAT: Final = 25  # no double needs more, and the smallest ones take long to read from many digits
MAX_MARKS: Final = 10_000
"""Of quotation marks, commas, backslashes and opening brackets a text has at most so many: they take ten milliseconds
at the most, a megabyte of them a quarter of a second."""


def read_object(text: bytes) -> dict[str, Any] | None:
    """Reads a JSON object in UTF-8 (RFC 8259); None for what is none, has a member twice, or too many marks."""
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
        # ValueError: no UTF-8, no JSON, twice the same member, or an integer of more digits than Python converts.
        return None
    return value if isinstance(value, dict) else None


def has_too_many_marks(text: bytes) -> bool:
    """Whether it would take too long to read this JSON."""
    return len(text) > MAX_MARKS and marks_of(text) > MAX_MARKS


def marks_of(text: bytes) -> int:
    """How many quotation marks, commas, backslashes and opening brackets it has: each costs about a microsecond."""
    return sum(map(text.count, _MARKS))


def member_twice(text: bytes) -> str | None:
    """The name of a member that an object of this JSON has twice, at any depth; None when there is none, or no JSON.

    It takes any number, NaN too: for parsers that judge all else by themselves, and take the last of two silently.
    """
    try:
        json.loads(text.decode(), object_pairs_hook=_members, parse_int=str, parse_float=str)
    except _MemberTwiceError as error:
        return error.name
    except (ValueError, RecursionError):
        return None
    return None


class _MemberTwiceError(ValueError):
    """An object has this member twice."""

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
    if len(text) > most:  # a number of a kilobyte may take a tenth of a millisecond, and many may follow it
        raise ValueError("a number is too long")
    return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
