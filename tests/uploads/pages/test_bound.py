from dataclasses import replace

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import FileFacts, Form
from gateway.uploads.pages.bound import PAGE_FIELDS, check_choice, narrowing, page_bound

CAP = 100


def form(kind: FileKind | None = FileKind.PDF, page_range: str | None = None, max_pages: str | None = None) -> Form:
    return Form(page_range=page_range, max_pages=max_pages, file=None if kind is None else FileFacts(kind, 1))


@pytest.mark.parametrize(
    ("asked", "counted", "bound"),
    [
        (form(), 7, 7),
        (form(), 0, 1),
        (form(), CAP, CAP),
        (form(), None, CAP),
        (form(FileKind.UNKNOWN), None, CAP),
        (form(None), None, CAP),
        (form(FileKind.IMAGE), None, 1),
        (form(FileKind.IMAGE, "0-9"), None, 1),
        (form(FileKind.IMAGE, max_pages="50"), None, 1),
        (form(FileKind.IMAGE, "5"), None, 1),
        (form(FileKind.TIFF), 9, 9),
        (form(FileKind.TIFF), None, CAP),
        (form(FileKind.TIFF, "0-4"), 9, 5),
        (form(FileKind.UNKNOWN, "0"), None, CAP),  # the first sheet, as long as it is
        (form(FileKind.UNKNOWN, "0", "1"), None, CAP),  # page_range beats max_pages
        (form(FileKind.UNKNOWN, "0-99999"), None, CAP),
        (form(FileKind.UNKNOWN, max_pages="3"), None, 3),
        (form(None, "0"), None, CAP),
        (form(max_pages="3"), 7, 3),
        (form(max_pages="30"), 7, 7),
        (form(max_pages="3"), 0, 1),
        (form(max_pages="3"), 5000, 3),
        (form(max_pages="3"), None, 3),
        (form(max_pages="5000"), None, CAP),
        (form(page_range="0-9"), 7, 7),
        (form(page_range="0-4,2"), 7, 5),
        (form(page_range="50-60"), 7, 1),
        (form(page_range="0-9"), None, 10),
        (form(page_range="0-9", max_pages="1"), 50, 10),
        (form(page_range="", max_pages=""), 7, 7),
        (form(page_range="0-9"), 5000, 10),
        (replace(form(), has_two=True), 1, CAP),
        (replace(form(FileKind.IMAGE), has_two=True), None, CAP),
        (replace(form(page_range="0"), has_two=True), 1, CAP),
        (replace(form(max_pages="3"), has_two=True), 1, 3),
    ],
)
def test_the_bound_is_the_most_that_the_job_may_cost(asked: Form, counted: int | None, bound: int) -> None:
    assert page_bound(asked, counted, CAP) == bound


@pytest.mark.parametrize(
    ("asked", "counted", "pages"),
    [(form(), 101, 101), (form(page_range="0-100"), None, 101), (form(max_pages="200"), 5000, 200),
     (form(page_range="0-999", max_pages="1"), 5000, 1000)],
)  # fmt: skip
def test_more_than_the_cap_is_refused_with_what_helps(asked: Form, counted: int | None, pages: int) -> None:
    with pytest.raises(Refused) as caught:
        page_bound(asked, counted, CAP)
    denial = caught.value.denial
    assert denial.reason is Reason.TOO_MANY_PAGES
    for word in (f" {pages} pages", f" {CAP} ", "profiles.<name>.pages_per_request", "page_range"):
        assert word in denial.detail


@pytest.mark.parametrize(
    ("obeyed", "bound"),
    [({"page_range", "max_pages"}, 2), ({"page_range"}, 2), ({"max_pages"}, 1), (set(), 7)],
)
def test_a_field_that_the_container_does_not_obey_counts_for_nothing(obeyed: set[str], bound: int) -> None:
    assert page_bound(form(page_range="0-1", max_pages="1"), 7, CAP, obeyed=obeyed) == bound


def test_what_means_nothing_to_the_container_may_be_anything_and_is_not_asked_for() -> None:
    asked = form(page_range="all", max_pages="-1")
    assert page_bound(asked, 7, CAP, obeyed=frozenset(), page_range_required=True) == 7
    check_choice(asked, CAP, obeyed=frozenset(), page_range_required=True)


@pytest.mark.parametrize(
    ("obeyed", "hint"),
    [({"page_range", "max_pages"}, "page_range"), ({"max_pages"}, "max_pages"), (set(), None)],
)
def test_a_refusal_names_the_fields_that_would_help(obeyed: set[str], hint: str | None) -> None:
    with pytest.raises(Refused) as caught:
        page_bound(form(), 500, CAP, obeyed=obeyed)
    named = {name for name in ("page_range", "max_pages") if f" A {name} " in caught.value.denial.detail}
    assert named == ({hint} if hint else set())


def test_what_narrows_a_form() -> None:
    assert narrowing(form(), PAGE_FIELDS) == ["page_range", "max_pages"]
    assert narrowing(form(), {"page_range"}) == ["page_range"]
    assert narrowing(form(FileKind.UNKNOWN), PAGE_FIELDS) == ["max_pages"]
    assert narrowing(form(None), set()) == []


@pytest.mark.parametrize(
    ("page_range", "reason"), [("0-999", Reason.TOO_MANY_PAGES), ("0-x", Reason.BAD_PAGE_RANGE), ("0-99", None)]
)
def test_what_a_form_asks_for_is_judged_before_anything_is_counted(page_range: str, reason: Reason | None) -> None:
    if reason is None:
        check_choice(form(page_range=page_range), CAP)
        return
    with pytest.raises(Refused) as caught:
        check_choice(form(page_range=page_range), CAP)
    assert caught.value.denial.reason is reason


@pytest.mark.parametrize("page_range", [None, "", "  "])
def test_a_page_range_can_be_demanded(page_range: str | None) -> None:
    with pytest.raises(Refused, match="0-9") as caught:
        page_bound(form(page_range=page_range), 1, CAP, page_range_required=True)
    assert caught.value.denial.reason is Reason.FIELD_REFUSED
    assert page_bound(form(page_range="0"), 1, CAP, page_range_required=True) == 1


@pytest.mark.parametrize(
    "asked", [form(page_range="0-999999999"), form(max_pages="-1"), form(page_range="0", max_pages="x")]
)
def test_what_the_container_could_read_in_another_way_is_refused(asked: Form) -> None:
    with pytest.raises(Refused) as caught:
        page_bound(asked, 7, CAP)
    assert caught.value.denial.reason is Reason.BAD_PAGE_RANGE
