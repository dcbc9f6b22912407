"""Strict base64url and JSON that can be read in one way only: pure.

The program that signs a token and the one that verifies it differ. Where a text can be read in two ways (padding and
stray bits of base64url, duplicate members, NaN), they may disagree, so such texts are refused. The functions return
None instead of raising: json's own errors contain the text, and a token must not appear in an error.

JSON is read in one piece that can't be interrupted. So its marks, which cause the cost, are limited, and so are the
numbers that are converted: a double may cost as much as a hundred bytes do. `read_texts`,
which reads names and texts only, converts none.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

_MARKS: Final = b'",[{\\'
_MAX_DIGITS: Final = 64
_MAX_OF_FLOAT: Final = 25  # no double needs more, and the smallest ones take long to read from many digits
_MAX_DIGITS_IN_ALL: Final = 100_000  # 4000 doubles of the costliest without an exponent, which take two milliseconds
_MAX_EXPONENTS: Final = 1_000  # a double has the price of its value, not of its length: 3e-316 takes microseconds
_FEW_BYTES: Final = 5_000  # no text so short can have many numbers that are dear
MAX_MARKS: Final = 10_000
"""Limit on quotation marks, commas, backslashes and opening brackets in a text: reading so many takes at most ten
milliseconds, a megabyte of them a quarter of a second."""


def read_object(text: bytes) -> dict[str, Any] | None:
    """Reads a JSON object in UTF-8 (RFC 8259).

    None if it is not one, has a duplicate member or too many marks or numbers.
    """
    numbers = _NumberBudget(len(text)) if len(text) > _FEW_BYTES else None
    return _read(text, numbers.integer, numbers.float) if numbers else _read(text, None, None)


def read_texts(text: bytes) -> dict[str, Any] | None:
    """As read_object, if only names, texts and what is null are needed: every number is 0, and none is refused."""
    return _read(text, _no_number, _no_number)


def _read(
    text: bytes, integer: Callable[[str], int] | None, real: Callable[[str], float] | None
) -> dict[str, Any] | None:
    if has_too_many_marks(text):
        return None
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_int=integer,
            parse_float=real,
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
    return count_of(text, _MARKS)


def count_of(text: bytes, marks: bytes) -> int:
    """How often any of these bytes occurs: one pass of a nanosecond a byte. `bytes.count` takes two for each mark."""
    return len(text) - len(text.translate(None, marks))


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


def _no_number(_: str) -> int:
    """Called by json for a number that nobody wants."""
    return 0


class _NumberBudget:
    """Converts the numbers of one text, as long as few have exponents; of a long one, as long as they are short.

    Each has to be short then, and all of them together.
    """

    __slots__ = ("_digits", "_exponents", "_is_long")

    def __init__(self, size: int) -> None:
        self._is_long = size > MAX_MARKS
        self._digits = _MAX_DIGITS_IN_ALL
        self._exponents = _MAX_EXPONENTS

    def integer(self, text: str) -> int:
        """Called by json for each integer."""
        return int(self._spent(text, _MAX_DIGITS))

    def float(self, text: str) -> float:
        """Called by json for each number with a fraction or an exponent."""
        self._exponents -= "e" in text or "E" in text
        if self._exponents < 0:
            raise ValueError("too many numbers have exponents")
        return float(self._spent(text, _MAX_OF_FLOAT))

    def _spent(self, text: str, most: int) -> str:
        self._digits -= len(text)
        # One of a kilobyte may take 0.1 milliseconds, and many may follow it.
        if self._is_long and (len(text) > most or self._digits < 0):
            raise ValueError("numbers are too long")
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
