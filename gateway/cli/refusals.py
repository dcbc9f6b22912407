"""`gateway refusals`: only the declaration."""

from pathlib import Path

import click

from gateway.cli.complete import key_ids
from gateway.cli.options import AS_JSON, CONFIG, PAST, WIDE


@click.command()
@CONFIG
@click.option(
    "--since", default="1d", show_default=True, callback=PAST, metavar="WHEN", help="1h, or 2026-11-29T08:00Z."
)
@click.option(
    "--key", "key_id", shell_complete=key_ids, metavar="ID", help="Of this key, or this caller, alone. [all]"
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many at the most, up to 1000.",
)
@WIDE
@AS_JSON
def refusals(config: Path, since: float, key_id: str | None, limit: int) -> None:
    """List what was refused or failed in the last day, and why.

    The newest first; of all replicas, from the ledger, where a gateway notes it within some seconds. What strangers
    did beyond some a second is summed up (requests). All that is known of one: gateway explain --request-id ID.
    """
    from gateway.cli.run_refusals import list_refusals  # noqa: PLC0415 -- not needed for `gateway --help`

    list_refusals(config, since, key_id, limit)
