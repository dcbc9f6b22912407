"""The image, built from the Dockerfile by buildah, on a base that mmdebstrap makes: Debian with its own Python.

The Dockerfile's own base can't be had where no registry of images is reached. Both tools use what this machine is set
up with: apt's sources, pip's index. Neither gets into the image.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.process import ROOT

_BASE: Final = "localhost/base"
_IMAGE: Final = "localhost/document-gateway"
_PACKAGES: Final = "python3,python3-pip,python-is-python3"
# buildah mounts a file of its own there for each RUN, and leaves an empty one behind where there was none.
_HOSTS: Final = '--customize-hook=touch "$1/etc/hosts"'
_SLOW: Final = 400.0  # seconds that one step may take; half a minute is usual
# What pip needs to know of this machine. All else names files, which are not there.
_PIP_SETTINGS: Final = frozenset(
    {"index-url", "extra-index-url", "proxy", "trusted-host", "timeout", "default-timeout"}
)
_NO_RIGHTS: Final = ("--bounding-set=-all", "--no-new-privs")
# What a container engine does for --read-only --cap-drop ALL --tmpfs /tmp, with two volumes: a root directory that is
# read-only, a /dev with four devices, and the command as process 1 of a namespace of its own.
_ENTER: Final = """
set -eu
root=$1 configuration=$2 state=$3; shift 3
mkdir -p "$root/etc/gateway"
mount --bind "$root" "$root"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs "$root/tmp"
mount --bind "$state" "$root/var/lib/gateway"
mount --bind "$configuration" "$root/etc/gateway"
mount -o remount,bind,ro "$root/etc/gateway"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""


class Entry(NamedTuple):
    """A file, directory or link of an image."""

    path: Path
    status: os.stat_result

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


