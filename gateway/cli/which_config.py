"""Which configuration a command takes when none is named: one order for all commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "GATEWAY_CONFIG"
_HERE: Final = Path("gateway.yaml")
_INSTALLED: Final = Path("/etc/gateway/gateway.yaml")
NONE: Final = (
    f"There is no configuration: name one with --config FILE or ${VARIABLE}, or write ./{_HERE} or {_INSTALLED} "
    "(gateway config init writes one)."
)


class Taken(NamedTuple):
    """A configuration, and why this one."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


def which(environ: Mapping[str, str], installed: Path = _INSTALLED) -> Taken | None:
    """The file of the variable, whether it is there or not; else the first that is there."""
    named = environ.get(VARIABLE)
    if named:
        return Taken(Path(named), f"${VARIABLE}")
    if _HERE.exists():
        return Taken(_HERE, "in this directory")
    return Taken(installed, "nothing else is named or here") if installed.exists() else None
