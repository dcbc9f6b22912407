"""The sandbox of the process that counts pages: no paths, and only the system calls that counting needs.

The process reads hostile files in C, and runs as the gateway's user. A file that takes it over is limited by:
- Landlock: it can't open, create or remove anything by path, bind or connect a TCP port, or signal or trace an
  outside process;
- seccomp: every call not listed below is refused (EPERM): no sockets, no processes, no other programs, no look into
  other processes, and no memory becomes executable (one page of libffi's callbacks is so before: worker.py);
- it is not dumpable: no other process of its user can read its memory, which holds the documents.

The facts are from the kernel's own pages (Landlock needs Linux 5.13). Landlock's numbers are the same on all
machines, seccomp's are not: an unlisted machine gets no filter. The sandbox can't be undone.
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
# All rights that each version of Landlock can restrict: on files, on TCP, and towards other processes. Some kernels
# report a version without having all of its rights (RHEL 9): so each older version is tried in turn.
_RIGHTS: Final = ((0x1FFF, 0, 0), (0x3FFF, 0, 0), (0x7FFF, 0, 0), (0x7FFF, 3, 0), (0xFFFF, 3, 0), (0xFFFF, 3, 3))


class _Machine(NamedTuple):
    """The numbers of system calls on one kind of machine.

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

# A filter is a program for the kernel's packet machine (BPF): its instructions, and the offsets of its input.
_INSTRUCTION: Final = struct.Struct("=HBBI")
LOAD, IF_EQUAL, _IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, _ARCHITECTURE, FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 32
ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_PROT_EXEC: Final = 4


class Program(ctypes.Structure):
    """A filter of system calls, as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def landlock_version() -> int:
    """The version of Landlock that this kernel reports; 0 or less: none."""
    return int(_libc().syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_FOR_VERSION))


def lacking() -> list[str]:
    """Which of `landlock` and `seccomp` are missing in this kernel, or in the environment of this process."""
    libc = _libc()
    missing = [] if landlock_version() > 0 else ["landlock"]
    ctypes.set_errno(0)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)  # no effect: EFAULT if filters are supported
    if ctypes.get_errno() != errno.EFAULT or platform.machine() not in _MACHINES:
        missing.append("seccomp")
    return missing


def become_undumpable() -> None:
    """Keeps other processes of the same user from reading this one's memory or descriptors, and from tracing it."""
    _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def confine() -> None:
    """Enters the sandbox, with all that the kernel offers, for this thread and those it starts; can't be undone.

    Raises:
        OSError: an offered restriction failed: the process must not go on unconfined.
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
    """Applies Landlock without any rule: denies all that it can deny. Open descriptors stay usable.

    Raises:
        OSError: it failed.
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
    """Applies seccomp: refuses every system call that counting does not need.

    Raises:
        OSError: it failed.
    """
    code = _filter_for(_MACHINES[platform.machine()])
    program = Program(len(code) // _INSTRUCTION.size, code)
    _must(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _filter_for(machine: _Machine) -> bytes:
    """Builds the filter: limits may be set only for this process (prlimit of pid 0), no memory made executable."""
    parts = [
        step(LOAD, _ARCHITECTURE),
        step(IF_EQUAL, machine.audit_arch, then=1),
        step(RETURN, _KILL),
        step(LOAD, NUMBER),
        *(step(IF_EQUAL, number, otherwise=1) + step(RETURN, ALLOW) for number in machine.plain),
        _when(machine.prlimit, step(LOAD, FIRST_ARGUMENT) + step(IF_EQUAL, 0, otherwise=1)),
        *(
            _when(number, step(LOAD, _THIRD_ARGUMENT) + step(_IF_ANY_BIT, _PROT_EXEC, then=1))
            for number in machine.maps_memory
        ),
        step(RETURN, _REFUSE),
    ]
    return b"".join(parts)


def _when(number: int, test: bytes) -> bytes:
    """Allows one call if it passes a two-step test, whose second step continues or skips the next step."""
    return step(IF_EQUAL, number, otherwise=4) + test + step(RETURN, ALLOW) + step(RETURN, _REFUSE)


def step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction of a filter; `then` and `otherwise` are how many of the next ones a test skips."""
    return _INSTRUCTION.pack(code, then, otherwise, value)


def _must(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "can't be confined")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
