"""What a process has used."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench import usage

WORKS = """
import time
until = time.process_time() + 0.3
while time.process_time() < until: pass
kept = bytearray(40_000_000)
print(time.process_time(), flush=True)
input()
"""


@pytest.fixture
def worker() -> Iterator[tuple[int, float]]:
    """A process that has worked, and what it says it used."""
    with subprocess.Popen(  # noqa: S603 -- a program of ours
        [sys.executable, "-c", WORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process.pid, float(process.stdout.readline())
        process.kill()


def test_the_time_of_a_process_is_what_it_sees_itself_and_finer_than_a_tick(worker: tuple[int, float]) -> None:
    pid, told = worker
    assert told <= usage.cpu_seconds(pid) < told + 0.1
    assert usage.own_cpu(pid, []) * 1e4 % 100 > 0


def test_a_kernel_without_the_clock_is_asked_for_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> float:
        raise OSError(number)

    monkeypatch.setattr(time, "clock_gettime", refuse)
    fields = ["0"] * 11 + ["150", "50", "7", "0"]
    assert usage.own_cpu(1, fields) == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))


def test_memory_that_is_touched_is_counted_in_faults_and_in_what_is_resident(worker: tuple[int, float]) -> None:
    pid, _ = worker
    assert usage.resident_bytes(pid) > 40_000_000
    assert usage.page_faults(pid) > 1000


def test_a_process_that_has_gone_has_used_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert (usage.cpu_seconds(gone.pid), usage.page_faults(gone.pid), usage.resident_bytes(gone.pid)) == (0, 0, 0)


def test_children_are_of_the_tree() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 20 & wait"], start_new_session=True) as shell:
        deadline = time.monotonic() + 10
        while len(usage.tree(shell.pid)) < 2 and time.monotonic() < deadline:
            os.sched_yield()
        found = usage.tree(shell.pid)
        os.killpg(shell.pid, 9)
    assert len(found) == 2
