"""Text that every sink takes: a log, a ledger, an answer. Pure."""

from typing import Final

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text, with U+FFFD for what is not printable: control characters, and lone surrogates, which JSON can spell.

    UTF-8 has no lone surrogate, and PostgreSQL takes no NUL.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _REPLACEMENT for character in text)
