"""`gateway status` and `gateway top`: only declarations."""

from pathlib import Path

import click

from gateway.cli.options import AS_JSON, CONFIG, WIDE


@click.command()
@CONFIG
@WIDE
@AS_JSON
def status(config: Path) -> None:
    """Tell whether the gateway that runs here is healthy, or what is wrong.

    Asks its admin listener and the ledger. Exit 0: healthy, with warnings at the most; 1: something is wrong, or
    nobody answers.

        gateway status --config gateway.yaml || systemctl restart gateway
    """
    from gateway.cli.run_status import tell_status  # noqa: PLC0415 -- not needed for `gateway --help`

    tell_status(config)


@click.command()
@CONFIG
@click.option(
    "--every", default=2.0, show_default=True, type=click.FloatRange(0.5, 60), help="Seconds between looks."
)
@click.option("--count", type=click.IntRange(1), help="How many looks, then end. [until Ctrl-C]")
def top(config: Path, every: float, count: int | None) -> None:
    """Show live what the gateway does.

    Requests and errors a second, latency, pages, jobs, limits near their end.

    gateway top --config gateway.yaml
    """
    from gateway.cli.run_top import show_top  # noqa: PLC0415 -- as above

    show_top(config, every, count)
