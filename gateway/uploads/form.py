"""What a submit's form says, as far as the gateway has to know it: frozen values.

Values of fields are never shown by repr: a form may carry secrets of LLM providers and signed addresses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.uploads.file_kind import FileKind


@dataclass(frozen=True, slots=True)
class FormRules:
    """Which fields a submit may not have, which are taken out of it, which names a checkpoint. In lower case.

    `refused_like` matches further names that it may not have; `options` is the field whose value is a JSON object of
    further fields, `members` are those that it may have (none: any), `most_pages` is what its page_range may list.
    """

    refused: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    checkpoint: str | None = None
    refused_like: re.Pattern[str] | None = None
    options: str | None = None
    members: frozenset[str] = frozenset()
    most_pages: int | None = None

    def refuses(self, name: str) -> bool:
        """Whether a submit may not have a field of this name, which is in lower case."""
        return name in self.refused or (self.refused_like is not None and bool(self.refused_like.fullmatch(name)))


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The one file of a form: what it seems to be, and its size in bytes."""

    kind: FileKind
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that the gateway limits by, as sent; `removed` holds the values that do not go upstream, by name."""

    page_range: str | None = field(default=None, repr=False)
    max_pages: str | None = field(default=None, repr=False)
    mode: str | None = field(default=None, repr=False)
    checkpoint: str | None = field(default=None, repr=False)
    removed: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: FileFacts | None = None
    has_two: bool = False
    """Whether it names a document elsewhere (file_url, a checkpoint) beside its file: nobody knows which is taken."""

    @property
    def document(self) -> FileFacts | None:
        """The file, where that is what the container will convert; None where anything else may be."""
        return None if self.has_two else self.file


class Passed(NamedTuple):
    """What one piece of a body gave: bytes that may go upstream now, and which bytes of the file were among it."""

    upstream: bytes
    file: list[bytes]
