"""`gateway jobs`: looking at jobs of the ledger; declarations alone."""

from pathlib import Path

import click

from gateway.commands.options import AS_JSON, CONFIG


@click.group()
def jobs() -> None:
    """Jobs of the ledger: whose they are, how far they are, what they cost.

    Nothing of what was sent or of a result is shown: the ledger has none of it. Of the URL that a client polls there
    is the path, of a webhook's host and port.
    """


@jobs.command("list")
@CONFIG
@click.option("--owner", metavar="OWNER", help="Of this owner alone: key:acme, or acme for short. [all]")
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
@AS_JSON
def list_(config: Path, owner: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List the latest jobs, the newest first."""
    from gateway.commands.joblook import list_jobs  # noqa: PLC0415 -- `gateway --help` needs none of it

    list_jobs(config, owner, state, limit, as_json=as_json)


@jobs.command()
@click.argument("request_id", metavar="REQUEST_ID")
@CONFIG
@click.option("--upstream", metavar="NAME", help="Where it runs; needed when two upstreams have jobs of this id.")
@AS_JSON
def show(config: Path, request_id: str, upstream: str | None, as_json: bool) -> None:
    """Show one job, also one that is gone, for as long as its record is kept."""
    from gateway.commands.joblook import show_job  # noqa: PLC0415 -- as above

    show_job(config, request_id, upstream, as_json=as_json)
