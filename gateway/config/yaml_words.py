"""What is wrong with a text that is not YAML, in plain words with the way out; never with the text's values. Pure.

A value may be a URL with a password, so only keys of the file are quoted.
"""

import re
from typing import Final, NamedTuple

import yaml

_KEY: Final = re.compile(r"\s*(?:- )?([A-Za-z_][A-Za-z0-9_-]{0,60}):(?:\s|$)")
_INNER: Final = re.compile(r"\s*(?:- )?[\w-]+:\s+[^\"'\s].*:(?:\s|$)")
_ITEM: Final = "a list item stands further left or right than the others: indent them alike"
_UNCLOSED: Final = "found unexpected end of stream"
_WORDS: Final = {
    "found character '\\t'": "a tab stands there: indent with spaces",
    "found unknown escape character": "a backslash begins an unknown escape: use single quotes",
    "could not determine a constructor": "tags (!name) are not supported here: quote the value",
    "found character '@'": "a value can't begin with @: quote it",
    "found character '`'": "a value can't begin with `: quote it",
    "found character '%'": "a value can't begin with %: quote it",
    "expected ',' or '}'": 'a { begins a mapping, and no } ends it: a text must be quoted: "..."',
    "expected ',' or ']'": 'a [ begins a list, and no ] ends it: a text must be quoted: "..."',
    "expected the node content, but found '<stream end>'": "it ends where a value should be",
    "expected the node content, but found ": 'a [ or { begins a list or a mapping: a text must be quoted: "..."',
    "expected <block end>, but found '-'": _ITEM,
    "expected <block end>, but found '<block sequence start>'": _ITEM,
    "expected <block end>, but found '<scalar>'": "a text ends here and more follows: quote it whole",
    _UNCLOSED: "a quote begins here that is never closed",
    "could not find expected ':'": "a setting is written name: value, and here is no colon with a blank after it",
    "but found another document": "a second document begins (---): a configuration has one",
    "found unhashable key": "a list or a mapping can't be the name of a setting",
}


class Broken(NamedTuple):
    """What is wrong, and in which line if that is known."""

    text: str
    line: int | None = None


def syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Broken:
    """Says what the parser could not read."""
    mark = error.context_mark if str(error.problem).startswith(_UNCLOSED) else error.problem_mark
    line = mark.line + 1 if mark else None
    return Broken(_in_words(str(error.problem), text.splitlines(), line or 0), line)


def _in_words(problem: str, lines: list[str], number: int) -> str:
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    if problem.startswith("mapping values are not allowed"):
        return _colon(line)
    if problem.startswith("expected <block end>, but found '<block mapping start>'"):
        return _shifted(line)
    return next((words for known, words in _WORDS.items() if problem.startswith(known)), problem)


def _colon(line: str) -> str:
    """A colon where none may be: within a value, or after a key that is taken for a part of the value above."""
    if _INNER.match(line):
        return 'a value with a colon and a blank in it must be quoted: "..."'
    return _shifted(line)


def _shifted(line: str) -> str:
    found = _KEY.match(line)
    which = f"{found[1]} stands" if found else "this stands"
    return f"{which} further left or right than the settings beside it: indent them alike"


def not_utf8(content: bytes) -> Broken | None:
    """The first line with a byte that is no UTF-8, or with a control character; None where there is none."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return Broken("a byte stands there that is not UTF-8: write UTF-8", content.count(b"\n", 0, error.start) + 1)
    for i, character in enumerate(text):
        if character < " " and character not in "\t\r\n":
            return Broken("a control character stands there: this is not text", text.count("\n", 0, i) + 1)
    return None
