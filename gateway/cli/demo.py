"""`gateway demo`: only the declaration."""

from pathlib import Path

import click
from click.core import ParameterSource

from gateway.cli.output import fail, or_fail, say

_BEGINS = "Starting the gateway in front of {container}, with all it needs in {directory}; this takes some seconds."


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where all is made; what is there already is used again.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8443,
    show_default=True,
    help="Of the gateway; 0 takes a free one.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=9090,
    show_default=True,
    help="Of its probes and metrics; 0 takes a free one.",
)
@click.option(
    "--upstream-port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Of the stand-in container.",
)
@click.option("--upstream", metavar="URL", help="A real container, in the place of the stand-in.")
@click.pass_context
def demo(
    context: click.Context, directory: Path, port: int, admin_port: int, upstream_port: int, upstream: str | None
) -> None:
    """Try it out: a whole gateway before a stand-in container.

    Makes all that a first run needs, starts a stand-in container and the gateway, and says how to call it. A
    gateway.yaml that is there already is used, and its ports hold unless others are given here.
    """
    say(_BEGINS.format(container=upstream or "a stand-in container", directory=directory))
    try:
        from gateway.demo.run import Demo, run  # noqa: PLC0415 -- not needed for `gateway --help`
    except ModuleNotFoundError as missing:
        fail(f"demo needs {missing.name}; install requirements/demo.txt")

    given = {
        name for name in ("port", "admin_port") if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    or_fail(lambda: run(Demo(directory, port, admin_port, upstream_port, upstream, frozenset(given))))
