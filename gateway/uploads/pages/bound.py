"""The most pages that a job may cost, known before the container may start the job: pure."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from gateway.errors import Refused, refuse
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import Form
from gateway.uploads.pages.page_range import PageRange, parse_max_pages, parse_page_range

PAGE_FIELDS: Final = frozenset({"page_range", "max_pages"})
"""The fields of a form that may limit its pages, if the container obeys them."""

_PAGED: Final = frozenset({FileKind.PDF, FileKind.TIFF, FileKind.IMAGE})


def check_choice(
    form: Form, cap: int, *, obeyed: AbstractSet[str] = PAGE_FIELDS, page_range_required: bool = False
) -> None:
    """Refuses a form by what it asks for alone, before its pages are counted; see page_bound.

    Raises:
        Refused: as page_bound does; too_many_pages also for a page_range of more pages than the cap, even if the
            document has fewer.
    """
    chosen, _ = _choices(form, obeyed, page_range_required=page_range_required)
    if chosen is not None and _kind(form) in _PAGED:
        check_cap(chosen.count(None), cap, narrowing(form, obeyed))


def page_bound(
    form: Form,
    counted: int | None,
    cap: int,
    *,
    obeyed: AbstractSet[str] = PAGE_FIELDS,
    page_range_required: bool = False,
) -> int:
    """Computes the page bound, at least 1.

    Args:
        form: what the client asks for.
        counted: the pages of its file; None if they can't be counted.
        cap: the profile's pages_per_request; also the cost of an uncounted document.
        obeyed: those of PAGE_FIELDS that the container obeys; the others are ignored.
        page_range_required: whether a form without page_range is refused, if the container obeys that.

    Raises:
        Refused: too_many_pages, bad_page_range, or field_refused for a missing page_range.
    """
    chosen, most = _choices(form, obeyed, page_range_required=page_range_required)
    total = 1 if _kind(form) is FileKind.IMAGE else counted if form.document else None
    if chosen is not None:  # for the container it overrides max_pages; in a spreadsheet it selects sheets
        pages = chosen.count(total) if _kind(form) in _PAGED else cap
    else:
        pages = cap if total is None else total
        pages = pages if most is None else min(pages, most)
    check_cap(pages, cap, narrowing(form, obeyed))
    return max(pages, 1)


def check_cap(pages: int, cap: int, narrowed_by: Sequence[str] = ("max_pages",)) -> None:
    """Refuses a job of more pages than a profile's pages_per_request. The answer says which field reduces them.

    Raises:
        Refused: too_many_pages.
    """
    if pages > cap:
        raise _too_many(pages, cap, narrowed_by)


def narrowing(form: Form, obeyed: AbstractSet[str]) -> list[str]:
    """The names of the fields that would lower this form's bound."""
    is_paged = _kind(form) in _PAGED
    return [name for name in ("page_range", "max_pages") if name in obeyed and (is_paged or name != "page_range")]


def _choices(
    form: Form, obeyed: AbstractSet[str], *, page_range_required: bool
) -> tuple[PageRange | None, int | None]:
    asked = form.page_range or ""
    if page_range_required and "page_range" in obeyed and not asked.strip(" "):
        raise refuse(Reason.FIELD_REFUSED, "This key has to say which pages: send page_range, such as 0-9.")
    chosen = parse_page_range(asked) if "page_range" in obeyed else None
    most = parse_max_pages(form.max_pages or "") if "max_pages" in obeyed else None
    return chosen, most


def _kind(form: Form) -> FileKind | None:
    return None if form.document is None else form.document.kind


def _too_many(pages: int, cap: int, narrowed_by: Sequence[str]) -> Refused:
    hint = {"page_range": " A page_range such as 0-9 narrows it.", "max_pages": " A max_pages narrows it."}
    detail = f"This job may cost {pages} pages; this key's limit is {cap} (profiles.<name>.pages_per_request)."
    return refuse(Reason.TOO_MANY_PAGES, detail + "".join(hint[name] for name in narrowed_by[:1]))
