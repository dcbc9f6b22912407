"""What a process tree has used, read from /proc: CPU time of all threads, and resident memory."""

import os
from pathlib import Path

PROC = Path("/proc")
PARENT, CPU = 1, slice(11, 15)  # fields of /proc/PID/stat behind the name: ppid; utime, stime, cutime, cstime


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
    """User and system time of the tree, with that of children that have ended and were waited for."""
    ticks = sum(int(field) for pid in tree(root) if (fields := stat(pid)) for field in fields[CPU])
    return ticks / os.sysconf("SC_CLK_TCK")


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
