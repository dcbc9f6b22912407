"""`gateway keys`: creates and shows keys, rotates and revokes their secrets; only declarations."""

from pathlib import Path
from typing import Any

import click

from gateway.cli.complete import key_ids, profile_names
from gateway.cli.options import (
    AS_JSON,
    CONFIG,
    DURATION,
    FUTURE,
    FUTURE_OR_NEVER,
    KEY_ID,
    MORE_PAGES,
    UNTIL,
    WIDE,
    limit_option,
)


@click.group()
def keys() -> None:
    """API keys of the ledger: make, watch, rotate, revoke.

    A running gateway follows every change within 2 seconds, on all replicas of one ledger. A key's id stands for its
    limits, usage and jobs; its secrets may be replaced under it. Keys that stand under keys in the configuration
    are shown here, and changed there.
    """


@keys.command()
@click.argument("key_id", metavar="ID")
@CONFIG
@click.option(
    "--profile",
    shell_complete=profile_names,
    default="default",
    show_default=True,
    help="The profile whose limits it has.",
)
@click.option("--owner", help="Whom its jobs belong to; keys of one owner share them. [its own id]")
@click.option("--scope", "scopes", multiple=True, help="What it may do besides; admin opens the admin routes.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="May be used from there alone. [any]")
@limit_option("A limit of its own, such as pages_per_month=10000; NAME=none for no limit. May be repeated.")
@click.option("--expires", callback=FUTURE, metavar="WHEN", help="When it ends: 90d, or 2027-01-31 (00:00 UTC).")
@AS_JSON
def create(config: Path, key_id: str, expires: float | None, **wanted: Any) -> None:
    """Make a key and print its secret, once.

    ID has 1 to 63 characters of a-z, 0-9 and -. The secret stands alone on standard output:

        KEY=$(gateway keys create ci --config gateway.yaml)
    """
    from gateway.cli.run_keys import create as run  # noqa: PLC0415 -- not needed for `gateway --help`
    from gateway.keys.validation import Wanted  # noqa: PLC0415 -- likewise

    run(config, Wanted(key_id, **wanted, expires_at=expires))


@keys.command("list")
@CONFIG
@WIDE
@AS_JSON
def list_(config: Path) -> None:
    """List all keys.

    Those of the configuration (source: file) come first. Secrets are told by the numbers of the live ones.
    """
    from gateway.cli.show_keys import list_keys  # noqa: PLC0415 -- as above

    list_keys(config)


@keys.command()
@KEY_ID
@CONFIG
@WIDE
@AS_JSON
def show(config: Path, key_id: str) -> None:
    """Show one key: its secrets, its limits, what is left of them.

    Of each secret: when it was made, until when it is live, and when it was last used, which a running gateway notes
    every 10 seconds.
    """
    from gateway.cli.show_keys import show_key  # noqa: PLC0415 -- as above

    show_key(config, key_id)


@keys.command()
@KEY_ID
@CONFIG
@click.option(
    "--overlap",
    default="24h",
    show_default=True,
    callback=DURATION,
    metavar="DURATION",
    help="How long the secret in use works on; 0s ends it at once. Any other ends at once.",
)
@click.option("--operation", metavar="NAME", help="A name of your choice: the same one twice rotates once.")
@AS_JSON
def rotate(config: Path, key_id: str, overlap: float, operation: str | None) -> None:
    """Give a key another secret and print it, once.

    Nothing else of the key changes: limits, usage and jobs stay. With --operation it is safe to try again after a
    failure: when that rotation was done before, nothing is, no secret is printed (null in JSON), and the exit code
    is 0.
    """
    from gateway.cli.run_keys import rotate as run  # noqa: PLC0415 -- as above

    run(config, key_id, overlap, operation)


@keys.command()
@KEY_ID
@CONFIG
@click.option(
    "--generation", type=click.IntRange(1), metavar="N", help="This secret alone; see gateway keys show. [all]"
)
@click.option("--force", is_flag=True, help="Even if no live secret is left.")
@AS_JSON
def revoke(config: Path, key_id: str, generation: int | None, force: bool) -> None:
    """End secrets of a key at once, for good.

    For a secret that has leaked: requests that still use it are refused within 2 seconds. The key stays, and gateway
    keys rotate gives it another secret.
    """
    from gateway.cli.run_keys import revoke as run  # noqa: PLC0415 -- as above

    run(config, key_id, generation, force=force)


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False, shell_complete=key_ids)
@CONFIG
@WIDE
@AS_JSON
def audit(config: Path, key_id: str | None) -> None:
    """Show who changed which key, how and when.

    The latest 1000 changes, the newest first.
    """
    from gateway.cli.show_keys import show_audit  # noqa: PLC0415 -- as above

    show_audit(config, key_id)


@keys.command()
@KEY_ID
@CONFIG
@AS_JSON
def disable(config: Path, key_id: str) -> None:
    """Refuse a key until it is enabled again.

    Nothing else of it changes.
    """
    from gateway.cli.run_keys import set_disabled as run  # noqa: PLC0415 -- as above

    run(config, key_id, disabled=True)


@keys.command()
@KEY_ID
@CONFIG
@AS_JSON
def enable(config: Path, key_id: str) -> None:
    """Let a disabled key in again."""
    from gateway.cli.run_keys import set_disabled as run  # noqa: PLC0415 -- as above

    run(config, key_id, disabled=False)


@keys.command()
@KEY_ID
@CONFIG
@click.option("--profile", shell_complete=profile_names, help="The profile whose limits it has.")
@click.option("--owner", help="Whom its jobs belong to.")
@click.option("--scope", "scopes", multiple=True, help="All scopes it is to have; '' for none.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="All its networks; '' for any.")
@limit_option("A limit of its own; NAME=none for no limit, NAME=default for its profile's again. May be repeated.")
@click.option("--expires", "expires_at", callback=FUTURE_OR_NEVER, metavar="WHEN", help="90d, 2027-01-31, or never.")
@AS_JSON
def change(config: Path, key_id: str, expires_at: float | str | None, **wanted: Any) -> None:
    """Change what a key is; what is not named stays."""
    from gateway.cli.run_keys import change_key  # noqa: PLC0415 -- as above

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


@keys.command()
@KEY_ID
@CONFIG
@MORE_PAGES
@UNTIL
@AS_JSON
def grant(config: Path, key_id: str, pages: int, until: float) -> None:
    """Grant a key more pages for a while, on top of its budgets.

    A grant is so many pages, until a moment: they are added to pages_per_day and pages_per_month, and lapse then,
    used or not. Grants add up, and end early by gateway keys end-grants. A key without these limits needs none.
    """
    from gateway.cli.run_keys import grant as run  # noqa: PLC0415 -- as above

    run(config, key_id, pages, until)


@keys.command("end-grants")
@KEY_ID
@CONFIG
@AS_JSON
def end_grants(config: Path, key_id: str) -> None:
    """End all grants of a key now; what was used of them stays used."""
    from gateway.cli.run_keys import end_grants as run  # noqa: PLC0415 -- as above

    run(config, key_id)


@keys.command()
@KEY_ID
@CONFIG
@AS_JSON
def reset(config: Path, key_id: str) -> None:
    """Reset a key's budgets of this day and month.

    What is in flight still counts, and gateway usage still tells all that was used.
    """
    from gateway.cli.run_keys import reset as run  # noqa: PLC0415 -- as above

    run(config, key_id)
