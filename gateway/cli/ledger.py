"""`gateway ledger`: backups, copies and upgrades of the ledger; only declarations."""

from pathlib import Path

import click

from gateway.cli.options import AS_JSON, CONFIG

_FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
_REPLACE = click.option("--replace", "replaces", is_flag=True, help="Give up what is in the ledger that is filled.")
_WHILE_SERVING = click.option(
    "--while-serving", is_flag=True, help="Even if a gateway serves from the ledger that is filled."
)


@click.group()
def ledger() -> None:
    """The ledger as a whole: back up, restore, move, upgrade it.

    A backup is one SQLite file, whichever engine it is of: keys, usage, grants, jobs, webhooks, audit and all else,
    as they were at one moment. Gateways may run meanwhile.
    """


@ledger.command()
@_FILE
@CONFIG
@AS_JSON
def backup(config: Path, file: Path) -> None:
    """Write a backup to FILE, which must not be there yet.

    Its mode is 0600.

        gateway ledger backup /backup/ledger-2026-11-29.db --config gateway.yaml
    """
    from gateway.cli.run_ledger import back_up  # noqa: PLC0415 -- not needed for `gateway --help`

    back_up(config, file)


@ledger.command()
@_FILE
@CONFIG
@_REPLACE
@_WHILE_SERVING
@AS_JSON
def restore(config: Path, file: Path, replaces: bool, while_serving: bool) -> None:
    """Fill the ledger of the configuration from a backup.

    Whole or not at all, also from one of an older version. A ledger that is not empty is refused without --replace.
    What was used after the backup was made is forgotten, so stop the gateways first: while one serves from it, it is
    refused.

        gateway ledger restore /backup/ledger-2026-11-29.db --config gateway.yaml
    """
    from gateway.cli.run_ledger import fill_from  # noqa: PLC0415 -- as above
    from gateway.ledger.transfer import Permission  # noqa: PLC0415 -- as above

    fill_from(config, file, Permission(replaces, while_serving))


@ledger.command()
@CONFIG
@click.option(
    "--to",
    "target",
    required=True,
    metavar="URL",
    help="sqlite:///PATH, postgresql://..., or env:NAME or file:PATH with the URL, so that no password shows.",
)
@_REPLACE
@_WHILE_SERVING
@AS_JSON
def copy(config: Path, target: str, replaces: bool, while_serving: bool) -> None:
    """Copy the ledger of the configuration into another one.

    On either engine, whole or not at all. Stop the gateways first, so that nothing is used in between; then start
    them with ledger.url changed.

        gateway ledger copy --config gateway.yaml --to env:LEDGER_URL
    """
    from gateway.cli.run_ledger import copy_to  # noqa: PLC0415 -- as above
    from gateway.ledger.transfer import Permission  # noqa: PLC0415 -- as above

    copy_to(config, target, Permission(replaces, while_serving))


@ledger.command()
@CONFIG
@AS_JSON
def upgrade(config: Path) -> None:
    """Bring the ledger's tables up to this version.

    As a gateway does when it starts. Make a backup before.

        gateway ledger upgrade --config gateway.yaml
    """
    from gateway.cli.run_ledger import bring_up_ledger  # noqa: PLC0415 -- as above

    bring_up_ledger(config)
