"""`gateway callers`: shows, blocks and helps callers by token and certificate; only declarations."""

from pathlib import Path

import click

from gateway.cli.complete import caller_names
from gateway.cli.options import AS_JSON, CONFIG, MORE_PAGES, UNTIL, WIDE

_CALLER = click.argument("account", metavar="CALLER", shell_complete=caller_names)


@click.group()
def callers() -> None:
    """Callers by token and certificate: watch, block, grant pages.

    CALLER is the name of the log: jwt:<issuer>#<owner> or cert:<name>. A running gateway follows a block within
    2 seconds, on all replicas of one ledger.
    """


@callers.command("list")
@CONFIG
@click.option("--search", "text", metavar="TEXT", help="Those with this text in their name.")
@click.option("--blocked", is_flag=True, help="Blocked ones alone.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many at most.")
@WIDE
@AS_JSON
def list_(config: Path, text: str | None, blocked: bool, limit: int) -> None:
    """List callers who have submitted, or are blocked, by name."""
    from gateway.cli.run_callers import list_callers  # noqa: PLC0415 -- not needed for `gateway --help`

    list_callers(config, text, limit, blocked=blocked)


@callers.command()
@_CALLER
@CONFIG
@AS_JSON
def show(config: Path, account: str) -> None:
    """Show one: whether he is blocked, what he used, and his grants."""
    from gateway.cli.run_callers import show_caller  # noqa: PLC0415 -- as above

    show_caller(config, account)


@callers.command()
@_CALLER
@CONFIG
@AS_JSON
def block(config: Path, account: str) -> None:
    """Refuse a caller until he is unblocked.

    Whatever token or certificate he shows.
    """
    from gateway.cli.run_callers import block as run  # noqa: PLC0415 -- as above

    run(config, account)


@callers.command()
@_CALLER
@CONFIG
@AS_JSON
def unblock(config: Path, account: str) -> None:
    """Let a blocked caller in again."""
    from gateway.cli.run_callers import unblock as run  # noqa: PLC0415 -- as above

    run(config, account)


@callers.command()
@_CALLER
@CONFIG
@MORE_PAGES
@UNTIL
@AS_JSON
def grant(config: Path, account: str, pages: int, until: float) -> None:
    """Grant a caller more pages for a while, on top of his budgets.

    As gateway keys grant does: they are added to pages_per_day and pages_per_month of his profile until the moment
    named, and lapse then, used or not.
    """
    from gateway.cli.run_callers import grant as run  # noqa: PLC0415 -- as above

    run(config, account, pages, until)


@callers.command("end-grants")
@_CALLER
@CONFIG
@AS_JSON
def end_grants(config: Path, account: str) -> None:
    """End all grants of a caller now.

    As gateway keys end-grants does: what was used of them stays used.
    """
    from gateway.cli.run_callers import end_grants as run  # noqa: PLC0415 -- as above

    run(config, account)


@callers.command()
@_CALLER
@CONFIG
@AS_JSON
def reset(config: Path, account: str) -> None:
    """Reset a caller's budgets of this day and month.

    As gateway keys reset does: what is in flight still counts.
    """
    from gateway.cli.run_callers import reset as run  # noqa: PLC0415 -- as above

    run(config, account)
