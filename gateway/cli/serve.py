"""`gateway serve`: only the declaration."""

import os
from pathlib import Path

import click

from gateway.cli.options import CONFIG
from gateway.cli.output import or_fail


@click.command()
@CONFIG
def serve(config: Path) -> None:
    """Run the gateway.

    SIGTERM or Ctrl-C ends it without losing a request; SIGHUP reloads the configuration.
    """
    import uvloop  # noqa: PLC0415 -- not needed for `gateway --help`

    from gateway.app.serve import serve as run  # noqa: PLC0415 -- likewise

    or_fail(lambda: run(config, os.environ, loop_factory=uvloop.new_event_loop))
