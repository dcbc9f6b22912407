"""`gateway status` and `gateway top`: only declarations."""

import re
from pathlib import Path
from typing import Final

import click

from gateway.cli.options import AS_JSON, CONFIG, WIDE, chosen
from gateway.units import seconds

_NUMBER: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?\Z")
_LEAST: Final = 0.5
_MOST: Final = 60.0


def _every(_: click.Context, __: click.Parameter, text: str) -> float:
    """A duration; a number alone is seconds."""
    try:
        span = float(text) if _NUMBER.match(text) else seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not _LEAST <= span <= _MOST:
        raise click.BadParameter(f"{text} is not within 0.5s and 60s")
    return span


@click.command()
@CONFIG
@WIDE
@AS_JSON
def status(config: Path) -> None:
    """Tell whether the gateway here is healthy, or what is wrong.

    Asks its admin listener and the ledger. Exit 0: healthy, with warnings at the most; 1: something is wrong, or
    nobody answers.

        gateway status > status.txt || mail -s gateway ops < status.txt
    """
    from gateway.cli.run_status import show_status  # noqa: PLC0415 -- not needed for `gateway --help`

    show_status(config)


@click.command()
@CONFIG
@click.option(
    "--every",
    default="2s",
    show_default=True,
    callback=_every,
    metavar="DURATION",
    help="Between looks: 0.5s to 60s.",
)
@click.option("--count", type=click.IntRange(1), help="How many looks, then end. [until Ctrl-C]")
@click.option(
    "--json", is_flag=True, expose_value=False, callback=chosen, help="JSON, for programs: a line for each look."
)
def top(config: Path, every: float, count: int | None) -> None:
    """Show live what the gateway does.

    Requests and errors a second, latency, pages, jobs, limits near their end.

        gateway top --config gateway.yaml
    """
    from gateway.cli.run_top import show_top  # noqa: PLC0415 -- as above

    show_top(config, every, count)
