"""Times as people write them."""

import pytest

from gateway.cli.time_arguments import coming, gone
from gateway.units import moment

NOW = 1_795_435_200.0  # 2026-11-23 12:00 UTC


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("90d", "2027-02-21T12:00:00Z"),
        ("1.5h", "2026-11-23T13:30:00Z"),
        ("2027-01-31", "2027-01-31T00:00:00Z"),
        ("2027-01-31T10:00", "2027-01-31T10:00:00Z"),
        ("2027-01-31 10:00:07", "2027-01-31T10:00:07Z"),
        ("2027-01-31T10:00:00Z", "2027-01-31T10:00:00Z"),
        ("2027-01-31T10:00:00+02:00", "2027-01-31T08:00:00Z"),
    ],
)
def test_a_moment_to_come(text: str, told: str) -> None:
    assert moment(coming(text, NOW)) == told


@pytest.mark.parametrize(
    "text", ["", "90", "tomorrow", "-1d", "20270131", "2027-W05-1", "2027-02-30", "2027-1-1", "1y"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"write a duration such as 90d or 12h, or a date such as 2027-01-31 .*: ms, s, m, h, d$"
    ):
        coming(text, NOW)


def test_a_moment_that_is_past() -> None:
    assert moment(gone("30d", NOW)) == "2026-10-24T12:00:00Z"
    assert moment(gone("2026-11-01", NOW)) == "2026-11-01T00:00:00Z"
    with pytest.raises(ValueError, match="before 1970"):
        gone("99999d", NOW)
