"""Pauses between tries."""

import pytest

from gateway.limits.pauses import doubled, jittered


@pytest.mark.parametrize(("failures", "pause"), [(0, 5.0), (1, 10.0), (3, 40.0), (4, 60.0), (10**9, 60.0)])
def test_a_pause_doubles_with_each_failure_up_to_the_longest(failures: int, pause: float) -> None:
    assert doubled(5.0, failures, 60.0) == pause


@pytest.mark.parametrize(("dice", "pause"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
def test_a_jittered_pause_is_shorter_or_longer_by_a_share(dice: float, pause: float) -> None:
    assert jittered(10.0, 0.2, dice) == pytest.approx(pause)
