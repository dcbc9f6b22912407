"""How the process that counts pages shuts itself in: no path, no system call but those that counting needs.

It reads hostile files in C, and runs as the gateway's user. What it can do when such a file has taken it over:
- Landlock: nothing can be opened, made or removed by its path, no TCP port be bound or connected to, no process
  outside be signalled or traced;
- seccomp: whatever is not in the list below is refused (EPERM): no socket, no process, no other program, no memory
  that was written and may be executed, no look into other processes;
- it is not dumpable: no other process of its user reads its memory, where the documents are.

The facts are those of the kernel's own pages (Linux 5.13 and up for Landlock). Landlock's numbers are the same on all
machines, seccomp's are not: where the machine is not listed, there is no filter. Confining can't be taken back.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import Final, NamedTuple

_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_ASK_FOR_VERSION: Final = 1
_RULESET: Final = struct.Struct("=QQQ")
# All rights that each version of Landlock can take: of files, of TCP, and what reaches other processes. Some kernels
# say a version of which they have not all (RHEL 9): so each older one is tried in its turn.
_RIGHTS: Final = ((0x1FFF, 0, 0), (0x3FFF, 0, 0), (0x7FFF, 0, 0), (0x7FFF, 3, 0), (0xFFFF, 3, 0), (0xFFFF, 3, 3))


class _Machine(NamedTuple):
    """How one kind of machine numbers its system calls.

    `plain` are read, pread64, lseek, close; brk, munmap, mremap, madvise; futex, sched_yield; rt_sigaction,
    rt_sigprocmask, rt_sigreturn, sigaltstack; recvmsg, sendto; getrusage, setitimer, clock_gettime,
    gettimeofday, getpid, getrandom; restart_syscall, exit, exit_group. `maps_memory` are mmap and mprotect.
    """

    audit_arch: int
    plain: tuple[int, ...]
    prlimit: int
    maps_memory: tuple[int, ...]


_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        (0, 17, 8, 3, 12, 11, 25, 28, 202, 24, 13, 14, 15, 131, 47, 44, 98, 38, 228, 96, 39, 318, 219, 60, 231),
        302,
        (9, 10),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (63, 67, 62, 57, 214, 215, 216, 233, 98, 124, 134, 135, 139, 132, 212, 206, 165, 103, 113, 169, 172, 278, 128,
         93, 94),
        261,
        (222, 226),
    ),
}  # fmt: skip

# A filter is a program for the kernel's packet machine; these are its instructions and where it finds what.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 32
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_PROT_EXEC: Final = 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def landlock_version() -> int:
    """Which version of Landlock this kernel says it has; none where it is not above 0."""
    return int(_libc().syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_FOR_VERSION))


def lacking() -> list[str]:
    """What this kernel, or what this process was started under, does not offer of `landlock` and `seccomp`."""
    libc = _libc()
    missing = [] if landlock_version() > 0 else ["landlock"]
    ctypes.set_errno(0)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)  # changes nothing: EFAULT where there are filters
    if ctypes.get_errno() != errno.EFAULT or platform.machine() not in _MACHINES:
        missing.append("seccomp")
    return missing


def become_undumpable() -> None:
    """From now on other processes of the same user can't read this one's memory or descriptors, nor trace it."""
    _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def confine() -> None:
    """Gives up all that is offered, for good, for this thread and those it starts.

    Raises:
        OSError: what is offered can't be had: who goes on would not be confined.
    """
    libc = _libc()
    missing = lacking()
    become_undumpable()
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if "landlock" not in missing:
        give_up_paths()
    if "seccomp" not in missing:
        give_up_calls()


def give_up_paths() -> None:
    """Landlock with no rule: whatever it can deny is denied. Descriptors that are open stay as they are.

    Raises:
        OSError: it can't be had.
    """
    libc = _libc()
    ruleset = -1
    for rights in reversed(_RIGHTS[: max(landlock_version(), 0)]):
        attributes = _RULESET.pack(*rights)
        ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
        if ruleset >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    _must(ruleset)
    _must(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def give_up_calls() -> None:
    """Refuses every system call that counting does not need.

    Raises:
        OSError: it can't be had.
    """
    code = _filter_for(_MACHINES[platform.machine()])
    program = _Program(len(code) // _INSTRUCTION.size, code)
    _must(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _filter_for(machine: _Machine) -> bytes:
    """Limits may be set of oneself alone (prlimit of process 0), and no memory be made executable."""
    parts = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, machine.audit_arch, then=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        *(_step(_IF_EQUAL, number, otherwise=1) + _step(_RETURN, _ALLOW) for number in machine.plain),
        _when(machine.prlimit, _step(_LOAD, _FIRST_ARGUMENT) + _step(_IF_EQUAL, 0, otherwise=1)),
        *(
            _when(number, _step(_LOAD, _THIRD_ARGUMENT) + _step(_IF_ANY_BIT, _PROT_EXEC, then=1))
            for number in machine.maps_memory
        ),
        _step(_RETURN, _REFUSE),
    ]
    return b"".join(parts)


def _when(number: int, test: bytes) -> bytes:
    """Of one call allows what passes a test of two steps, which goes on to the next step or skips it."""
    return _step(_IF_EQUAL, number, otherwise=4) + test + _step(_RETURN, _ALLOW) + _step(_RETURN, _REFUSE)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, then, otherwise, value)


def _must(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "can't be confined")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
