"""Which configuration a command takes when none is named: one order for all commands.

What lies in the directory where a command is called may have been put there by somebody else: it could send the admin
token elsewhere, or have a key revoked in another ledger. So it is taken only where nobody else can write it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "GATEWAY_CONFIG"
_HERE: Final = Path("gateway.yaml")
_INSTALLED: Final = Path("/etc/gateway/gateway.yaml")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
NONE: Final = (
    f"There is no configuration: name one with --config FILE or ${VARIABLE}, or write ./{_HERE} or {_INSTALLED} "
    "(gateway config init writes one)."
)


class NotOurs(Exception):
    """The configuration in this directory may be somebody else's; the message says why."""


class ConfigChoice(NamedTuple):
    """A configuration, and why this one."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


def which(environ: Mapping[str, str], installed: Path = _INSTALLED) -> ConfigChoice | None:
    """The file of the variable, whether it is there or not; else the first that is there.

    Raises:
        NotOurs: that is the one in this directory, and somebody else may have written it.
    """
    named = environ.get(VARIABLE)
    if named:
        return ConfigChoice(Path(named), f"${VARIABLE}")
    if _HERE.exists():
        _require_ours(os.geteuid())
        return ConfigChoice(_HERE, "in this directory")
    return _installed(installed)


def which_elsewhere(environ: Mapping[str, str], installed: Path = _INSTALLED) -> ConfigChoice | None:
    """The same, but never what lies in this directory: a shell completes wherever somebody is."""
    named = environ.get(VARIABLE)
    return ConfigChoice(Path(named), f"${VARIABLE}") if named else _installed(installed)


def _installed(path: Path) -> ConfigChoice | None:
    return ConfigChoice(path, "nothing else is named or here") if path.exists() else None


def _require_ours(user: int) -> None:
    real = _HERE.resolve()
    for path, name in ((_HERE, f"./{_HERE}"), (Path(), "this directory"), (real.parent, str(real.parent))):
        found = path.stat()
        wrong = _why_not(found.st_uid, found.st_mode, user)
        if wrong:
            raise NotOurs(
                f"./{_HERE} is not taken unasked, since {name} {wrong}: if it is yours, name it: --config {_HERE}"
            )


def _why_not(owner: int, mode: int, user: int) -> str:
    if owner not in {0, user}:
        return "belongs to another user"
    return "can be written by others" if mode & _OTHERS_WRITE else ""
