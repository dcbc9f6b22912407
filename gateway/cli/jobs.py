"""`gateway jobs`: shows jobs of the ledger; only declarations."""

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.complete import job_ids, key_ids, lost_ids, upstream_names
from gateway.cli.options import AS_JSON, CONFIG, WIDE
from gateway.cli.output import print_lines

# A container's id may begin with a dash and any letter. So there are no one-letter options here, and an unknown
# option is taken as the id.
_IDS_WITH_DASHES: Final[dict[str, Any]] = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


def _id_or_help(context: click.Context, _: click.Parameter, value: str) -> str:
    """Reads the id; -h shows help as with every command, though it is not declared as an option."""
    if value == "-h":
        print_lines(context.get_help())
        context.exit()
    return value


@click.group()
def jobs() -> None:
    """Jobs of the ledger: whose they are, how far, what they cost.

    Nothing of what was sent or of a result is shown: the ledger has none of it. Of the URL that a client polls there
    is the path, of a webhook's host and port.
    """


@jobs.command("list")
@CONFIG
@click.option(
    "--owner", shell_complete=key_ids, metavar="OWNER", help="Of this owner alone: key:acme, or acme for short. [all]"
)
@click.option(
    "--state",
    type=click.Choice(["running", "complete", "failed", "gone"]),
    help="Those alone; gone: expired or deleted. [all but gone]",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many at the most, up to 1000.",
)
@click.option("--lost", "is_lost", is_flag=True, help="What was charged without an answer, and may be refunded.")
@WIDE
@AS_JSON
def list_(config: Path, owner: str | None, state: str | None, limit: int, is_lost: bool) -> None:
    """List the latest jobs, the newest first.

    Or what was charged without an answer:

        gateway jobs list --config gateway.yaml --lost
    """
    if is_lost:
        if state is not None:
            raise click.UsageError("Take --lost or --state, not both.")
        from gateway.cli.run_lost import list_lost  # noqa: PLC0415 -- not needed for `gateway --help`

        list_lost(config, owner, limit)
        return
    from gateway.cli.run_jobs import list_jobs  # noqa: PLC0415 -- not needed for `gateway --help`

    list_jobs(config, owner, state, limit)


@jobs.command(context_settings=_IDS_WITH_DASHES)
@click.argument("request_id", metavar="REQUEST_ID", is_eager=True, callback=_id_or_help, shell_complete=job_ids)
@CONFIG
@click.option(
    "--upstream",
    shell_complete=upstream_names,
    metavar="NAME",
    help="Where it runs; needed when two upstreams have jobs of this id.",
)
@AS_JSON
def show(config: Path, request_id: str, upstream: str | None) -> None:
    """Show one job, also one that is gone while its record is kept."""
    from gateway.cli.run_jobs import show_job  # noqa: PLC0415 -- as above

    show_job(config, request_id, upstream)


@jobs.command(context_settings=_IDS_WITH_DASHES)
@click.argument("request_id", metavar="REQUEST_ID", is_eager=True, callback=_id_or_help, shell_complete=lost_ids)
@CONFIG
@click.option(
    "--upstream",
    shell_complete=upstream_names,
    metavar="NAME",
    help="Where it ran; needed when two upstreams have jobs of this id.",
)
@AS_JSON
def refund(config: Path, request_id: str, upstream: str | None) -> None:
    """Give back what a job was charged without an answer, for good.

    REQUEST_ID is the job's, or the id of a submit that has none (see gateway jobs list --lost).

        gateway jobs refund 0f4d2a8b --config gateway.yaml
    """
    from gateway.cli.run_lost import refund_job  # noqa: PLC0415 -- as above

    refund_job(config, request_id, upstream)
