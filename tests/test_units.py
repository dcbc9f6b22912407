import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings.fields import DURATION_SCHEMA as _DURATION
from gateway.config.settings.fields import SIZE_SCHEMA as _SIZE
from gateway.units import day, maybe_moment, milliseconds, moment, seconds, size
from tests.support.pure import PROPERTY


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5s", 5.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("1.5h", 5400.0),
        ("5 s", 5.0),
    ],
)
def test_reads_durations(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1B", 1),
        ("1KB", 1024),
        ("200MB", 200 * 1024**2),
        ("2GB", 2 * 1024**3),
        ("0.5KB", 512),
        ("0B", 0),
        ("1.5B", 1),
    ],
)
def test_reads_sizes(text: str, value: int) -> None:
    assert size(text) == value


NEITHER = ["", "5", " 5s", "5s ", "5  s", "-5s", "+5s", "5.s", ".5s", "5.1234s", "1e3s", "5s\n", "٣s", "5x", "s",
"1" * 16 + "s",
           "1_0s", "inf", "nan", 5, 5.0, None, True, ["5s"], b"5s"]  # fmt: skip


@pytest.mark.parametrize("value", [*NEITHER, "5S", "5MB", "5min"])
def test_refuses_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"with its unit, such as 5s, 500ms or 1h \(units: ms, s, m, h, d\)"):
        seconds(value)


@pytest.mark.parametrize("value", [*NEITHER, "5kb", "5K", "5MiB", "5s"])
def test_refuses_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match=r"with its unit, such as 200MB or 1KB \(units: B, KB, MB, GB\)"):
        size(value)


@PROPERTY
@given(st.integers(0, 10**12), st.sampled_from(["B", "KB", "MB", "GB"]))
def test_whole_sizes_are_exact_and_larger_with_larger_units(number: int, unit: str) -> None:
    factor = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}[unit]
    if number * factor < 2**53:
        assert size(f"{number}{unit}") == number * factor


@PROPERTY
@given(st.from_regex(str(_DURATION["pattern"]), fullmatch=True))
def test_the_schema_promises_no_duration_that_is_refused(text: str) -> None:
    whole, _, rest = re.sub(r"[^0-9.]", "", text).partition(".")
    if len(whole) <= 15 and len(rest) <= 3:
        assert seconds(text) >= 0


@PROPERTY
@given(st.from_regex(str(_SIZE["pattern"]), fullmatch=True))
def test_the_schema_promises_no_size_that_is_refused(text: str) -> None:
    whole, _, rest = re.sub(r"[^0-9.]", "", text).partition(".")
    if len(whole) <= 15 and len(rest) <= 3:
        assert size(text) >= 0


def test_moments_and_days_as_people_write_them() -> None:
    assert moment(1_800_000_000) == maybe_moment(1_800_000_000) == "2027-01-15T08:00:00Z"
    assert (moment(-5), moment(1e300)) == ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
    assert maybe_moment(None) is None
    assert day(20261123) == "2026-11-23"


@pytest.mark.parametrize(
    ("time", "whole"),
    [
        (0.0, 0),
        (1.5, 1500),
        (1_795_977_107.0, 1_795_977_107_000),
        (1_795_977_107.064, 1_795_977_107_064),
        (0.0019, 1),
    ],
)
def test_milliseconds_are_whole_and_rounded_down(time: float, whole: int) -> None:
    assert milliseconds(time) == whole
