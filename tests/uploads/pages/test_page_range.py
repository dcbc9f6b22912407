import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.pages.page_range import PageRange, parse_max_pages, parse_page_range
from tests.support.pure import PROPERTY, denial_of


def container_reads(text: str) -> list[int]:
    """As the container does."""
    pages: list[int] = []
    for item in text.split(","):
        if "-" in item:
            first, last = item.split("-")
            pages += range(int(first), int(last) + 1)
        else:
            pages.append(int(item))
    return sorted(set(pages))


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("0", ((0, 0),)),
        ("0-4", ((0, 4),)),
        (" 0-4 , 7 ", ((0, 4), (7, 7))),
        ("7,0-4", ((0, 4), (7, 7))),
        ("0-4,2-9,5", ((0, 9),)),
        ("0,1,2", ((0, 2),)),
        ("3-3,5", ((3, 3), (5, 5))),
        ("00007", ((7, 7),)),
        ("0-99999", ((0, 99_999),)),
        (",".join(["0-99"] * 1000), ((0, 99),)),
    ],
)
def test_a_range_becomes_spans(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert parse_page_range(text) == PageRange(spans)


def test_empty_is_none_at_all() -> None:
    """FastAPI takes an empty field of a form for a missing one, but not one of blanks: those were a 500 and a 422."""
    assert parse_page_range("") is None
    assert parse_max_pages("") is None
    for blank in (" ", "   "):
        for parse in (parse_page_range, parse_max_pages):
            assert denial_of(parse, blank).reason is Reason.BAD_PAGE_RANGE


@pytest.mark.parametrize(
    "text",
    ["a", "-", "-1", "1-", "--", "1--2", "1-2-3", "+1", "1_0", "1.0", "0x1", "1 2", "1 - 2", "1,", ",1", ",", "1,,2",
     "2-1", "100000",
     "0-100000", "0-999999999", "9" * 100, "\u0661", "\u00b2", "1\n", "1\t", "\t", "1\x00", "1;2", "all", "1\u00a0",
     "\u22121",
     ",".join(["1"] * 1001)],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="0-4,7") as caught:
        parse_page_range(text)
    assert caught.value.denial.reason is Reason.BAD_PAGE_RANGE


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [("0-9", None, 10), ("0-9", 3, 3), ("0-9", 10, 10), ("0-9", 0, 0), ("5-9", 3, 0), ("0,5,9", 6, 2),
     ("0-4,2-7", None, 8)],
)  # fmt: skip
def test_pages_are_counted_once_and_only_where_there_are_any(text: str, total: int | None, count: int) -> None:
    pages = parse_page_range(text)
    assert pages is not None
    assert pages.count(total) == count


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.booleans()), min_size=1, max_size=8),
    st.none() | st.integers(0, 90),
)
def test_it_counts_what_the_container_reads(items: list[tuple[int, int, bool]], total: int | None) -> None:
    text = ",".join(str(first) if single else f" {first}-{first + more} " for first, more, single in items)
    pages = parse_page_range(text)
    assert pages is not None
    assert pages.count(total) == sum(1 for page in container_reads(text) if total is None or page < total)


@PROPERTY
@given(st.text(st.sampled_from("0123456789-, +_\u0663a"), max_size=12))
def test_what_is_accepted_the_container_reads(text: str) -> None:
    try:
        pages = parse_page_range(text)
    except Refused:
        return
    assert pages is None or pages.count(None) == len(container_reads(text))


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("100000", 100_000), ("0007", 7)])
def test_max_pages_is_one_number(text: str, number: int) -> None:
    assert parse_max_pages(text) == number


@pytest.mark.parametrize(
    "text", ["0", "100001", "-1", "+1", "1.0", "1e3", " 1", "1 ", "1_0", "\u0661", "None", "9" * 5000, "1\n"]
)
def test_a_bad_max_pages_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="1 to 100000") as caught:
        parse_max_pages(text)
    assert caught.value.denial.reason is Reason.BAD_PAGE_RANGE


@pytest.mark.parametrize("text", [",".join(["0-100"] * 1000), "0-99999,5"])
def test_what_is_listed_again_counts_again(text: str) -> None:
    """A container makes a list of all before it looks for what is there twice."""
    with pytest.raises(Refused):
        parse_page_range(text)
