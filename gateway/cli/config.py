"""`gateway config`: shows a configuration, writes a first one; only declarations."""

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import AS_JSON, CONFIG, WIDE, named_file


@click.group()
def config() -> None:
    """The configuration: what is in force and why, and a first one."""


@config.command()
@CONFIG
@click.option("--set", "only_set", is_flag=True, help="Only what the file or a variable says, no defaults.")
@WIDE
@AS_JSON
def show(config: Path, only_set: bool) -> None:
    """Show every setting, and where it comes from.

    From a line of the file, a variable, or the default. It is what a gateway that starts now, with these variables,
    would have in force. Of secrets the reference is shown, of URLs no password.

        gateway config show --config gateway.yaml --set
    """
    from gateway.cli.run_config import show_config  # noqa: PLC0415 -- not needed for `gateway --help`

    show_config(config, only_set=only_set)


@config.command()
@click.option(
    "--config",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=named_file,
    default=Path("gateway.yaml"),
    show_default=True,
    help="Where to write it; a file that is there is never overwritten.",
)
@click.option("--certificate", callback=named_file, metavar="FILE", help="The server's certificate, PEM.")
@click.option("--private-key", callback=named_file, metavar="FILE", help="Its key, PEM.")
@click.option("--allow", multiple=True, metavar="CIDR", help="A network of your clients. May be repeated.")
@click.option("--upstream", metavar="URL", help="The container. [http://127.0.0.1:8000]")
@click.option(
    "--ledger",
    metavar="URL",
    help="Where keys and usage are kept: sqlite:///PATH, or env:NAME for a PostgreSQL URL in a variable. "
    "[sqlite:///data/ledger.db]",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Of the public listener. [8443]")
@AS_JSON
def init(target: Path, **given: Any) -> None:
    """Write a first configuration: the lines that matter, checked.

    Asks for what is not given, on a terminal; else certificate, key and a network must be given.

        gateway config init --certificate a.pem --private-key a.key --allow ::1
    """
    from gateway.cli.init_config import init_config  # noqa: PLC0415 -- as above

    init_config(target, given)
