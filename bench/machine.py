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
# A hypervisor answers `cpuid`: nobody does on bare metal, one program does in a virtual machine, two in a nested one.
ONE_EXIT, TWO_EXITS = 400, 8000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts of a machine; times in nanoseconds, `exit_time` is None where it can't be found out."""

    cores: int
    processor: str
    kernel: str
    system_call: int
    exit_time: int | None

    @property
    def kind(self) -> str:
        """Bare metal, virtual or nested, by how long the processor's `cpuid` takes."""
        if self.exit_time is None:
            return "a machine whose kind can't be seen from within"
        if self.exit_time < ONE_EXIT:
            return "bare metal, or as good as it"
        if self.exit_time < TWO_EXITS:
            return "a virtual machine, not nested"
        return "a nested virtual machine"

    def told(self) -> str:
        """All of it in a sentence."""
        took = "" if self.exit_time is None else f" and a trap into the hypervisor {self.exit_time:,} ns"
        return (
            f"{self.cores} cores of {self.processor}, {self.kind}, kernel {self.kernel};"
            f" a system call from Python takes {self.system_call:,} ns{took}"
        )


def look() -> Machine:
    """Looks at this machine."""
    return Machine(os.cpu_count() or 1, processor(), platform.release(), quickest(os.getppid), exit_time())


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
