"""`gateway webhooks`: shows outgoing webhooks, and retries dead letters; only declarations."""

from pathlib import Path
from typing import Final

import click

from gateway.cli.complete import retried_ids, webhook_ids
from gateway.cli.options import AS_JSON, CONFIG, WIDE

_STATES: Final = ("waiting", "due", "delivered", "dead")


@click.group()
def webhooks() -> None:
    """Webhooks that report ended jobs: watch, send once more.

    They are shown without the path and query of their URLs, which may have a secret in them.
    """


@webhooks.command("list")
@CONFIG
@click.option("--state", type=click.Choice(_STATES), help="Those alone; dead: given up. [all]")
@WIDE
@AS_JSON
def list_(config: Path, state: str | None) -> None:
    """List the latest 1000, the newest first."""
    from gateway.cli.run_webhooks import list_webhooks  # noqa: PLC0415 -- not needed for `gateway --help`

    list_webhooks(config, state)


@webhooks.command()
@click.argument("delivery", metavar="ID", shell_complete=webhook_ids)
@CONFIG
@AS_JSON
def show(config: Path, delivery: str) -> None:
    """Show one: where it goes, how far it is, what went wrong."""
    from gateway.cli.run_webhooks import show_webhook  # noqa: PLC0415 -- as above

    show_webhook(config, delivery)


@webhooks.command()
@click.argument("delivery", metavar="ID", shell_complete=retried_ids)
@CONFIG
@AS_JSON
def retry(config: Path, delivery: str) -> None:
    """Send one once more that was given up, or at once that waits.

    A running gateway does it within 2 seconds, and goes on for webhooks.out.give_up_after. The audit notes it.
    """
    from gateway.cli.run_webhooks import retry_webhook  # noqa: PLC0415 -- as above

    retry_webhook(config, delivery)
