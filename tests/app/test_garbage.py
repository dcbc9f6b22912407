import asyncio
import gc

import pytest

from gateway.app import garbage
from gateway.app.garbage import AT_LAST, GROWTH, IN_MOTION, IN_QUIET, MUCH, SOONEST, FullCollection, collect_garbage
from tests.support.waiting import eventually

BASE = 30_000_000


@pytest.mark.parametrize(
    ("after", "is_idle", "is_due"),
    [
        (IN_QUIET - 1, True, False),
        (IN_QUIET, True, True),
        (IN_QUIET, False, False),
        (AT_LAST - 1, False, False),
        (AT_LAST, False, True),
    ],
)
def test_a_full_collection_waits_for_a_quiet_moment_but_not_forever(
    after: float, is_idle: bool, is_due: bool
) -> None:
    assert FullCollection(5.0, BASE).is_due(5.0 + after, BASE + GROWTH - 1, is_idle=is_idle) is is_due


def test_the_next_one_is_due_so_long_after_the_end_of_the_last() -> None:
    full = FullCollection(0.0, BASE)
    full.note_end(100.0, BASE, 0)
    assert not full.is_due(IN_QUIET + 99, BASE, is_idle=True)
    assert full.is_due(IN_QUIET + 100, BASE, is_idle=True)


def test_while_memory_grows_it_comes_sooner() -> None:
    """What 15,000 hostile requests left was 94 MB, before what they leave was no more cyclic."""
    full = FullCollection(0.0, BASE)
    assert not full.is_due(SOONEST - 1, BASE + GROWTH, is_idle=True)
    assert full.is_due(SOONEST, BASE + GROWTH, is_idle=True)
    assert not full.is_due(IN_MOTION - 1, BASE + GROWTH, is_idle=False)
    assert full.is_due(IN_MOTION, BASE + GROWTH, is_idle=False)
    full.note_end(IN_MOTION, BASE + GROWTH, MUCH)
    after = IN_MOTION + SOONEST
    assert not full.is_due(after, BASE + 2 * GROWTH + GROWTH // 8, is_idle=True)  # no quarter of what is left
    assert full.is_due(after, BASE + 3 * GROWTH, is_idle=True)
    assert not full.is_due(after, BASE, is_idle=True)
    assert full.is_due(after, BASE + GROWTH, is_idle=True)  # it had been freed meanwhile


def test_memory_that_is_in_use_brings_about_few() -> None:
    """Who opens and closes connections makes memory rise and fall every 13 seconds, as often as he likes."""
    full, found = FullCollection(0.0, BASE), list[float]()
    for now in range(5, 3605, 5):
        resident = BASE + (GROWTH if now // 5 % 3 else 0)
        if full.is_due(float(now), resident, is_idle=True):
            found.append(float(now))
            full.note_end(float(now), resident, MUCH - 1)
    assert len(found) <= 12  # they were 180; in quiet they are 6
    assert found[-1] - found[-2] >= IN_QUIET


def test_after_a_time_without_growth_it_comes_sooner_again() -> None:
    full, now = FullCollection(0.0, BASE), 0.0
    for _ in range(6):
        now += IN_QUIET
        assert full.is_due(now, BASE + GROWTH, is_idle=True)
        full.note_end(now, BASE, 0)
    assert not full.is_due(now + SOONEST, BASE + GROWTH, is_idle=True)
    for _ in range(6):
        now += IN_QUIET
        assert full.is_due(now, BASE, is_idle=True)
        full.note_end(now, BASE, 0)
    assert full.is_due(now + SOONEST, BASE + GROWTH, is_idle=True)


def test_while_it_finds_much_it_stays_soon() -> None:
    full, now = FullCollection(0.0, BASE), 0.0
    for _ in range(5):
        now += SOONEST
        assert full.is_due(now, BASE + GROWTH, is_idle=True)
        full.note_end(now, BASE, MUCH)


async def test_what_is_due_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERY", 0.0)
    now, collected = [0.0], list[float]()

    def collect() -> int:
        collected.append(now[0])
        return 0

    task = asyncio.get_running_loop().create_task(
        collect_garbage(lambda: True, lambda: now[0], lambda: BASE, collect)
    )
    await asyncio.sleep(0)
    for now[0] in (IN_QUIET, 2 * IN_QUIET):
        await eventually(lambda: bool(collected) and collected[-1] == now[0])
    task.cancel()
    assert collected == [IN_QUIET, 2 * IN_QUIET]


def test_what_is_made_while_clients_are_served_is_never_collected_in_full() -> None:
    """Many containers at once, as JSON of a client has them, go through the young generations only."""
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, garbage.NEVER)
    full = gc.get_stats()[2]["collections"]
    try:
        for _ in range(100):
            _nest(9_000)
        assert gc.get_stats()[2]["collections"] == full
    finally:
        gc.set_threshold(*thresholds)


def _nest(size: int) -> list[object]:
    return [[] for _ in range(size)]
