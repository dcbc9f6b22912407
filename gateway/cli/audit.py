"""`gateway audit`: only the declaration."""

from pathlib import Path

import click

from gateway.cli.complete import key_ids
from gateway.cli.options import AS_JSON, CONFIG, PAST, WIDE


@click.command()
@CONFIG
@click.option("--since", default="7d", show_default=True, callback=PAST, metavar="WHEN", help="7d, or 2026-11-01.")
@click.option(
    "--key",
    "key_id",
    shell_complete=key_ids,
    metavar="ID",
    help="What concerns this key, or this owner: jwt:ISSUER#CLAIM, cert:NAME. [all]",
)
@WIDE
@AS_JSON
def audit(config: Path, since: float, key_id: str | None) -> None:
    """Tell who changed, read or was refused what, the newest first.

    Changes of keys and webhooks; secrets of the configuration that were set, replaced or removed; who was the first
    to read each job's result; and requests that were refused, counted by minute, caller and reason. Never a secret,
    never content. How long it is kept is audit.keep. A table on a terminal, aligned text when piped.
    """
    from gateway.cli.run_audit import show_trail  # noqa: PLC0415 -- not needed for `gateway --help`

    show_trail(config, since, key_id)
