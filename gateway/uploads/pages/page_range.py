"""Reads page_range and max_pages as strictly as the container could: pure.

The container's grammar is comma-separated numbers and inclusive ranges, counted from 0, without a limit: it would
make a list of `0-999999999`. What int() accepts besides ASCII digits (signs, `_`, other scripts) is refused.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Refused, refuse
from gateway.model.reasons import Reason

_ITEM: Final = re.compile(r" *([0-9]{1,5})(?:-([0-9]{1,5}))? *")
_MAX_ITEMS: Final = 1000
_NUMBER: Final = re.compile(r"[0-9]{1,6}\Z")
_MAX_PAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class PageRange:
    """Pages as spans (first, last): inclusive, counted from 0, in order, with gaps between them."""

    spans: tuple[tuple[int, int], ...]
    listed: int = field(default=0, compare=False)
    """How many pages were listed, duplicates included: a container may make a list of all."""

    def count(self, total: int | None) -> int:
        """The number of distinct pages, in a document of `total` pages, or in any document (None)."""
        if total is None:
            return sum(last - first + 1 for first, last in self.spans)
        return sum(max(0, min(last, total - 1) - first + 1) for first, last in self.spans)


def parse_page_range(text: str) -> PageRange | None:
    """Reads a page_range; None if it is empty, which a container takes for none. One of blanks it does not.

    Raises:
        Refused: bad_page_range, with the grammar.
    """
    if not text:
        return None
    items = text.split(",", _MAX_ITEMS)
    if len(items) > _MAX_ITEMS:
        raise _bad_range()
    spans = sorted(map(_span, items))
    listed = sum(last - first + 1 for first, last in spans)
    if listed > _MAX_PAGES:
        raise _bad_range()
    return PageRange(_merged(spans), listed)


def parse_max_pages(text: str) -> int | None:
    """Reads a max_pages; None if it is empty, as for a page_range.

    Raises:
        Refused: bad_page_range, with the limits.
    """
    if not text:
        return None
    if not _NUMBER.match(text) or not 1 <= int(text) <= _MAX_PAGES:
        raise refuse(Reason.BAD_PAGE_RANGE, f"max_pages is one number from 1 to {_MAX_PAGES}.")
    return int(text)


def _span(item: str) -> tuple[int, int]:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _bad_range()
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first:
        raise _bad_range()
    return first, last


def _merged(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged = spans[:1]
    for first, last in spans[1:]:
        begin, end = merged[-1]
        if first <= end + 1:
            merged[-1] = (begin, max(end, last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _bad_range() -> Refused:
    detail = (
        "page_range is a list such as 0-4,7: pages counted from 0 to 99999, ranges upwards, at most 1000 items "
        "and 100000 pages in all."
    )
    return refuse(Reason.BAD_PAGE_RANGE, detail)
