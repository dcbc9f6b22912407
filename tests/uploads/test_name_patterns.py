"""Names and the patterns that fit them: as fnmatch has it."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.name_patterns import NamePatterns, compile_patterns
from tests.support.pure import PROPERTY

TEXTS = st.text("ab_-*", min_size=1, max_size=6)


@PROPERTY
@given(st.lists(TEXTS, max_size=6), st.text("ab_-*\n", max_size=8))
def test_they_fit_what_fnmatch_says(patterns: list[str], name: str) -> None:
    assert compile_patterns(patterns).match(name) == any(fnmatchcase(name, pattern) for pattern in patterns)


def test_without_patterns_nothing_fits() -> None:
    assert compile_patterns([]) == NamePatterns()
    assert not NamePatterns().match("")
    assert not NamePatterns().match("file")


@pytest.mark.parametrize(
    ("pattern", "others"), [("a", 0), ("a*", 0), ("*a", 0), ("*", 0), ("*a*", 1), ("a*b", 1), ("**", 1), ("**a", 1)]
)
def test_an_expression_is_what_no_comparison_says(pattern: str, others: int) -> None:
    found = compile_patterns([pattern, pattern])
    assert (found.others, found.expression is not None) == (others, bool(others))


def test_the_same_patterns_are_equal_however_they_are_ordered() -> None:
    """A reload that changes nothing judges no form again."""
    one, other = ["a", "b*", "*c", "d*", "*e*", "f*g"], ["f*g", "*e*", "d*", "*c", "b*", "a", "a"]
    assert compile_patterns(one) == compile_patterns(other) != compile_patterns(one[1:])
