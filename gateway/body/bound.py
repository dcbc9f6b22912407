"""The most pages that a job may cost, known before the container may start it: pure."""

from gateway.body.filekind import FileKind
from gateway.body.form import Form
from gateway.body.pagerange import parse_max_pages, parse_page_range
from gateway.errors import refuse
from gateway.model import Reason


def page_bound(form: Form, counted: int | None, cap: int, *, page_range_required: bool = False) -> int:
    """Works out the bound, at least 1.

    Args:
        form: what the client asks for.
        counted: the pages of its PDF; None if it is no PDF or can't be counted.
        cap: the profile's pages_per_request; it is also what the unknown costs.
        page_range_required: whether a form without page_range is refused.

    Raises:
        Refused: too_many_pages, bad_page_range, or field_refused for a missing page_range.
    """
    chosen = parse_page_range(form.page_range or "")
    most = parse_max_pages(form.max_pages or "")
    if chosen is None and page_range_required:
        raise refuse(Reason.FIELD_REFUSED, "This key has to say which pages: send page_range, such as 0-9.")
    total = _total(form, counted)
    if chosen is not None:  # the container lets it override max_pages
        pages = chosen.count(total)
    else:
        pages = cap if total is None else total
        pages = pages if most is None else min(pages, most)
    if pages > cap:
        detail = (
            f"This job may cost {pages} pages; this key's limit is {cap} (profiles.<name>.pages_per_request). "
            "A page_range such as 0-9 narrows it."
        )
        raise refuse(Reason.TOO_MANY_PAGES, detail)
    return max(pages, 1)


def _total(form: Form, counted: int | None) -> int | None:
    if form.file is not None and form.file.kind is FileKind.IMAGE:
        return 1
    return counted
