"""The contents of a submit's form that the gateway needs: frozen values.

repr never shows field values: a form may contain secrets of LLM providers and signed addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.uploads.file_kind import FileKind
from gateway.uploads.name_patterns import NamePatterns


@dataclass(frozen=True, slots=True)
class FormRules:
    """Which fields a submit may not have, which are removed from it, which names a checkpoint. In lower case, folded.

    `refused_like` matches further names that it may not have; `options` is the field whose value is a JSON object of
    further fields, `members` are those that it may have (empty: any), `most_pages` limits its page_range.
    """

    refused: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    checkpoint: str | None = None
    refused_like: NamePatterns = field(default_factory=NamePatterns)
    options: str | None = None
    members: frozenset[str] = frozenset()
    most_pages: int | None = None

    def refuses(self, name: str) -> bool:
        """Whether a submit may not have a field of this name, given folded."""
        return name in self.refused or self.refused_like.match(name)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The one file of a form: its likely kind, and its size in bytes."""

    kind: FileKind
    size: int


_LONGEST_GIVEN: Final = 64  # characters: 500 longer names would be half a megabyte


@dataclass(slots=True)
class GivenNames:
    """The fields that have a value and go upstream, as they are named; of names that are too long, that there are."""

    names: set[str] = field(default_factory=set)
    has_long: bool = False

    def add(self, name: str) -> None:
        """Adds one."""
        if len(name) <= _LONGEST_GIVEN:
            self.names.add(name)
        else:
            self.has_long = True


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that limits depend on, as sent; `removed` holds, by name, the values that do not go upstream.

    `given` and `options`, the field of further fields, are there to judge it again by other rules.
    """

    page_range: str | None = field(default=None, repr=False)
    max_pages: str | None = field(default=None, repr=False)
    mode: str | None = field(default=None, repr=False)
    checkpoint: str | None = field(default=None, repr=False)
    removed: Mapping[str, str] = field(default_factory=dict, repr=False)
    given: GivenNames = field(default_factory=GivenNames, repr=False, compare=False)
    options: str | None = field(default=None, repr=False, compare=False)
    file: FileFacts | None = None
    has_two: bool = False
    """Whether it names another document (file_url, a checkpoint) beside its file: it is unknown which one counts."""

    @property
    def document(self) -> FileFacts | None:
        """The file, if the container will certainly convert it; None if it may convert another document."""
        return None if self.has_two else self.file


class Passed(NamedTuple):
    """The result of one piece of a body: bytes that may go upstream now, and those of them that are the file's."""

    upstream: bytes
    file: list[bytes]
