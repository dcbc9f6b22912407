"""Shared options of the commands and their parsing: a wrong value ends in exit code 2.

This module imports nothing that only a running command needs: `gateway --help` is quick.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.complete import key_ids, limit_names
from gateway.cli.output import choose_json, remember, widen
from gateway.cli.time_arguments import coming, gone
from gateway.cli.which_config import NONE, NotOurs, which
from gateway.units import MOST_COUNTED, seconds

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}\Z")
_TOKEN: Final = re.compile(r"(?i:bearer )|eyJ[\w-]*\.[\w-]*\.[\w-]*\Z")
_LONGEST_NAME: Final = 255
_Callback = Callable[[click.Context, click.Parameter, Any], Any]


def _taken(context: click.Context, option: click.Parameter, given: Path | None) -> Path | None:
    """The configuration that is given, or the first that is there; a failure names the latter."""
    if given is not None or context.resilient_parsing:  # a shell completes
        return named_file(context, option, given)
    try:
        found = which(os.environ)
    except NotOurs as error:
        raise click.UsageError(str(error)) from None
    if found is None:
        raise click.UsageError(NONE)
    remember(str(found))
    return found.path


def _widened(_: click.Context, __: click.Parameter, given: bool) -> None:
    if given:
        widen()


def chosen(_: click.Context, __: click.Parameter, given: bool) -> None:
    """Remembers whether the answer is to be JSON."""
    choose_json(given)


def named_file(_: click.Context, option: click.Parameter, given: Path | None) -> Path | None:
    """Refuses what is a file's content, and so perhaps a secret: it is not shown."""
    if given is not None and is_content(str(given)):
        name = option.opts[0] if isinstance(option, click.Option) else option.make_metavar(_)
        dash = ", or - for standard input" if isinstance(option.type, click.Path) and option.type.allow_dash else ""
        raise click.UsageError(f"{name} takes a file{dash}.")
    return given


def is_content(text: str) -> bool:
    """Whether it is what stands in a file rather than a file's name: lines, a token, or longer than a name may be."""
    longest = max(len(part.encode(errors="replace")) for part in text.split("/"))
    return "\n" in text or longest > _LONGEST_NAME or bool(_TOKEN.match(text))


CONFIG = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_taken,
    help="The configuration, YAML. [$GATEWAY_CONFIG, ./gateway.yaml, /etc/gateway/gateway.yaml]",
)
AS_JSON = click.option(
    "--json", is_flag=True, expose_value=False, callback=chosen, help="JSON, for programs: one document."
)
WIDE = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=_widened,
    help="All columns of a table, also where the terminal has no room for them.",
)
KEY_ID = click.argument("key_id", metavar="ID", shell_complete=key_ids)


def _read(read: Callable[[str], Any]) -> _Callback:
    """Makes a callback that parses an option's text if it is given."""

    def callback(_: click.Context, __: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


FUTURE = _read(lambda text: coming(text, time.time()))
MORE_PAGES = click.option(
    "--pages", type=click.IntRange(1, MOST_COUNTED), required=True, help="So many more, each day and each month."
)
UNTIL = click.option("--until", callback=FUTURE, required=True, metavar="WHEN", help="7d, or 2027-01-31 (00:00 UTC).")
FUTURE_OR_NEVER = _read(lambda text: "never" if text == "never" else coming(text, time.time()))
PAST = _read(lambda text: gone(text, time.time()))
DURATION = _read(seconds)


def limits_of(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parses NAME=VALUE, each name at most once; `none` is no limit."""
    limits: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"{text!r}: write NAME=VALUE, such as pages_per_month=10000")
        if name in limits:
            raise click.BadParameter(f"{name} is given twice")
        limits[name] = None if value == "none" else int(value) if _NUMBER.match(value) else value
    return limits


def limit_option(text: str) -> Callable[[Any], Any]:
    """The option --limit, with this help text."""
    return click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=VALUE",
        callback=limits_of,
        shell_complete=limit_names,
        help=text,
    )
