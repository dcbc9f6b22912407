"""The system is asked for addresses as `socket.getaddrinfo` asks, and few of what it answers are read."""

import ctypes
import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.aio.host_addresses import HostAddress, find_addresses, read_first
from tests.support.addrlists import AddressList

LONG = 30.0


def by_python(host: str, flags: int) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM, flags=flags)
    scopes = [f"%{scope}" if (scope := sum(address[3:])) else "" for *_, address in found]
    return [(family, f"{address[0]}{scope}") for (family, *_, address), scope in zip(found, scopes, strict=True)]


@pytest.mark.parametrize("flags", [0, socket.AI_ADDRCONFIG])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "::1", "fe80::1%1", "::ffff:192.0.2.1", "2001:db8::1", "localhost", "LocalHost"]
)
def test_it_answers_as_python_does(host: str, platform: str, flags: int) -> None:
    with patch.object(sys, "platform", platform):
        assert list(find_addresses(host, 99, flags)) == by_python(host, flags)
        assert list(find_addresses(host, 1, flags)) == by_python(host, flags)[:1]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize(
    ("host", "flags"), [("", 0), ("localhost", socket.AI_NUMERICHOST), ("localhost", 0x7FFFFFFF)]
)
def test_it_fails_as_python_does(host: str, flags: int, platform: str) -> None:
    with pytest.raises(socket.gaierror) as expected:
        by_python(host, flags)
    with patch.object(sys, "platform", platform), pytest.raises(socket.gaierror) as told:
        find_addresses(host, 1, flags)
    assert (told.value.errno, told.value.strerror) == (expected.value.errno, expected.value.strerror)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "localhost\0", "\0", "127.0.0.1\0.example"])
def test_what_is_no_name_is_not_asked_for(host: str) -> None:
    """C ends a text at its first NUL: Python itself looked up what stands before it."""
    with pytest.raises(UnicodeError):
        find_addresses(host, 1)


class Library:
    """The C library, which answers as it is told."""

    def __init__(self, code: int = 0, answer: AddressList | None = None, number: int = 0) -> None:
        self.code, self.answer, self.number = code, answer, number
        self.asked: list[bytes] = []
        self.freed: list[int | None] = []
        self.gai_strerror = ctypes.CDLL(None).gai_strerror
        self.gai_strerror.restype = ctypes.c_char_p

    def getaddrinfo(self, name: bytes, _: object, __: object, first: object) -> int:
        self.asked.append(name)
        place = ctypes.cast(first, ctypes.POINTER(ctypes.c_void_p))  # type: ignore[arg-type]
        place.contents.value = self.answer.place if self.answer is not None else None
        ctypes.set_errno(self.number)
        return self.code

    def freeaddrinfo(self, first: ctypes.c_void_p) -> None:
        self.freed.append(first.value)


def test_what_the_system_lacks_is_told_by_its_number() -> None:
    library = Library(socket.EAI_SYSTEM, number=errno.EMFILE)
    with patch("gateway.aio.host_addresses.c_library", lambda: library), pytest.raises(OSError, match="open") as told:
        find_addresses("a.example", 1)
    assert type(told.value) is OSError
    assert told.value.errno == errno.EMFILE


def test_a_name_of_other_letters_is_asked_for_as_dns_has_it_and_its_list_is_freed() -> None:
    library = Library(answer=AddressList("192.0.2.1"))
    with patch("gateway.aio.host_addresses.c_library", lambda: library):
        assert find_addresses("bücher.example", 2) == (HostAddress(socket.AF_INET, "192.0.2.1"),)
    assert library.asked == [b"xn--bcher-kva.example"]
    assert library.freed == [library.answer.place if library.answer else None]


def test_without_a_c_library_python_is_asked() -> None:
    with patch("gateway.aio.host_addresses.c_library", lambda: None):
        assert find_addresses("127.0.0.1", 1) == (HostAddress(socket.AF_INET, "127.0.0.1"),)


def test_of_thousands_of_addresses_the_first_are_read_and_nothing_of_the_rest() -> None:
    """What lies behind the first is no memory at all: reading it would end the process."""
    names = [f"192.0.2.{n}" for n in range(33)]
    leading_nowhere, ending = AddressList(*names, then=8), AddressList(*names)
    assert [found.address for found in read_first(leading_nowhere.place, 33)] == names
    assert [found.address for found in read_first(ending.place, 99)] == names


def test_addresses_have_their_scope_and_what_is_none_is_left_out() -> None:
    listed = AddressList("fe80::1%2", "2001:db8::1", "192.0.2.1")
    listed.put_first(socket.AF_UNIX, bytes(16))
    assert read_first(listed.place, 9) == (
        HostAddress(socket.AF_INET6, "fe80::1%2"),
        HostAddress(socket.AF_INET6, "2001:db8::1"),
        HostAddress(socket.AF_INET, "192.0.2.1"),
    )
    assert read_first(None, 9) == ()


TOLD = """
import socket, sys, threading
from contextlib import suppress
from gateway.aio.host_addresses import find_addresses

def told(host, most):
    try:
        return [address for _, address in find_addresses(host, most)]
    except OSError as error:
        return error.errno
"""
MANY = """
many = [entry[4][0] for entry in socket.getaddrinfo("many.test", 1, type=socket.SOCK_STREAM)]
assert set(many) == {f"192.0.2.{n}" for n in range(1, 41)}
assert told("many.test", 99) == many
assert told("many.test", 33) == many[:33]
assert told("b\\u00fccher.test", 9) == ["192.0.2.99"]
assert told("unknown.test", 9) == socket.EAI_NONAME
"""
WAITING = """
def write():  # the system waits for it, and it waits for Python's lock
    while True:
        with suppress(BrokenPipeError), open("/etc/nsswitch.conf", "w") as file:
            file.write("hosts: files\\n")

threading.Thread(target=write, daemon=True).start()
assert set(told("slow.test", 9)) == {"192.0.2.7"}
"""
APART = 'mount --bind hosts /etc/hosts && mount --bind nsswitch /etc/nsswitch.conf && cd "$1" && exec "$2" -c "$3"'


def run_with(hosts: list[str], script: str, directory: Path) -> None:
    """Runs a script where the system knows other hosts: with mounts of its own."""
    unshare = [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount"]
    if not unshare[0] or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:  # noqa: S603 -- ours
        pytest.skip("namespaces of a user's own are not permitted")
    (directory / "hosts").write_text("".join(f"{line}\n" for line in hosts))
    command = [*unshare, "sh", "-c", APART, "sh", str(Path.cwd()), sys.executable, TOLD + script]
    subprocess.run(command, cwd=directory, timeout=LONG, check=True)  # noqa: S603 -- ours


def test_the_system_tells_of_hosts_as_python_does(tmp_path: Path) -> None:
    (tmp_path / "nsswitch").write_text("hosts: files\n")
    many = [f"192.0.2.{n} many.test" for n in range(1, 41)]
    run_with([*many, "192.0.2.99 xn--bcher-kva.test"], MANY, tmp_path)


def test_python_s_lock_is_free_while_the_system_looks_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nsswitch")
    run_with(["192.0.2.7 slow.test"], WAITING, tmp_path)
