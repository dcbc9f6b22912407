"""`gateway keys`, continued: the commands that change a key that is there; declarations alone."""

from pathlib import Path
from typing import Any

import click

from gateway.commands.options import CONFIG, FUTURE, FUTURE_OR_NEVER, KEY_ID, limit_option


@click.command()
@KEY_ID
@CONFIG
def disable(config: Path, key_id: str) -> None:
    """Refuse a key until it is enabled again; nothing else of it changes."""
    from gateway.commands.keywork import disable as run  # noqa: PLC0415 -- `gateway --help` needs none of it

    run(config, key_id, disabled=True)


@click.command()
@KEY_ID
@CONFIG
def enable(config: Path, key_id: str) -> None:
    """Let a disabled key in again."""
    from gateway.commands.keywork import disable as run  # noqa: PLC0415 -- as above

    run(config, key_id, disabled=False)


@click.command()
@KEY_ID
@CONFIG
@click.option("--profile", help="The profile whose limits it has.")
@click.option("--owner", help="Whom its jobs belong to.")
@click.option("--scope", "scopes", multiple=True, help="All scopes it is to have; '' for none.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="All its networks; '' for any.")
@limit_option("A limit of its own; `none` for no limit, `default` for its profile's again. May be repeated.")
@click.option("--expires", "expires_at", callback=FUTURE_OR_NEVER, metavar="WHEN", help="90d, 2027-01-31, or never.")
def change(config: Path, key_id: str, expires_at: float | str | None, **wanted: Any) -> None:
    """Change what a key is; what is not named stays."""
    from gateway.commands.keywork import change_key  # noqa: PLC0415 -- as above

    values = {name: value for name, value in wanted.items() if value not in (None, (), {})}
    for name in ("scopes", "networks"):
        if name in values:
            values[name] = tuple(text for text in values[name] if text)
    if expires_at is not None:
        values["expires_at"] = None if expires_at == "never" else expires_at
    if not values:
        raise click.UsageError(
            "Nothing to change: name --profile, --owner, --scope, --network, --limit or --expires."
        )
    change_key(config, key_id, values)


@click.command()
@KEY_ID
@CONFIG
@click.option("--pages", type=click.IntRange(1, 10**12), required=True, help="So many more, each day and each month.")
@click.option("--until", callback=FUTURE, required=True, metavar="WHEN", help="7d, or 2027-01-31 (00:00 UTC).")
def grant(config: Path, key_id: str, pages: int, until: float) -> None:
    """Add pages to a key's budgets for a while.

    They are added to pages_per_day and pages_per_month until the moment named; a key without these limits needs none.
    """
    from gateway.commands.keywork import grant as run  # noqa: PLC0415 -- as above

    run(config, key_id, pages, until)


@click.command()
@KEY_ID
@CONFIG
def reset(config: Path, key_id: str) -> None:
    """Let a key's budgets of this day and month begin anew.

    What is in flight still counts, and `gateway usage` still tells all that was used.
    """
    from gateway.commands.keywork import reset as run  # noqa: PLC0415 -- as above

    run(config, key_id)
