import asyncio
import itertools
import subprocess
import sys
from threading import Thread

import pytest

from gateway.app.memory import GROWTH, Peak, release_memory, resident_bytes
from tests.support.waiting import eventually

BASE = 100_000_000


@pytest.mark.parametrize(
    ("looks", "over"),
    [
        ([(BASE + GROWTH, True)], [False]),  # it has just grown: perhaps it still does
        ([(BASE + GROWTH, True), (BASE + GROWTH, True)], [False, True]),
        ([(BASE + GROWTH - 1, True), (BASE + GROWTH - 1, True)], [False, False]),
        ([(BASE + GROWTH, False), (BASE + GROWTH, False), (BASE + GROWTH, True)], [False, False, True]),
        ([(BASE - GROWTH, True), (BASE, True), (BASE, True)], [False, False, True]),
    ],
)
def test_memory_goes_back_when_a_peak_is_over_and_nobody_waits(
    looks: list[tuple[int, bool]], over: list[bool]
) -> None:
    peak = Peak(BASE)
    assert [peak.is_over(resident, is_idle=is_idle) for resident, is_idle in looks] == over


def test_what_does_not_go_back_is_not_asked_for_again() -> None:
    peak = Peak(BASE)
    grown = BASE + 2 * GROWTH
    assert [peak.is_over(grown, is_idle=True) for _ in range(2)] == [False, True]
    peak.note_calm(grown)
    assert [peak.is_over(grown, is_idle=True) for _ in range(3)] == [False] * 3


def test_what_did_not_go_back_is_asked_for_again_after_some_minutes() -> None:
    """It was in use then: 400 idle connections had it, and left it resident when they closed."""
    peak = Peak(BASE)
    grown = BASE + 2 * GROWTH
    peak.note_calm(grown)
    looks = [peak.is_over(grown, is_idle=True) for _ in range(40)]
    assert looks.index(True) in range(20, 35)
    peak.note_calm(grown)
    assert not any(peak.is_over(grown, is_idle=True) for _ in range(20))


def test_the_base_falls_no_lower_than_memory_ever_was() -> None:
    peak = Peak(BASE)
    assert not any(peak.is_over(BASE + GROWTH - 1, is_idle=True) for _ in range(500))
    peak.note_calm(BASE + GROWTH - 1)
    assert not any(peak.is_over(BASE + GROWTH - 1, is_idle=True) for _ in range(500))


def test_a_level_that_giving_back_has_reached_is_the_lowest() -> None:
    peak = Peak(BASE + GROWTH)
    peak.note_calm(BASE)
    assert [peak.is_over(BASE + GROWTH, is_idle=True) for _ in range(2)] == [False, True]


def test_what_is_resident_is_what_the_kernel_says() -> None:
    assert 10_000_000 < resident_bytes() < 10_000_000_000


def test_freed_memory_goes_back_to_the_system() -> None:
    """In a process of its own, with the gateway's own settings: holes between what is still in use go back, too."""
    script = """
from gateway.app.memory import resident_bytes, trim
from gateway.app.process import prepare_process
prepare_process()
held = [bytes(200_000) for _ in range(1500)]
before = resident_bytes()
held = held[::50]
freed = resident_bytes()
trim()
print(before - resident_bytes(), before - freed)
"""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603 -- ours
    gone, gone_by_itself = map(int, ran.stdout.split())
    assert gone > 200_000_000
    assert gone_by_itself < 100_000_000


async def test_where_no_thread_can_be_started_memory_goes_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first such moment ended the checks, and with them all that ever went back."""
    start, tries, trims = Thread.start, itertools.count(1), list[int]()

    def fail_once(thread: Thread) -> None:
        if next(tries) == 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(Thread, "start", fail_once)
    monkeypatch.setattr("gateway.app.memory.EVERY", 0.0)
    levels = iter([BASE, BASE + 2 * GROWTH])
    monkeypatch.setattr("gateway.app.memory.resident_bytes", lambda: next(levels, BASE + 2 * GROWTH))
    monkeypatch.setattr("gateway.app.memory.trim", lambda: trims.append(1))
    task = asyncio.get_running_loop().create_task(release_memory(lambda: True))
    await eventually(lambda: bool(trims))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
