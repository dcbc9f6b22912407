"""What a container engine makes of a pod, by hand: a network and a root of its own, the pod's volumes, its user.

The root is a tmpfs with the system's programs and this project's .venv at the image's /opt/gateway, all mounted
read-only. What is not made here: seccomp's filter, and the image itself (tests/root has another test of that).
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.kubernetes import ROOT, Rendered
from tests.support.process import DEADLINE, Process

ADDRESS: Final = "10.244.0.7"
_PROGRAMS: Final = ("unshare", "nsenter", "setpriv", "ip", "mount", "chroot")
# $1 the root, $2 the address of the pod; then pairs of what is mounted and where, read-only if its first letter is r.
_SET_UP: Final = """
root=$1 address=$2; shift 2
ip link set lo up
ip address add "$address/24" dev lo
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -p "$root/etc" "$root/var/lib/gateway"
chown 10001:10001 "$root/var/lib/gateway"
chmod 0700 "$root/var/lib/gateway"
echo "127.0.0.1 localhost container" > "$root/etc/hosts"
while [ $# -gt 0 ]; do
  mode=${1%%:*} from=${1#*:} to=$root$2; shift 2
  if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}"; : > "$to"; fi
  mount --bind "$from" "$to"
  [ "$mode" = w ] || mount -o remount,bind,ro "$to"
done
mount -o remount,ro "$root"
echo made
exec sleep infinity
"""
needs_namespaces: Final = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in _PROGRAMS),
    reason=f"needs root, and {', '.join(_PROGRAMS)}",
)


class Sandbox(NamedTuple):
    """A pod that stands; commands are run in it."""

    pid: int
    root: Path
    rendered: Rendered

    def inside(self, *command: str) -> tuple[str, ...]:
        """A command as in the gateway's container: its root, user, environment and directory, and no rights."""
        context = self.rendered.container["securityContext"]
        group = str(self.rendered.pod["securityContext"]["fsGroup"])
        user = ("--reuid", str(context["runAsUser"]), "--regid", str(context["runAsGroup"]), "--groups", group)
        rights = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
        environ = ("env", "-i", "-C", "/var/lib/gateway", *_image_environment())
        given = [f"{entry['name']}={entry['value']}" for entry in self.rendered.container.get("env", [])]
        entered = ("nsenter", "--target", str(self.pid), "--mount", "--net")
        return (*entered, "chroot", str(self.root), "setpriv", *user, *rights, *environ, *given, *command)

    def beside(self, *command: str) -> tuple[str, ...]:
        """A command of this machine that shares the pod's network alone, as another container or the kubelet does."""
        return ("nsenter", "--target", str(self.pid), "--net", *command)

    def output(self, *command: str) -> str:
        """Runs such a command to its end, which must be a good one: what it wrote."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE, check=False)  # noqa: S603
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def _image_environment() -> Iterator[str]:
    *_, line = re.findall(r"^ENV (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for entry in shlex.split(line):
        yield entry.replace("$PATH", "/usr/bin:/bin")


@contextmanager
def sandbox(directory: Path, rendered: Rendered, volumes: Mapping[str, Path], *more: str) -> Iterator[Sandbox]:
    """Makes it, of the rendered mounts and the directories that the pod's volumes are; it is gone at the end.

    `more` are further pairs of `r:<what>` and where.
    """
    _require()
    root = directory / "root"
    root.mkdir()
    mounts = [part for mount in _mounts(rendered, volumes) for part in mount]
    shell = ("sh", "-e", "-c", _SET_UP, "pod", str(root), ADDRESS)
    system = [part for mount in _system() for part in mount]
    command = ("unshare", "--mount", "--net", "--propagation", "private", *shell, *system, *more, *mounts)
    with Process(command) as pause:
        pause.line(lambda line: line == "made")
        yield Sandbox(pause.pid, root, rendered)


def _require() -> None:
    """Skips where even root may not make namespaces, or the pod's user could not read the project."""
    command = ["unshare", "--mount", "--net", "true"]
    tried = subprocess.run(command, capture_output=True, timeout=DEADLINE, check=False)  # noqa: S603
    if tried.returncode:
        pytest.skip("namespaces are not permitted here")
    if any(not Path(place).stat().st_mode & stat.S_IXOTH for place in (ROOT, sys.prefix)):
        pytest.skip("the project's directory is closed to other users")


def _system() -> Iterator[tuple[str, str]]:
    """What the image would bring, and what every container has."""
    places: Sequence[str] = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/proc", "/dev/null", "/dev/urandom")
    for place in dict.fromkeys([*places, sys.base_prefix, sys.prefix, str(ROOT)]):
        if Path(place).exists():
            yield f"r:{place}", place
    yield f"r:{sys.prefix}", "/opt/gateway"


def _mounts(rendered: Rendered, volumes: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for mount in rendered.container["volumeMounts"]:
        yield f"{'r' if mount.get('readOnly') else 'w'}:{volumes[mount['name']]}", mount["mountPath"]