class Image(NamedTuple):
    """An image, unpacked in `root`; `ours` is what its base has not, by its path in the image."""

    root: Path
    config: dict[str, Any]
    ours: dict[str, Entry]
    pip_settings: str

    @property
    def size(self) -> int:
        """Bytes of what stands above the base."""
        return sum(entry.status.st_size for entry in self.ours.values() if entry.is_file)

    def command(self, configuration: Path, state: Path, *command: str) -> tuple[str, ...]:
        """What runs a command in it as its user: `configuration` is /etc/gateway, `state` is /var/lib/gateway."""
        uid, _, gid = self.config["User"].partition(":")
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh")
        user = (
            "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        )
        environment = ("env", "-i", f"--chdir={self.config['WorkingDir']}", *self.config["Env"])
        return (*apart, str(self.root), str(configuration), str(state), *user, *environment, *command)


@contextmanager
def built_image(directory: Path) -> Iterator[Image]:
    """Builds the image in a directory, which is emptied at the end; a test is skipped where that can't be done."""
    _require()
    try:
        base = directory / "base.tar"
        _make_base(base)
        buildah = _Buildah(directory)
        try:
            buildah.take_base(base)
            settings = _provide_pip(directory / "home")
            yield _unpacked(buildah, base, settings, buildah.build(directory / "home"))
        finally:
            buildah("rm", "--all")  # what is mounted could not be removed
    finally:
        shutil.rmtree(directory)


def _require() -> None:
    if os.geteuid() != 0:
        pytest.skip("the image is built as root")
    for command in ("mmdebstrap", "buildah"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed (Debian: {command})")


def _run(*command: str, environ: dict[str, str] | None = None) -> str:
    """Runs a command to its end: its output.

    Raises:
        OSError: when it fails or takes too long, with the end of what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603 -- commands of ours
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SLOW,
            env={**os.environ, **(environ or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} did not end within {_SLOW:g} s") from error
    if done.returncode != 0:
        raise OSError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _make_base(archive: Path) -> None:
    """Makes the base's file system from the distribution and the sources that apt is set up with."""
    try:
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        targets = ("--format", "$(ORIGIN)|deb $(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
        listed = [line.partition("|") for line in _run("apt-get", "indextargets", *targets).splitlines()]
        sources = [source for origin, _, source in listed if origin.casefold() == release["ID"].strip('"')]
        if not sources:
            pytest.skip("apt has no lists of this distribution's packages (apt-get update)")
        options = ("--quiet", "--variant=minbase", f"--include={_PACKAGES}", _HOSTS)
        environ = {"TMPDIR": str(archive.parent)}
        _run("mmdebstrap", *options, release["VERSION_CODENAME"], str(archive), *sources, environ=environ)
    except OSError as error:
        pytest.skip(f"no base for the image can be made here: {error}")


def _provide_pip(home: Path) -> str:
    """Makes a home directory for the build with what pip is set up with here; gives it as text."""
    listed = _run(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {name.rpartition(".")[2]: value.strip("'") for name, _, value in (line.partition("=") for line in listed)}
    lines = [
        f"{name} = {_remote(value)}" for name, value in found.items() if name in _PIP_SETTINGS and _remote(value)
    ]
    (home / ".config/pip").mkdir(parents=True)
    if "cert" in found:
        shutil.copyfile(found["cert"], home / "ca.pem")
        lines.append("cert = /root/ca.pem")
    (home / ".config/pip/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return "\n".join(found.values())


def _remote(value: str) -> str:
    return " ".join(word for word in value.split() if not word.startswith("file:"))


def _storage_driver(directory: Path) -> str:
    """overlay where it can be mounted; vfs, which copies all files for each stage, works everywhere."""
    lower, upper, work, merged = (directory / "overlay" / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir(parents=True)
    try:
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "-o", layers, "overlay", str(merged))
        _run("umount", str(merged))
    except OSError:
        return "vfs"
    return "overlay"


class _Buildah:
    """buildah with its storage in a directory. It needs no daemon, no fuse, and no namespace but that of mounts."""

    def __init__(self, directory: Path) -> None:
        driver = _storage_driver(directory)
        storage = ("--root", f"{directory}/store", "--runroot", f"{directory}/run", "--storage-driver", driver)
        self._command = ("buildah", *storage)
        self._environ = {"TMPDIR": str(directory), "BUILDAH_ISOLATION": "chroot"}

    def __call__(self, *arguments: str) -> str:
        return _run(*self._command, *arguments, environ=self._environ).strip()

    def take_base(self, archive: Path) -> None:
        """Makes an image of a file system, and looks whether anything can be run in it here."""
        try:
            container = self("from", "scratch")
            self("add", container, str(archive), "/")
            self("run", container, "--", "python", "--version")
            self("commit", "--rm", container, _BASE)
        except OSError as error:
            pytest.skip(f"buildah can't run anything here: {error}")

    def build(self, home: Path) -> str:
        """Builds the image, with `home` as root's home directory meanwhile; gives the directory it is unpacked in."""
        options = ("--format", "docker", "--build-arg", f"BASE={_BASE}", "--volume", f"{home}:/root:ro")
        self("bud", *options, "--tag", _IMAGE, str(ROOT))
        return self("mount", self("from", _IMAGE))

    def config(self) -> dict[str, Any]:
        """What the image says of itself, as a container engine reads it."""
        config: dict[str, Any] = json.loads(self("inspect", "--type", "image", _IMAGE))["Docker"]["config"]
        return config


def _unpacked(buildah: _Buildah, base: Path, pip_settings: str, directory: str) -> Image:
    root = Path(directory)
    with tarfile.open(base) as archive:
        theirs = {f"/{name.removeprefix('.').strip('/')}" for name in archive.getnames()}
    found = {f"/{path.relative_to(root)}": Entry(path, path.lstat()) for path in root.rglob("*")}
    ours = {name: entry for name, entry in found.items() if name not in theirs}
    return Image(root, buildah.config(), ours, pip_settings)
