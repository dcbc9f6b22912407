"""The lock files: what pip wants of them on a machine that has nothing, also after there are newer releases."""

import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DIRECTORY: Final = Path(__file__).parent.parent / "requirements"
LOCKS: Final = sorted(DIRECTORY.glob("*.txt"))
_NAMED: Final = re.compile(r"^(?P<text>[A-Za-z0-9][^\\\n]*?) \\\n +--hash=sha256:", re.MULTILINE)


def locked(lock: Path) -> dict[str, Requirement]:
    requirements = [Requirement(match["text"]) for match in _NAMED.finditer(lock.read_text("ascii"))]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def dependencies(requirement: Requirement) -> Iterator[Requirement]:
    """What it needs on this machine, with its extras."""
    for text in distribution(requirement.name).requires or ():
        needed = Requirement(text)
        extras = ("", *requirement.extras)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield needed


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_everything_is_pinned_and_no_index_is_named(lock: Path) -> None:
    text = lock.read_text("ascii")
    assert len(locked(lock)) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)) > 20
    for requirement in locked(lock).values():
        assert str(requirement.specifier).startswith("==")
        assert requirement.url is None
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.stem != "bench"], ids=lambda lock: lock.stem)
def test_what_is_needed_is_locked_with_its_extras(lock: Path) -> None:
    """pip 23 takes `coverage[toml]` for another thing than a locked `coverage`, and wants its newest release."""
    found = locked(lock)
    here = [item for item in found.values() if item.marker is None or item.marker.evaluate()]
    for requirement in here:
        for needed in dependencies(requirement):
            pinned = found[canonicalize_name(needed.name)]
            assert needed.extras <= pinned.extras, f"{requirement.name} needs {needed}, which is locked as {pinned}"
            assert next(iter(pinned.specifier)).version in needed.specifier
