"""`gateway serve`: only the declaration."""

import gc
import os
import sys
from pathlib import Path

import click

from gateway.cli.options import CONFIG
from gateway.cli.output import or_fail


@click.command()
@CONFIG
def serve(config: Path) -> None:
    """Run the gateway until it is told to end.

    SIGTERM or Ctrl-C ends it without losing a request; SIGHUP reloads the configuration.
    """
    gc.disable()  # until all is made: what is imported is no garbage, and looking for some takes a tenth of a start
    sys.modules["rich"] = None  # type: ignore[assignment] # structlog would import it, for colours that no log has
    import uvloop  # noqa: PLC0415 -- not needed for `gateway --help`

    from gateway.app.serve import serve as run  # noqa: PLC0415 -- likewise

    gc.freeze()
    or_fail(lambda: run(config, os.environ, loop_factory=uvloop.new_event_loop), is_logged=True)
