"""The work of `gateway config init`: asks, checks each answer when it is given, and writes some lines."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import yaml

from gateway.cli.first_config import DEFAULTS, option_of, require_sound, text_of, told_at
from gateway.cli.output import answer, fail, or_fail, print_piece, say
from gateway.errors import ConfigurationError

_ASKED: Final = {
    "certificate": "The server's certificate (PEM file)",
    "private_key": "Its private key (PEM file)",
    "allow": "Networks of your clients, such as 10.0.0.0/8",
    "upstream": "The container's URL",
    "ledger": "Where keys and usage are kept (sqlite:///PATH, or env:NAME with a PostgreSQL URL)",
    "port": "Port of the public listener",
}


def init_config(target: Path, given: Mapping[str, Any]) -> None:
    """Writes the file, or fails and writes nothing."""
    if target.exists():
        fail(f"{target} is there already; name another one with --config")
    answers = {name: given[name] for name in _ASKED if given[name] not in (None, ())}
    or_fail(lambda: require_sound(answers))
    missing = [name for name in _ASKED if name not in answers]
    if not is_terminal():
        _require_none([name for name in missing if name not in DEFAULTS])
    for name in missing:
        answers[name] = _asked(name, answers) if is_terminal() else DEFAULTS[name]
    _write(target, text_of(answers))
    ledger = str(answers["ledger"])
    variable = [f"  set {ledger.removeprefix('env:')} in this shell"] if ledger.startswith("env:") else []
    say(
        f"{target} is written. Next:",
        *variable,
        f"  gateway check --config {target}",
        f"  gateway keys create ID --config {target}",
        f"  gateway serve --config {target}",
    )


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _require_none(missing: list[str]) -> None:
    if missing:
        names = ", ".join(f"{option_of(name)} ({_ASKED[name]})" for name in missing)
        raise click.UsageError(f"There is no terminal to ask at: name {names}.")


def _asked(name: str, answers: Mapping[str, Any]) -> Any:
    """Asks until the answer will do; the others are right already."""
    return click.prompt(
        _ASKED[name], default=DEFAULTS.get(name), err=True, value_proc=partial(_checked, name, answers)
    )


def _checked(name: str, answers: Mapping[str, Any], given: str | int) -> Any:
    """The value of an answer; where Enter takes what is offered, that is no text."""
    value = int(given) if name == "port" and str(given).isdecimal() else given
    try:
        require_sound({**answers, name: value})
    except ConfigurationError as error:
        raise click.UsageError("; ".join(told_at(name, fault) for fault in error.faults)) from None
    return value


def _write(target: Path, text: str) -> None:
    try:
        with open(target, "x", encoding="utf-8", opener=_nobody_elses) as file:
            file.write(text)
    except OSError as error:
        fail(f"{target} can't be written: {error.strerror}")
    answer({"config": str(target), "settings": yaml.safe_load(text)}, lambda: print_piece(text))


def _nobody_elses(path: str, flags: int) -> int:
    """Whatever the umask: what others can write is taken only when it is named."""
    return os.open(path, flags, 0o644)
