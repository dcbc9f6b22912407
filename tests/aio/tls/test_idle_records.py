"""idle_records.py, by numbers: what honest peers send is none too many, neither in records nor in bytes."""

import pytest

from gateway.aio.tls.idle_records import IdleRecords, cost_of_idle


@pytest.mark.parametrize(("records", "size", "are_too_many"), [
    (0, 0, False), (2, 500, False), (64, 16_384, False), (65, 65, True), (2, 16_385, True),
])  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
def test_a_flood_is_one_by_number_or_by_size(records: int, size: int, are_too_many: bool, at_once: bool) -> None:
    idle = IdleRecords()
    if at_once or not records:
        idle.add(records, size)
    else:
        for number in range(records):
            assert not idle.are_too_many
            idle.add(1, size // records + (size % records if number == records - 1 else 0))
    assert idle.are_too_many is are_too_many


def test_those_of_a_connection_count_all_its_life() -> None:
    idle, other = IdleRecords(), IdleRecords()
    found = []
    for _ in range(64):
        idle.add(1, 22)
        found.append(idle.are_too_many)
    assert not any(found)
    idle.add(1, 22)
    assert [idle.are_too_many, other.are_too_many] == [True, False]


def test_a_large_one_costs_more_and_a_small_one_nothing_beside() -> None:
    assert [cost_of_idle(size) for size in (0, 22, 16_384)] == [0, 7, 5461]
