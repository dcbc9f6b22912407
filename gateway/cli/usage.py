"""`gateway usage`: only the declaration."""

from pathlib import Path

import click

from gateway.cli.complete import key_ids
from gateway.cli.options import AS_JSON, CONFIG, PAST, WIDE
from gateway.cli.output import wants_json


@click.command()
@CONFIG
@click.option("--key", "key_id", shell_complete=key_ids, metavar="ID", help="Of this key alone. [all]")
@click.option("--since", default="30d", show_default=True, callback=PAST, metavar="WHEN", help="30d, or 2026-11-01.")
@click.option("--by-mode", is_flag=True, help="A row for each mode of the day.")
@WIDE
@AS_JSON
@click.option("--csv", "as_csv", is_flag=True, help="CSV (RFC 4180), for spreadsheets.")
def usage(config: Path, key_id: str | None, since: float, by_mode: bool, as_csv: bool) -> None:
    """Tell what keys have used, by day (UTC).

    Counted when a job is settled: requests, those that failed, pages that were charged, pages that were reserved and
    given back, and spend by prices. What is in flight is not among it: see gateway keys show. A table on a
    terminal, aligned text when piped.
    """
    if as_csv and wants_json():
        raise click.UsageError("Take --json or --csv, not both.")
    from gateway.cli.run_usage import show_usage  # noqa: PLC0415 -- not needed for `gateway --help`

    show_usage(config, key_id, since, by_mode=by_mode, is_csv=as_csv)
