"""`gateway check`: only the declaration."""

import os
from pathlib import Path

import click

from gateway.cli.options import AS_JSON, CONFIG
from gateway.cli.output import answer, end_failed, or_fail, print_lines


@click.command()
@CONFIG
@click.option(
    "--live",
    is_flag=True,
    help="Also ask the upstream, look whether it can be reached around the gateway, and fetch the keys of issuers.",
)
@AS_JSON
def check(config: Path, live: bool) -> None:
    """Check a configuration, and the files that it names.

    Tells every fault with its path, and looks at the certificates; exit 1 if there is a fault.
    """
    from gateway.cli.run_check import check_live, check_settings  # noqa: PLC0415 -- not needed for `gateway --help`

    findings = or_fail(lambda: check_live(config, os.environ) if live else check_settings(config, os.environ))
    is_valid = not any(finding.is_fault for finding in findings)
    told = [{"kind": finding.kind, "text": finding.text} for finding in findings]
    whole = {"config": str(config), "valid": is_valid, "findings": told}
    answer(whole, lambda: print_lines(*map(str, findings)))
    if not is_valid:
        end_failed()
