"""Matches the names of fields with the patterns of body.refused_fields: pure.

A form may have hundreds of long names. Each pattern as an expression costs 25 ns a character, so what most patterns
are (a beginning, an end, a whole name) is compared for all of them at once.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """Patterns by their form. `others` are in `expression`, which costs for each of them."""

    names: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    others: int = 0
    expression: re.Pattern[str] | None = None

    def match(self, name: str) -> bool:
        """Whether one of them fits the whole name."""
        if name in self.names or name.startswith(self.beginnings) or name.endswith(self.endings):
            return True
        return self.expression is not None and bool(self.expression.fullmatch(name))


def compile_patterns(patterns: Iterable[str]) -> NamePatterns:
    """Compiles patterns in which `*` stands for any text, and all else for itself."""
    names, beginnings, endings, others = set[str](), set[str](), set[str](), set[str]()
    for pattern in patterns:
        stars, text = pattern.count("*"), pattern.strip("*")
        if not stars:
            names.add(pattern)
        elif stars == 1 and pattern.endswith("*"):
            beginnings.add(text)
        elif stars == 1 and pattern.startswith("*"):
            endings.add(text)
        else:
            others.add(pattern)
    expression = re.compile("|".join(map(fnmatch.translate, sorted(others)))) if others else None
    ordered = tuple(sorted(beginnings)), tuple(sorted(endings))
    return NamePatterns(frozenset(names), *ordered, len(others), expression)
