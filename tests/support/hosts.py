"""Hosts of a test: network namespaces on one switch, made here. They have no way out: nothing they send leaves them.

Each has an IPv4 and an IPv6 address and a loopback interface of its own, so ports are as they would be in production.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.process import DEADLINE, Process, eventually, is_alive

_PREFIX: Final = "gwtest"
_SWITCH: Final = "switch"
_NAMESPACES: Final = Path("/run/netns")
_IPV4: Final = "10.77.0"
_IPV6: Final = "fd77::"


class Host(NamedTuple):
    """A namespace; `number` is the last part of its addresses."""

    namespace: str
    number: int

    @property
    def ipv4(self) -> str:
        """Its IPv4 address."""
        return f"{_IPV4}.{self.number}"

    @property
    def ipv6(self) -> str:
        """Its IPv6 address."""
        return f"{_IPV6}{self.number}"

    def command(self, *command: str) -> tuple[str, ...]:
        """What runs a command there; `ip` becomes it, so its process id is the command's."""
        return ("ip", "netns", "exec", self.namespace, *command)

    def run(self, *command: str, cwd: Path | None = None, within: float = 3 * DEADLINE) -> tuple[int, str]:
        """Runs a command there to its end: exit code and all output."""
        with self.start(*command, cwd=cwd) as process:
            return process.exit_code(within), process.output

    def start(self, *command: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> Process:
        """Starts a command there."""
        return Process(self.command(*command), cwd, environ)


@contextmanager
def network(**numbers: int) -> Iterator[dict[str, Host]]:
    """Hosts by name, until the end of the context; a test is skipped where they can't be made."""
    _require()
    _remove_stale()
    hosts = {name: Host(f"{_PREFIX}-{os.getpid()}-{name}", number) for name, number in numbers.items()}
    switch = f"{_PREFIX}-{os.getpid()}-{_SWITCH}"
    with ExitStack() as stack:
        for namespace in (switch, *(host.namespace for host in hosts.values())):
            stack.callback(_remove, namespace)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for name, host in hosts.items():
            _plug_in(name, host, switch)
        for host in hosts.values():
            eventually(partial(_is_up, host))
        yield hosts


def _plug_in(name: str, host: Host, switch: str) -> None:
    port = f"to-{name}"
    _ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", port, "netns", switch)
    _ip("-n", switch, "link", "set", port, "master", "br0", "up")
    _ip("-n", host.namespace, "addr", "add", f"{host.ipv4}/24", "dev", "eth0")
    # nodad: without it the address can't be bound for a second or two, while the kernel looks for another that has it
    _ip("-n", host.namespace, "addr", "add", f"{host.ipv6}/64", "dev", "eth0", "nodad")
    _ip("-n", host.namespace, "link", "set", "eth0", "up")


def _is_up(host: Host) -> bool:
    text = _ip("-n", host.namespace, "addr", "show", "dev", "eth0")
    return "LOWER_UP" in text and f"{host.ipv4}/" in text and f"{host.ipv6}/" in text


def _require() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces are root's to make")
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (Debian: iproute2)")
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("-n", probe, "link", "add", "br0", "type", "bridge")
        _ip("-n", probe, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        _ip("-n", probe, "link", "set", "lo", "up")
        _ip("-n", probe, "addr", "add", f"{_IPV6}1/64", "dev", "eth0", "nodad")
    except OSError as error:
        pytest.skip(f"network namespaces with bridges and IPv6 are not permitted here: {error}")
    finally:
        _remove(probe)


def _remove_stale() -> None:
    """Removes what a run that was killed has left."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*"):
        pid = path.name.split("-")[1]
        if not is_alive(int(pid)):
            _remove(path.name)


def _remove(namespace: str) -> None:
    """Ends what runs in a namespace, and takes it away; another run may be about to do the same."""
    path = _NAMESPACES / namespace
    try:
        for pid in _ip("netns", "pids", namespace).split() if path.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if path.exists():
            _ip("netns", "del", namespace)
    except OSError:
        if path.exists():
            raise


def _ip(*arguments: str) -> str:
    """Runs `ip`.

    Raises:
        OSError: when it fails, with what it said.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)  # noqa: S603, S607
    if done.returncode != 0:
        raise OSError(done.stderr.strip() or f"ip ended with {done.returncode}")
    return done.stdout
