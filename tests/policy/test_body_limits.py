import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.reasons import Reason
from gateway.model.request import BodyLimit
from gateway.policy.body_limits import check_length, with_framing
from tests.support.pure import PROPERTY, denial_of


@PROPERTY
@given(st.none() | st.integers(0, 2**62), st.integers(1, 2**62))
def test_a_body_is_refused_by_its_length(length: int | None, most: int) -> None:
    limit = BodyLimit(most, "profiles.<name>.body_limit")
    if length is None or length <= most:
        check_length(length, limit)
        return
    denial = denial_of(check_length, length, limit)
    assert denial.reason is Reason.BODY_TOO_LARGE
    assert {str(length), str(most)} <= set(re.findall(r"\d+", denial.detail))
    assert "profiles.<name>.body_limit" in denial.detail


@pytest.mark.parametrize(
    ("limit", "allowance"),
    [(1, 1), (999, 999), (1000, 1001), (8_192_000, 8_200_192), (200 * 1024**2, 200 * 1024**2 + 8192)],
)
def test_framing_may_add_a_little_to_a_body(limit: int, allowance: int) -> None:
    assert with_framing(limit) == allowance
