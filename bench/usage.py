"""What a process tree has used, read from /proc and the kernel's clocks: CPU time, page faults, resident memory."""

import os
import time
from pathlib import Path

PROC = Path("/proc")
# Fields of /proc/PID/stat behind the name: ppid; minflt, cminflt; utime, stime; cutime, cstime.
PARENT, FAULTS, OWN_CPU, ENDED_CPU = 1, slice(7, 9), slice(11, 13), slice(13, 15)
WHOLE_PROCESS = 2  # of a process's three clocks the one that counts what the scheduler gave it


def stat(pid: int) -> list[str]:
    """Reads the fields behind the name, which may hold anything; none when the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    parents = {pid: int(fields[PARENT]) for pid in pids() if (fields := stat(pid))}
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def pids() -> list[int]:
    """All process ids of the machine."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def cpu_seconds(root: int) -> float:
    """CPU time of the tree, with that of children that have ended and were waited for."""
    return sum(own_cpu(pid, fields) + ticks(fields[ENDED_CPU]) for pid in tree(root) if (fields := stat(pid)))


def own_cpu(pid: int, fields: list[str]) -> float:
    """A process's own time, to the nanosecond: /proc counts in hundredths, too coarse for one that rests."""
    try:
        return time.clock_gettime(~pid << 3 | WHOLE_PROCESS)
    except OSError:
        return ticks(fields[OWN_CPU])


def ticks(fields: list[str]) -> float:
    """Seconds in fields that count the kernel's ticks."""
    return sum(map(int, fields)) / os.sysconf("SC_CLK_TCK")


def page_faults(root: int) -> int:
    """How often the tree touched memory that it had but the kernel had not given it yet; none came from a disk."""
    return sum(int(field) for pid in tree(root) for field in stat(pid)[FAULTS])


def resident_bytes(root: int) -> int:
    """Resident memory of the tree."""
    return sum(resident(pid) for pid in tree(root))


def resident(pid: int) -> int:
    """Resident memory of one process, 0 when it has gone."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
