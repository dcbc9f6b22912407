"""What machine a run was made on: its kind, its kernel, and what a switch between programs and kernel costs there."""

import ctypes
import mmap
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# push rbx; xor eax, eax; xor ecx, ecx; cpuid; pop rbx; ret
CPUID = bytes.fromhex("53 31c0 31c9 0fa2 5b c3")
RETURN = bytes.fromhex("c3")
TRIES = 2000
PAGES, BATCHES = 256, 40
# Nanoseconds. A hypervisor answers `cpuid`, and two of them answer it where one is nested; where two of them keep
# tables of pages, a page's first touch takes a multiple, though not every such machine traps slowly.
ONE_EXIT, TWO_EXITS, NESTED_TOUCH = 400, 8000, 2000


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts of a machine; times in nanoseconds, `exit_time` is None where it can't be found out.

    `touch_time` is what the first touch of a page of memory takes, which the kernel then gives to the process.
    """

    cores: int
    processor: str
    kernel: str
    system_call: int
    touch_time: int
    exit_time: int | None

    @property
    def kind(self) -> str:
        """Bare metal, virtual or nested, by its times: nothing within says it for sure."""
        if self.exit_time is None:
            return "a machine whose kind can't be seen from within"
        if self.exit_time < ONE_EXIT:
            return "bare metal, or as good as it"
        looks = "looks" if self.exit_time >= TWO_EXITS or self.touch_time >= NESTED_TOUCH else "does not look"
        return f"a virtual machine that {looks} nested"

    def told(self) -> str:
        """All of it in a sentence."""
        took = "" if self.exit_time is None else f", a trap into the hypervisor {self.exit_time:,} ns"
        return (
            f"{self.cores} cores of {self.processor}, {self.kind}, kernel {self.kernel};"
            f" a system call from Python takes {self.system_call:,} ns,"
            f" the first touch of a page {self.touch_time:,} ns{took}"
        )


def look() -> Machine:
    """Looks at this machine."""
    cores = os.cpu_count() or 1
    return Machine(cores, processor(), platform.release(), quickest(os.getppid), touch_time(), exit_time())


def processor() -> str:
    """The processor's name, as far as the kernel tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} ({platform.machine()})" if named else platform.machine()


def quickest(work: Callable[[], object]) -> int:
    """The shortest that it takes, with Python's call."""
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - begun)
    return min(taken)


def touch_time() -> int:
    """The shortest that a page's first touch takes, less what Python and a second touch take."""
    batches = [touches() for _ in range(BATCHES)]
    first, second = min(first for first, _ in batches), min(second for _, second in batches)
    return max(0, (first - second) // PAGES)


def touches() -> tuple[int, int]:
    """How long it takes to touch some new pages, and to touch them again."""
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        times = []
        for _ in range(2):
            begun = time.perf_counter_ns()
            for place in range(0, len(memory), mmap.PAGESIZE):
                memory[place] = 1
            times.append(time.perf_counter_ns() - begun)
    return times[0], times[1]


def exit_time() -> int | None:
    """How long `cpuid` takes beyond a call of nothing; None on other processors, or where no code may be made."""
    if platform.machine() != "x86_64":
        return None
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            return max(0, quickest_code(page, CPUID) - quickest_code(page, RETURN))
    except OSError:
        return None


def quickest_code(page: mmap.mmap, code: bytes) -> int:
    """The shortest that machine code takes, with the call from Python."""
    page[: len(code)] = code
    place = ctypes.c_char.from_buffer(page)
    return quickest(ctypes.CFUNCTYPE(None)(ctypes.addressof(place)))
