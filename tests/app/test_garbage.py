import asyncio
import gc

import pytest

from gateway.app import garbage
from gateway.app.garbage import AT_LAST, GROWTH, IN_QUIET, SOONEST, FullCollection, collect_garbage
from tests.support.waiting import eventually

BASE = 100_000_000


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
    full.note_end(100.0, BASE)
    assert not full.is_due(IN_QUIET + 99, BASE, is_idle=True)
    assert full.is_due(IN_QUIET + 100, BASE, is_idle=True)


def test_while_memory_grows_it_waits_for_no_quiet_moment() -> None:
    """What 15,000 hostile requests left was 94 MB."""
    full = FullCollection(0.0, BASE)
    assert not full.is_due(SOONEST - 1, BASE + GROWTH, is_idle=False)
    assert full.is_due(SOONEST, BASE + GROWTH, is_idle=False)
    full.note_end(SOONEST, BASE + GROWTH)  # it was in use
    assert not full.is_due(3 * SOONEST, BASE + 2 * GROWTH - 1, is_idle=False)
    assert not full.is_due(3 * SOONEST, BASE, is_idle=False)
    assert full.is_due(3 * SOONEST, BASE + GROWTH, is_idle=False)  # it had been freed meanwhile


async def test_what_is_due_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERY", 0.0)
    now, collected = [0.0], list[float]()
    task = asyncio.get_running_loop().create_task(
        collect_garbage(lambda: True, lambda: now[0], lambda: BASE, lambda: collected.append(now[0]))
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
