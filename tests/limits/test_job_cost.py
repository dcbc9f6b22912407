from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.job_cost import Cost, Facts, FailedCosts, Known, cost_of, stricter

KNOWN = st.builds(Known, st.integers(0, 63))
NOTHING, RESERVED, SAID = Cost.NOTHING, Cost.RESERVED, Cost.SAID


@pytest.mark.parametrize(
    ("known", "by_nothing", "if_taken", "by_reserved"),
    [
        (Known.NOTHING, None, None, None),
        (Known.TAKEN, None, None, None),
        (Known.COMPLETE, SAID, SAID, SAID),
        (Known.COMPLETE | Known.FAILED | Known.LOST | Known.GIVEN_UP, SAID, SAID, SAID),
        (Known.FAILED, NOTHING, NOTHING, RESERVED),
        (Known.FAILED | Known.TAKEN, NOTHING, RESERVED, RESERVED),
        (Known.FAILED | Known.GIVEN_UP, NOTHING, NOTHING, RESERVED),
        (Known.FAILED | Known.LOST, NOTHING, NOTHING, RESERVED),
        (Known.LOST, NOTHING, NOTHING, RESERVED),
        (Known.LOST | Known.TAKEN, RESERVED, RESERVED, RESERVED),
        (Known.GIVEN_UP, RESERVED, RESERVED, RESERVED),
        (Known.GIVEN_UP | Known.LOST, RESERVED, RESERVED, RESERVED),
        (Known.DELETED, RESERVED, RESERVED, RESERVED),
        (Known.DELETED | Known.GIVEN_UP | Known.FAILED, RESERVED, RESERVED, RESERVED),
        (Known.DELETED | Known.FAILED | Known.COMPLETE, SAID, SAID, SAID),
    ],
)
def test_what_a_job_costs(
    known: Known, by_nothing: Cost | None, if_taken: Cost | None, by_reserved: Cost | None
) -> None:
    assert [cost_of(known, failed_costs) for failed_costs in FailedCosts] == [by_nothing, if_taken, by_reserved]


@given(KNOWN, KNOWN, st.sampled_from(FailedCosts))
def test_what_has_ended_stays_ended(known: Known, more: Known, failed_costs: FailedCosts) -> None:
    if cost_of(known, failed_costs) is not None:
        assert cost_of(known | more, failed_costs) is not None


def test_the_stricter_of_two_charges_more() -> None:
    assert [stricter(one, other) for one, other in permutations(FailedCosts, 2)] == [
        FailedCosts.IF_TAKEN, FailedCosts.RESERVED, FailedCosts.IF_TAKEN, FailedCosts.RESERVED, FailedCosts.RESERVED,
        FailedCosts.RESERVED,
    ]  # fmt: skip


@given(KNOWN, KNOWN)
def test_facts_add_up(one: Known, other: Known) -> None:
    both = Facts(one, 3).plus(Facts(other, 4))
    assert both == Facts(one | other, 3)
    assert Facts(one).plus(Facts(other, 4)).pages == 4
