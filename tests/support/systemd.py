"""A real systemd, as PID 1 of namespaces of its own: the unit as it is, with its user, its files and its sandbox.

Nothing of the machine is changed: /etc is a copy, what is written lies in tmpfs, the network is a loopback of its
own, and all of it is gone when the first process is. It needs root, and a kernel that lets root make namespaces.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.process import ROOT, Process, descendants, eventually

SYSTEMD: Final = Path("/lib/systemd/systemd")
UNIT: Final = "document-gateway.service"
_CGROUPS: Final = Path("/sys/fs/cgroup")
_WITHIN: Final = 120.0
_UNSHARE: Final = ("unshare", "--cgroup", "--pid", "--mount", "--uts", "--ipc", "--net", "--fork", "--mount-proc")
# $1 is the group that its processes are in, $2 this project, $3 the directory of its Python's venv. The units are
# without their default dependencies: this systemd boots no machine.
_START: Final = """
set -eu
echo 0 > "$1/cgroup.procs"
exec "${@:4}" --propagation private /bin/bash -euc "$INSIDE" inside "$2" "$3"
"""
_INSIDE: Final = r"""
ip link set lo up
for directory in /run /var/lib /var/cache /opt /mnt; do mount -t tmpfs -o mode=0755 tmpfs $directory; done
cp -a /etc /mnt/etc
mount --bind /mnt/etc /etc
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /opt/gateway/bin /opt/gateway/venv /opt/gateway/source
mount --bind "$1" /opt/gateway/source
mount --bind "$2" /opt/gateway/venv
cat > /opt/gateway/bin/gateway <<'END'
#!/opt/gateway/venv/bin/python -B
import sys
sys.path.insert(0, "/opt/gateway/source")
from gateway.__main__ import main
main()
END
chmod 755 /opt/gateway/bin/gateway
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system/document-gateway.service.d /etc/sysusers.d
cp "$1/deploy/systemd/document-gateway.service" /etc/systemd/system/
cp "$1/deploy/systemd/document-gateway.sysusers" /etc/sysusers.d/document-gateway.conf
cat > /etc/systemd/system/document-gateway.service.d/test.conf <<'END'
[Unit]
DefaultDependencies=no
[Service]
StandardOutput=append:/mnt/log
StandardError=append:/mnt/log
END
printf '[Unit]\nDefaultDependencies=no\n' > /etc/systemd/system/nothing.target
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_TARGET=console \
    /lib/systemd/systemd --system --unit=nothing.target
"""


class Machine:
    """What systemd runs on, to be entered by commands."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, script: str, *, check: bool = True) -> str:
        """Runs a script of bash there; what it printed."""
        command = ("nsenter", "-t", str(self._pid), "-a", "/bin/bash", "-euo", "pipefail", "-c", script)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False)  # noqa: S603
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}{done.stderr}{self.log}"
        return done.stdout.strip()

    @property
    def log(self) -> str:
        """What the gateway wrote."""
        return self.run("cat /mnt/log || true")

    def unit(self, name: str) -> str:
        """A property of the unit."""
        return self.run(f"systemctl show --property={name} --value {UNIT}")


def why_not() -> str | None:
    """Why there can be none here, in words."""
    if os.geteuid() != 0:
        return "a systemd of one's own needs root"
    if not SYSTEMD.exists():
        return "systemd is not here: apt install systemd"
    if _group() is None:
        return "no cgroup2 file system is mounted here that may be written"
    tried = subprocess.run((*_UNSHARE, "true"), capture_output=True, text=True, check=False)  # noqa: S603
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def machine() -> Iterator[Machine]:
    """Runs a systemd until the end of the context."""
    group = _group()
    assert group is not None
    group.mkdir()
    arguments = (str(group), str(ROOT), sys.prefix, *_UNSHARE)
    command = ("/bin/bash", "-c", _START, "start", *arguments)
    try:
        with Process(command, environ={"INSIDE": _INSIDE}) as process:
            (first,) = eventually(lambda: _inner(process), _WITHIN)
            try:
                made = Machine(first)
                eventually(lambda: made.run("systemctl is-system-running", check=False) in {"running", "degraded"})
                yield made
            finally:
                os.kill(first, signal.SIGKILL)  # the first of a PID namespace: all others end with it
                process.exit_code(_WITHIN)
    finally:
        eventually(lambda: _remove(group), _WITHIN)


def _group() -> Path | None:
    for root in (_CGROUPS, _CGROUPS / "unified"):
        if (root / "cgroup.procs").exists() and os.access(root, os.W_OK):
            return root / f"document-gateway-test-{os.getpid()}"
    return None


def _inner(process: Process) -> list[int]:
    """systemd itself, once it is that; the shell before has the same number."""
    assert process.is_running, process.output
    return [pid for pid in descendants(process.pid) if _program(pid) == SYSTEMD.resolve()][:1]


def _program(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None


def _remove(group: Path) -> bool:
    """Removes a group with those within, which systemd has made; they are empty as soon as all processes are gone."""
    try:
        for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            inner.rmdir()
        group.rmdir()
    except OSError:
        return not group.exists()
    return True
